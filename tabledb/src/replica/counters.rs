//! Counts of what happened, for people and for tests that must know that the bad things did happen.

/// Why something a peer sent was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    NotMember,
    UnknownLife,
    EndedAttachment,
    FutureTime,
    TooLong,
    NetworkFull,
    UnexpectedFrame,
    Busy,
}

/// Counts since the replica was made. They never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Writes made here.
    pub writes: u64,
    /// Numbers learned from peers.
    pub news: u64,
    /// Gossip datagrams sent.
    pub gossip_sent: u64,
    /// Datagrams with heads alone sent.
    pub heads_sent: u64,
    /// Times there was more news than datagrams should carry.
    pub backlogs: u64,
    /// Sessions opened here.
    pub sessions_opened: u64,
    /// Sessions accepted from peers.
    pub sessions_accepted: u64,
    /// Pulls of what was missing.
    pub pulls: u64,
    /// Full syncs that came to their end.
    pub syncs_completed: u64,
    /// Full syncs that did not.
    pub syncs_failed: u64,
    /// Full syncs started because fingerprints differed.
    pub fingerprint_syncs: u64,
    /// Full syncs started because the anti-entropy period had passed.
    pub periodic_syncs: u64,
    /// Periodic syncs that found something: the quicker ways had missed it.
    pub periodic_finds: u64,
    /// Live entries dropped because a peer that had seen them knew them to be dead.
    pub buried: u64,
    /// Tombstones whose time came.
    pub reaped: u64,
    /// Attachments taken up from news, before the owner's list.
    pub provisional: u64,
    /// Attachments of returned owners shown without a comparison, because none was to be had in time.
    pub shown_uncompared: u64,
    /// Datagrams kept for membership to catch up.
    pub parked: u64,
    /// Times a watcher fell behind.
    pub watchers_lagged: u64,
    /// Messages that did not decode, or contradicted themselves.
    pub refused_malformed: u64,
    /// Messages about a network this node, or the sender, is not on.
    pub refused_not_member: u64,
    /// News of lives that membership did not know in time.
    pub refused_unknown_life: u64,
    /// News of attachments that have ended.
    pub refused_ended: u64,
    /// Messages with times too far ahead of the wall clock.
    pub refused_future: u64,
    /// Events with names, keys or values beyond the limits.
    pub refused_too_long: u64,
    /// Events beyond the entry limit of a network.
    pub refused_full: u64,
    /// Frames out of turn.
    pub refused_unexpected: u64,
    /// Sessions beyond the limit.
    pub refused_busy: u64,
}

impl Counters {
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Malformed => &mut self.refused_malformed,
            Refusal::NotMember => &mut self.refused_not_member,
            Refusal::UnknownLife => &mut self.refused_unknown_life,
            Refusal::EndedAttachment => &mut self.refused_ended,
            Refusal::FutureTime => &mut self.refused_future,
            Refusal::TooLong => &mut self.refused_too_long,
            Refusal::NetworkFull => &mut self.refused_full,
            Refusal::UnexpectedFrame => &mut self.refused_unexpected,
            Refusal::Busy => &mut self.refused_busy,
        };
        *counter += 1;
    }
}
