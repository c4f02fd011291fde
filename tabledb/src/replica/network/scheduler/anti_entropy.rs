//! Comparisons with a member whose fingerprint, or whose digest of a settled part, differs; and those by the
//! anti-entropy period, which no known difference causes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::RngExt;
use wire::NodeName;

use super::super::super::node_state::NodeState;
use super::super::super::timing::SETTLED_PAUSE;

/// The number of attachments for which a sync for settled parts may run every second; more of them lengthen
/// the pause.
const ATTACHMENTS_A_SECOND: usize = 64;

/// A comparison of fingerprints that changed nothing.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Compared {
    mine: u64,
    theirs: u64,
    at: Instant,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct AntiEntropy {
    /// The time of the next comparison that no known difference causes.
    at: Instant,
    /// The comparison in progress that differing fingerprints caused.
    comparing: Option<(NodeName, Compared)>,
    compared: BTreeMap<NodeName, Compared>,
    /// The earliest time of the next full sync that a difference in settled attachments may cause.
    settled_pause: Option<Instant>,
}

impl AntiEntropy {
    pub(super) fn new(node: &mut NodeState, now: Instant) -> Self {
        let mut new = Self { at: now, comparing: None, compared: BTreeMap::new(), settled_pause: None };
        new.plan(node, now);
        new
    }

    /// Plans the next comparison that no known difference causes.
    pub(super) fn plan(&mut self, node: &mut NodeState, now: Instant) {
        let interval = node.config.anti_entropy_interval;
        self.at = now + interval.mul_f64(node.rng.random_range(0.75..1.25));
    }

    /// The time of the next comparison that no known difference causes.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Whether these differing fingerprints cause a comparison: unless one has left the same two, less than
    /// `interval` ago.
    pub(super) fn follows(
        &mut self,
        peer: &NodeName,
        (mine, theirs): (u64, u64),
        interval: Duration,
        now: Instant,
    ) -> bool {
        if let Some(compared) = self.compared.get(peer.as_str())
            && (compared.mine, compared.theirs) == (mine, theirs)
            && now < compared.at + interval
        {
            return false;
        }
        self.comparing = Some((peer.clone(), Compared { mine, theirs, at: now }));
        true
    }

    /// A comparison with this peer completed. Only now is it recorded: one that was cut short is to be
    /// repeated after the next probe.
    pub(super) fn completed(&mut self, peer: &NodeName, node: &NodeState, now: Instant) {
        if let Some((_, compared)) = self.comparing.take_if(|(with, _)| with == peer)
            && node.owners.knows(peer)
        {
            self.compared.insert(peer.clone(), Compared { at: now, ..compared });
        }
    }

    /// The owner's instance has ended, or it has left the network.
    pub(super) fn forget(&mut self, owner: &str) {
        self.compared.remove(owner);
    }

    /// Whether differing settled parts may cause a comparison now.
    pub(super) fn follows_settled(&self, now: Instant) -> bool {
        self.settled_pause.is_none_or(|until| now >= until)
    }

    /// Differing settled parts of a network with this number of attachments cause a comparison.
    pub(super) fn settled_differs(&mut self, attachments: usize, now: Instant) {
        let pause = SETTLED_PAUSE * (1 + attachments / ATTACHMENTS_A_SECOND) as u32;
        self.settled_pause = Some(now + pause);
    }

    #[cfg(test)]
    pub(super) fn compared_count(&self) -> usize {
        self.compared.len()
    }
}
