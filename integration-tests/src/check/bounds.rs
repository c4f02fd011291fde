//! Bounds that hold at every moment: queues within their caps, and a finite number of relays of
//! each update.

use membership::Membership;
use tabledb::{Counters, NetworkStatistics};

/// Limit of queued updates of one network. More than eight datagrams' worth, 9,120 bytes, goes over
/// streams instead, and no update takes less than 24 bytes.
const MAX_QUEUED_UPDATES: usize = 9_120 / 24;

/// A replica sends an update that is new to it once: directly to all members where they are at most
/// eight, else to ln n + 2, which is at most eight for up to four hundred members.
const MAX_SENDS: u64 = 8;

/// The sum of the counters of all processes so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Relays {
    gossip_sent: u64,
    learned: u64,
}

impl Relays {
    pub(crate) fn add(&mut self, counters: &Counters) {
        self.gossip_sent += counters.gossip_sent;
        self.learned += counters.updates_learned;
    }

    /// A replica sends each update at most once, to this many members at most, in a datagram with
    /// others or alone.
    pub(crate) fn check(self, written: usize) -> Result<(), String> {
        let Self { gossip_sent, learned } = self;
        let most = MAX_SENDS * (written as u64 + learned);
        if gossip_sent <= most {
            return Ok(());
        }
        Err(format!(
            "{gossip_sent} datagrams of gossip were sent for {written} writes, which were new \
             to replicas {learned} times: relayed once each, {most} is the most"
        ))
    }
}

/// Checks that the update queue of a replica is within its cap.
pub(crate) fn check_queue(network: &str, statistics: &NetworkStatistics) -> Result<(), String> {
    match statistics.queue_length {
        waiting if waiting > MAX_QUEUED_UPDATES => {
            Err(format!("{waiting} updates of {network} are queued; {MAX_QUEUED_UPDATES} is the most"))
        }
        _ => Ok(()),
    }
}

/// Checks that membership keeps its caps.
pub(crate) fn check_membership(membership: &Membership) -> Result<(), String> {
    let config = membership.config();
    let members = membership.members().count();
    let known = members + membership.remembered_count();
    let bounds = [
        ("members", members, config.max_members),
        ("remembered instances", membership.remembered_count(), config.max_remembered),
        // One for each node ever known, however many claims there were about it.
        ("broadcasts", membership.broadcast_count(), config.max_broadcasts.min(known)),
        ("points of bad health", membership.health_score() as usize, config.health_max as usize),
    ];
    match bounds.into_iter().find(|(_, count, most)| count > most) {
        Some((what, count, most)) => Err(format!("membership keeps {count} {what}; {most} is the most")),
        None => Ok(()),
    }
}
