//! Members whose content differs from this node's, and since when: learned from the fingerprints that probes carry
//! anyway, so that a difference that lasts is seen without asking for it.
//!
//! Only quiescent networks are compared, and most differences end with the sync that they cause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wire::NodeName;

#[derive(Debug)]
struct Disagreement {
    since: Instant,
    /// A sync has changed something since the fingerprints differed: they may be equal now.
    repaired: bool,
    /// When it is logged.
    log_at: Instant,
}

/// The members that differ.
#[derive(Debug, Default)]
pub(crate) struct Disagreements(BTreeMap<NodeName, Disagreement>);

impl Disagreements {
    /// A member's fingerprint was compared with this node's. A difference that lasts is logged after `lasting`, and
    /// again after pauses that double.
    pub(super) fn compared(
        &mut self,
        network: &str,
        peer: &NodeName,
        equal: bool,
        lasting: Duration,
        now: Instant,
    ) {
        if equal {
            self.0.remove(peer);
            return;
        }
        let new = || Disagreement { since: now, repaired: false, log_at: now + lasting };
        let known = self.0.entry(peer.clone()).or_insert_with(new);
        known.repaired = false;
        if now >= known.log_at {
            let lasts = now.saturating_duration_since(known.since);
            known.log_at = now + lasts;
            tracing::warn!(
                network,
                peer = peer.as_str(),
                seconds = lasts.as_secs(),
                "this node and the peer hold different entries, and syncs do not change that"
            );
        }
    }

    /// A sync with the member has changed what one of the two holds.
    pub(crate) fn repaired(&mut self, peer: &NodeName) {
        if let Some(known) = self.0.get_mut(peer) {
            known.repaired = true;
        }
    }

    /// The member has failed, or is not on the network any more.
    pub(super) fn forget(&mut self, peer: &str) {
        self.0.remove(peer);
    }

    /// How long this node has differed from a member, at most; zero if it differs from none.
    pub(crate) fn longest(&self, now: Instant) -> Duration {
        let lasting = self.0.values().filter(|known| !known.repaired);
        lasting.map(|known| now.saturating_duration_since(known.since)).max().unwrap_or_default()
    }
}

#[cfg(test)]
impl std::hash::Hash for Disagreements {
    /// Without anything: it is only reported.
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}
