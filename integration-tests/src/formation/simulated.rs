//! The same in virtual time, with a price for handshakes: with production's dial policy, and
//! without.

use std::time::Duration;

use transport::{DialSettings, Limits, Timeouts};

use crate::cluster::{Cluster, MILLISECOND, Settings};
use crate::fabric::{HandshakePrice, Link};

/// The result of a start in virtual time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simulated {
    /// From the start of all until every node held every node alive; `None` if the deadline passed
    /// first.
    pub formed: Option<Duration>,
    /// Dials begun.
    pub dials: u64,
    /// Dials that led to a connection.
    pub handshakes: u64,
    /// Dials without an answer in time.
    pub unanswered: u64,
    /// Handshakes that were processed after their dial had been given up.
    pub in_vain: u64,
    /// Processor time spent on handshakes.
    pub processor: Duration,
    /// Bytes sent about members, by all nodes.
    pub member_bytes: u64,
    /// Bytes sent about attachment lists, by all nodes: no node is on a network.
    pub list_bytes: u64,
}

/// The default bounds of production's dial policy.
pub fn production() -> DialSettings {
    DialSettings::of(&Limits::default(), &Timeouts::default())
}

/// Starts `nodes` nodes at the same instant, with the first as seed, on hosts where handshakes have
/// this price. Without `dialling`, every node dials whenever it has something to send, with a
/// timeout of three seconds.
pub fn simulate(
    nodes: usize,
    price: HandshakePrice,
    dialling: Option<DialSettings>,
    deadline: Duration,
    seed: u64,
) -> Simulated {
    let mut settings = Settings::measured(seed, Link::with_latency(MILLISECOND / 10));
    settings.fabric.handshakes = Some(price);
    settings.fabric.dialling = dialling;
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(nodes);
    let step = 100 * MILLISECOND;
    let formed = loop {
        cluster.run_for(step);
        if cluster.all_agree_on_members(&peers) {
            break Some(cluster.now());
        }
        if cluster.now() >= deadline {
            break None;
        }
    };
    let traffic = cluster.fabric().traffic();
    Simulated {
        formed,
        dials: traffic.dials,
        handshakes: traffic.dials_connected,
        unanswered: traffic.dials_unanswered,
        in_vain: traffic.dials_in_vain,
        processor: traffic.handshake_work,
        member_bytes: traffic.membership.bytes,
        list_bytes: traffic.tables.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::SECOND;

    /// The processor time of a handshake on a busy machine.
    const PRICE: HandshakePrice =
        HandshakePrice { work: Duration::from_micros(1000), shared_cores: 2, most_half_open: 128 };

    #[test]
    fn nodes_that_start_at_once_form_a_cluster_only_with_the_dial_policy() {
        let storm = simulate(100, PRICE, None, 8 * SECOND, 1);
        assert!(storm.in_vain > 1000, "{storm:?}");
        let formation = simulate(100, PRICE, Some(production()), 10 * SECOND, 1);
        assert!(formation.formed.is_some_and(|formed| formed < 10 * SECOND), "{formation:?}");
        assert!(formation.in_vain < formation.dials / 100, "{formation:?}");
        assert!(formation.processor * 4 < storm.processor, "{formation:?} {storm:?}");
    }
}
