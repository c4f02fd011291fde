//! Counters for operators, and for tests that have to know that a failure was really provoked.

use crate::RefusedBecause;

/// Why a replica refused something that a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    Malformed,
    NotMember,
    UnknownInstance,
    EndedAttachment,
    /// A write.
    Write(RefusedBecause),
    ListTooLong,
    NotAuthor,
    UnexpectedFrame,
    Busy,
}

impl From<RefusedBecause> for RefusalReason {
    fn from(because: RefusedBecause) -> Self {
        Self::Write(because)
    }
}

wire::counters! {
    /// Counters since the replica was created. They never decrease.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub struct Counters {
        /// Writes made on this node.
        writes,
        /// Dots learned from peers.
        updates_learned,
        /// Gossip datagrams sent.
        gossip_sent,
        /// Datagrams sent with high watermarks alone.
        watermarks_sent,
        /// Times there were more updates than datagrams should carry, so that they went over streams.
        backlogs,
        /// Sessions opened by this node.
        sessions_opened,
        /// Sessions accepted from peers.
        sessions_accepted,
        /// Pulls of missing dots.
        pulls,
        /// Periodic syncs that found differences, which the faster mechanisms had missed.
        periodic_finds,
        /// Live entries dropped because a peer reported them superseded.
        superseded_dropped,
        /// Live entries of this node dropped because a peer reported them superseded: another node deleted them
        /// during a partition longer than the reap time, or a member lies.
        superseded_own_dropped,
        /// Times a live entry was kept although a peer reported it superseded, because this node may have refused
        /// the superseding write.
        superseded_withheld,
        /// Live entries that differ between this node and a peer under the same dot: two processes took the same
        /// generation.
        conflicting,
        /// Tombstones removed at the end of their reap time.
        reaped,
        /// Attachments learned from updates before the owner's attachment list arrived.
        provisional,
        /// Attachments of returned owners shown without a comparison, because none completed in time.
        shown_uncompared,
        /// Datagrams deferred until membership reports the instances they name.
        deferred,
        /// Times a watcher lagged and had to start over.
        watchers_lagged,
    }
    /// Full syncs that ended, opened by either side if they completed, by this node if they failed.
    syncs by result {
        /// Full syncs that completed.
        syncs_completed,
        /// Full syncs that failed.
        syncs_failed,
    }
    /// Full syncs that this node started to find differences with a member of a network, not for a join, a
    /// return or a leave.
    comparisons by reason {
        /// Full syncs started because fingerprints differed.
        comparisons_fingerprint,
        /// Full syncs started because the settled part of an attachment differed in a network under continuous
        /// writes.
        comparisons_settled,
        /// Full syncs started because the anti-entropy period had passed.
        comparisons_periodic,
    }
    /// Messages, updates and sessions of peers that this node refused.
    refused by reason {
        /// Messages refused because they did not decode or contradicted themselves.
        refused_malformed,
        /// Messages refused because this node, or the sender, is not on the network.
        refused_not_member,
        /// Updates refused because membership did not report their instance in time.
        refused_unknown_instance,
        /// Updates refused because their attachment has ended.
        refused_ended,
        /// Writes refused because their time is too far ahead of the wall clock.
        refused_future,
        /// Writes refused because a name, key or value exceeds its limit.
        refused_too_long,
        /// Writes refused because of the entry limit of a network.
        refused_full,
        /// Writes refused because of the table limit of a network.
        refused_tables,
        /// Writes refused because of the byte limit of a network.
        refused_bytes,
        /// Writes and ranges refused because they would fragment the version vector of an attachment beyond its
        /// limit.
        refused_fragmented,
        /// Attachment lists refused because they name too many networks or too long names, or exceed the total
        /// limit.
        refused_lists,
        /// Claims refused because only another node may make them: an attachment list in the place of the
        /// sender's own, or a list in this node's name that it never issued.
        refused_not_author,
        /// Frames refused because they were out of turn.
        refused_unexpected,
        /// Sessions refused because of the session limit.
        refused_busy,
    }
}

impl Counters {
    pub(crate) fn refuse(&mut self, refusal: RefusalReason) {
        let counter = match refusal {
            RefusalReason::Malformed => &mut self.refused_malformed,
            RefusalReason::NotMember => &mut self.refused_not_member,
            RefusalReason::UnknownInstance => &mut self.refused_unknown_instance,
            RefusalReason::EndedAttachment => &mut self.refused_ended,
            RefusalReason::Write(RefusedBecause::FutureTime) => &mut self.refused_future,
            RefusalReason::Write(RefusedBecause::TooLong) => &mut self.refused_too_long,
            RefusalReason::Write(RefusedBecause::NetworkFull) => &mut self.refused_full,
            RefusalReason::Write(RefusedBecause::TooManyTables) => &mut self.refused_tables,
            RefusalReason::Write(RefusedBecause::TooManyBytes) => &mut self.refused_bytes,
            RefusalReason::Write(RefusedBecause::Fragmented) => &mut self.refused_fragmented,
            RefusalReason::ListTooLong => &mut self.refused_lists,
            RefusalReason::NotAuthor => &mut self.refused_not_author,
            RefusalReason::UnexpectedFrame => &mut self.refused_unexpected,
            RefusalReason::Busy => &mut self.refused_busy,
        };
        *counter += 1;
    }
}
