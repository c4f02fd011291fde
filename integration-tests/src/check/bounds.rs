//! Bounds that hold at every moment: queues within their caps, and news relayed finitely often.

use membership::Membership;
use tabledb::{Counters, NetworkStatistics};

/// The most news of one network that may wait. More than eight datagrams' worth, 9,120 bytes, goes over streams instead,
/// and no piece takes less than 24 bytes.
const MAX_QUEUED_UPDATES: usize = 9_120 / 24;

/// A replica sends what is news to it once: directly to all members where they are at most eight, else to ln n + 2, which
/// is no more than eight of up to four hundred.
const MAX_SENDS: u64 = 8;

/// What all processes there ever were have sent and learned, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Relays {
    gossip_sent: u64,
    learned: u64,
}

impl Relays {
    pub(crate) fn add(&mut self, counters: &Counters) {
        self.gossip_sent += counters.gossip_sent;
        self.learned += counters.news;
    }

    /// Each piece of news leaves a replica at most once, to at most so many members, in a datagram with others or alone.
    pub(crate) fn check(self, written: usize) -> Result<(), String> {
        let Self { gossip_sent, learned } = self;
        let most = MAX_SENDS * (written as u64 + learned);
        if gossip_sent <= most {
            return Ok(());
        }
        Err(format!(
            "{gossip_sent} datagrams of gossip were sent for {written} writes, which were news {learned} times: \
             relayed once each, {most} is the most"
        ))
    }
}

/// Whether what waits in a replica to be told is within its cap.
pub(crate) fn check_queue(network: &str, statistics: &NetworkStatistics) -> Result<(), String> {
    match statistics.queue_length {
        waiting if waiting > MAX_QUEUED_UPDATES => {
            Err(format!("{waiting} pieces of news of {network} wait; {MAX_QUEUED_UPDATES} is the most"))
        }
        _ => Ok(()),
    }
}

/// Whether what membership keeps is within its caps.
pub(crate) fn check_membership(membership: &Membership) -> Result<(), String> {
    let config = membership.config();
    let members = membership.members().count();
    let known = members + membership.remembered_count();
    let bounds = [
        ("members", members, config.max_members),
        ("remembered lives", membership.remembered_count(), config.max_remembered),
        // One for each node there ever was word of, whatever is said of it.
        ("broadcasts", membership.broadcast_count(), config.max_broadcasts.min(known)),
        ("points of bad health", membership.health_score() as usize, config.health_max as usize),
    ];
    match bounds.into_iter().find(|(_, count, most)| count > most) {
        Some((what, count, most)) => Err(format!("membership keeps {count} {what}; {most} is the most")),
        None => Ok(()),
    }
}
