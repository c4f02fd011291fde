//! The sync scheduler of a network: every reason for which this node opens a session about it, and with whom.
//!
//! All state on which that depends is here, and private. Facts come in by methods named after them: what
//! membership and attachment lists report, what peers report, how sessions go, and that time has passed.
//! Decisions go out as requests for sessions in [`NodeState::requests`], as `NetworkReady` among its events, as
//! attachments to show, and by the queries.
//!
//! | session | why | with | decided in |
//! |---|---|---|---|
//! | full sync | the initial sync has not completed | a random member that may be synchronised | `initial_sync` |
//! | full sync | owners have returned, and their entries are hidden | in turn an owner and another member | `returned_owners` |
//! | full sync | a fingerprint, or the digest of a settled part, differs | the member that reported it | `anti_entropy` |
//! | full sync | the anti-entropy period has passed | a random member | `anti_entropy` |
//! | full sync | the network is being left | two members that stay | `final_syncs` |
//! | pull | numbers have been reported and are missing | the reporter, then the owner or another member | `pulls` |
//! | pull | refused writes are tried again | a random member | `pulls` |
//! | push | more updates wait than datagrams should carry | the targets of gossip | here |
//!
//! What belongs to one of these subjects is private to its file. What they share is changed in three: by facts
//! about nodes and updates here, by the results of sessions in `results`, and as time passes in `timers`.

mod anti_entropy;
mod final_syncs;
mod initial_sync;
mod members;
mod open_sessions;
mod pulls;
mod results;
mod returned_owners;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use wire::NodeName;

use super::super::message::Standing;
use super::super::node_state::NodeState;
use super::super::requests::{SessionRequest, SyncKind};
use super::super::store::Store;
use super::super::timing::{MISSING_GRACE, RETRY};
use crate::FinalSyncs;
use crate::record::AttachmentIndex;
use anti_entropy::AntiEntropy;
use final_syncs::Leaving;
use initial_sync::InitialSync;
use members::Members;
use open_sessions::{OpenSessions, Syncing};
use pulls::Pulls;
use returned_owners::ReturnedOwners;

/// The phase of a network on this node.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Phase {
    /// Its initial sync has not completed since it was joined.
    Joining(InitialSync),
    Active,
    /// Writes are refused; final syncs are in progress.
    Leaving(Leaving),
}

/// The state from which the sessions of a network follow.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct SyncScheduler {
    network: Arc<str>,
    members: Members,
    joined_at: Instant,
    phase: Phase,
    sessions: OpenSessions,
    /// When the next full sync that is needed is tried: an initial one, a final one, or one for hidden
    /// entries.
    sync_at: Instant,
    /// The number of full syncs in a row that a member answered with `NotMember`.
    absences: u32,
    returned: ReturnedOwners,
    anti_entropy: AntiEntropy,
    pulls: Pulls,
}

impl SyncScheduler {
    /// The scheduler of a network that is joined now.
    pub(super) fn new(network: Arc<str>, node: &mut NodeState, now: Instant) -> Self {
        Self {
            members: Members::new(network.clone()),
            network,
            joined_at: now,
            phase: Phase::Joining(InitialSync::default()),
            sessions: OpenSessions::default(),
            sync_at: now,
            absences: 0,
            returned: ReturnedOwners::default(),
            anti_entropy: AntiEntropy::new(node, now),
            pulls: Pulls::default(),
        }
    }

    // Queries.

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    pub(super) fn is_synced(&self) -> bool {
        !matches!(self.phase, Phase::Joining(_))
    }

