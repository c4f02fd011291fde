//! Tests of the fabric, without the machines of production.

mod connections;
mod flooding;
mod links;
mod streams;
mod timers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wire::{Destination, NodeName, StreamId};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250 + 1) as u8], 7946))
}

fn destination(index: usize) -> Destination {
    Destination { name: Some(name(&format!("n{index}"))), address: address(index) }
}

fn endpoints(fabric: &mut Fabric, count: usize) -> (Vec<Location>, Vec<EndpointId>) {
    let locations: Vec<Location> = (0..count).map(|index| fabric.location_at(address(index))).collect();
    let ids = (0..count)
        .map(|index| fabric.start(locations[index], &name(&format!("n{index}")), &format!("n{index}#1")))
        .collect();
    (locations, ids)
}

fn lossy_config(seed: u64) -> FabricConfig {
    let link = Link {
        latency: Latency::Uniform(milliseconds(1), milliseconds(30)),
        loss: 0.3,
        duplication: 0.1,
        reordering: 0.1,
        bandwidth: Some(100_000),
        ..Link::default()
    };
    FabricConfig { seed, link, ..FabricConfig::default() }
}

/// An established stream from n0 to n1, with its numbers at both ends.
fn stream(fabric: &mut Fabric, ids: &[EndpointId]) -> (StreamId, StreamId) {
    let (here, there) = (StreamId(1), StreamId(9));
    fabric.open_stream(ids[0], here, &destination(1));
    let mut events = Vec::new();
    while let Some((id, event)) = fabric.next(fabric.now() + SECOND) {
        if let FabricEvent::StreamOpened { from, number } = event {
            assert_eq!((id, from), (ids[1], ids[0]));
            fabric.accept_stream(number, there);
        } else {
            events.push((id, event));
        }
    }
    assert_eq!(events, [(ids[0], FabricEvent::StreamConnected { stream: here, peer: ids[1] })]);
    (here, there)
}
