//! Shared helpers of the tests of this crate.

mod chaos;
mod network;
mod partitions;
mod scenarios;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Instant;

use wire::{NodeId, NodeName};

use crate::member::{Member, NodeRecord, State};

/// The start of time in all tests of this process.
#[expect(clippy::disallowed_methods, reason = "an instant to count from; nothing depends on which one it is")]
pub(crate) fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

pub(crate) fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a valid name")
}

/// 10.0.x.y:7946, a different address for each number.
pub(crate) fn address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7946))
}

pub(crate) fn record(node: &str, generation: u64, at: SocketAddr) -> NodeRecord {
    NodeRecord { id: NodeId::new(name(node), generation), address: at, labels: BTreeMap::new() }
}

/// A live member of incarnation 0 at an address derived from its name.
pub(crate) fn member(node: &str, generation: u64) -> Member {
    let number = node.bytes().fold(1u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Member {
        record: record(node, generation, address(number)),
        incarnation: 0,
        state: State::Alive,
        since: start(),
        last_seen: None,
    }
}