    /// This node's claim about its own copy of the network.
    pub(crate) fn standing(&self) -> Standing<'_> {
        match &self.phase {
            Phase::Joining(initial) => {
                Standing::Unsynchronised(initial.unsynchronised().map(NodeName::as_str).collect())
            }
            Phase::Active => Standing::Synchronised,
            Phase::Leaving(_) => Standing::Leaving,
        }
    }

    /// The other alive members, ascending. O(cluster) after a change, else O(1).
    pub(super) fn members(&mut self, node: &NodeState) -> &[NodeName] {
        self.members.all(&node.owners)
    }

    /// A uniform random sample of `count` members, or all if there are fewer.
    pub(super) fn sample_members(&mut self, count: usize, node: &mut NodeState) -> Vec<NodeName> {
        self.members.sample(count, node)
    }

    /// The members among a random sample of `count` that receive updates by gossip: a member that a push
    /// follows receives all of them on its stream.
    pub(super) fn gossip_targets(&mut self, count: usize, node: &mut NodeState) -> Vec<NodeName> {
        let mut targets = self.members.sample(count, node);
        targets.retain(|peer| !self.sessions.pushes_to(peer));
        targets
    }

    /// Whether the initial sync is in progress, which brings what the other members hold. Over a slow link it
    /// may take minutes, in which each of them would send the same again.
    pub(crate) fn is_receiving_initial_sync(&self) -> bool {
        !self.is_synced() && self.sessions.full_syncs().any(Syncing::is_answered)
    }

    /// Whether a full sync with a peer, opened here, has begun at the peer as well.
    pub(crate) fn is_syncing_with(&self, peer: &NodeName, now: Instant) -> bool {
        self.sessions.full_syncs().any(|syncing| syncing.peer == *peer && syncing.is_in_progress(RETRY, now))
    }

    /// Whether a full sync that this node opened is in progress, or waits for capacity.
    fn is_syncing(&self, node: &NodeState) -> bool {
        self.sessions.full_syncs().len() > 0 || self.has_waiting_full_sync(node)
    }

    fn has_waiting_full_sync(&self, node: &NodeState) -> bool {
        node.requests.full_syncs(&self.network).next().is_some()
    }

    /// Whether a difference in settled parts may cause a full sync now.
    pub(super) fn follows_settled(&self, node: &NodeState, now: Instant) -> bool {
        !self.is_syncing(node) && self.anti_entropy.follows_settled(now)
    }

    /// Whether a network that is being left can be dropped now.
    pub(super) fn left(&self, now: Instant) -> bool {
        matches!(&self.phase, Phase::Leaving(leaving) if leaving.is_over(now))
    }

    /// The result of the final syncs.
    pub(super) fn final_syncs(&self) -> FinalSyncs {
        match &self.phase {
            Phase::Leaving(leaving) => leaving.result(),
            _ => FinalSyncs::default(),
        }
    }

    /// The full syncs that this node opened and that are in progress.
    #[cfg(test)]
    pub(crate) fn full_syncs(&self) -> impl ExactSizeIterator<Item = &Syncing> {
        self.sessions.full_syncs()
    }

    #[cfg(test)]
    pub(crate) fn compared_count(&self) -> usize {
        self.anti_entropy.compared_count()
    }

    // Facts from membership and attachment lists.

    /// A member may have been added: if there was none before, the initial sync can be made with it.
    pub(crate) fn member_appeared(&mut self, now: Instant) {
        self.members.changed();
        if !self.is_synced() {
            self.sync_at = self.sync_at.min(now);
        }
    }

    /// The attachment list of `owner` has ended its attachment, or started another one.
    pub(super) fn attachment_changed(
        &mut self,
        owner: &str,
        is_attached: bool,
        node: &mut NodeState,
        now: Instant,
    ) {
        if let Phase::Joining(initial) = &mut self.phase
            && is_attached
        {
            initial.forget(owner);
        }
        self.end_final_syncs_with(owner, node, now);
    }

    /// An attachment was dropped, with all numbers that it had.
    pub(super) fn attachment_ended(&mut self, index: AttachmentIndex) {
        self.pulls.forget(index);
        self.sessions.forget(index);
        self.returned.forget(index);
    }

    /// The owner has failed. `index` is its attachment, if it has one.
    pub(super) fn owner_failed(
        &mut self,
        owner: &str,
        index: Option<AttachmentIndex>,
        node: &mut NodeState,
        now: Instant,
    ) {
        self.members.changed();
        self.end_final_syncs_with(owner, node, now);
        if let Some(index) = index {
            self.returned.forget(index);
        }
    }

    /// The owner has returned: its entries stay hidden until they have been compared.
    pub(super) fn owner_returned(
        &mut self,
        owner: &NodeName,
        index: AttachmentIndex,
        node: &mut NodeState,
        now: Instant,
    ) {
        // Further returns do not delay what is planned for the first.
        let is_first = self.returned.is_empty();
        self.sync_at = if is_first { now + RETRY } else { self.sync_at.min(now + RETRY) };
        if self.returned.add(index, owner, now) {
            self.request_full_sync(owner.clone(), false, node);
        }
    }

    /// The owner's instance has ended, or it has left the network.
    pub(super) fn owner_gone(&mut self, owner: &str, node: &mut NodeState, now: Instant) {
        self.members.changed();
        self.end_final_syncs_with(owner, node, now);
        self.anti_entropy.forget(owner);
        if let Phase::Joining(initial) = &mut self.phase {
            initial.forget(owner);
        }
    }

    /// A final sync with this member no longer counts: it has left, failed or returned with another
    /// attachment.
    fn end_final_syncs_with(&mut self, owner: &str, node: &mut NodeState, now: Instant) {
        let Phase::Leaving(leaving) = &mut self.phase else { return };
        leaving.forget(owner);
        if !node.owners.is_member(owner, &self.network) {
            node.requests.forget_full_syncs(&self.network, Some(owner));
        }
        self.keep_final_syncs(node, now);
    }

    // Facts about updates.

    /// `source` has an attachment of another node up to `watermark`: missing numbers are pulled if they do not
    /// arrive soon.
    pub(crate) fn watermark_received(
        &mut self,
        index: AttachmentIndex,
        watermark: u64,
        source: &NodeName,
        store: &Store,
        now: Instant,
    ) {
        if store.attachment(index).is_some_and(|held| pulls::lacks(held.accounted(), watermark)) {
            self.pulls.add(index, watermark, source, now + MISSING_GRACE, now);
        }
    }

    /// Refused writes are no longer accounted for: they are pulled at once, as if they had never been offered.
    pub(super) fn refused_writes_retried(
        &mut self,
        sample: &[(AttachmentIndex, u64, u64)],
        node: &mut NodeState,
        now: Instant,
    ) {
        if sample.is_empty() {
            return;
        }
        let Some(source) = self.members.sample(1, node).pop() else { return };
        for &(index, _, upto) in sample {
            self.pulls.add(index, upto, &source, now, now);
        }
    }

    /// The fingerprint of a peer differs from ours, both being quiescent.
    pub(super) fn fingerprint_differs(
        &mut self,
        peer: &NodeName,
        (mine, theirs): (u64, u64),
        node: &mut NodeState,
        now: Instant,
    ) {
        let interval = node.config.anti_entropy_interval;
        if self.is_syncing(node) || !self.anti_entropy.follows(peer, (mine, theirs), interval, now) {
            return;
        }
        node.counters.comparisons_fingerprint += 1;
        self.request_full_sync(peer.clone(), false, node);
    }

    /// The settled part of one of our attachments differs from a peer's.
    pub(super) fn settled_differs(
        &mut self,
        peer: &NodeName,
        attachments: usize,
        node: &mut NodeState,
        now: Instant,
    ) {
        self.anti_entropy.settled_differs(attachments, now);
        node.counters.comparisons_settled += 1;
        self.request_full_sync(peer.clone(), false, node);
    }

    /// More updates of these attachments wait than datagrams should carry: they are pushed over streams.
    pub(crate) fn push(
        &mut self,
        indexes: &BTreeSet<AttachmentIndex>,
        relay: bool,
        peers: impl IntoIterator<Item = NodeName>,
        node: &mut NodeState,
    ) {
        for peer in peers {
            self.request(SyncKind::Push { relay }, peer, indexes.clone(), false, node);
        }
    }

    // Facts from the application.

    /// This node leaves the network, and `others` at the same time, which share the capacity for final syncs.
    pub(super) fn start_leaving(&mut self, others: usize, node: &mut NodeState, now: Instant) {
        self.phase = Phase::Leaving(Leaving::new(self.members(node).len(), others, now));
        node.requests.forget_full_syncs(&self.network, None);
        self.sync_at = now + RETRY;
        self.keep_final_syncs(node, now);
    }

    // Requests.

    fn request_full_sync(&self, peer: NodeName, periodic: bool, node: &mut NodeState) {
        self.request(SyncKind::Full, peer, BTreeSet::new(), periodic, node);
    }

    /// Requests a session. Only members receive a network's tables and version vectors: a request for any
    /// other peer is dropped.
    fn request(
        &self,
        kind: SyncKind,
        peer: NodeName,
        indexes: BTreeSet<AttachmentIndex>,
        periodic: bool,
        node: &mut NodeState,
    ) {
        if node.owners.is_member(peer.as_str(), &self.network) {
            let network = self.network.clone();
            node.requests.push(SessionRequest { kind, network, peer, indexes, periodic });
        }
    }
}
