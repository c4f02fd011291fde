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
    TooManyTables,
    TooManyBytes,
    Torn,
    ListTooLong,
    NotAuthor,
    UnexpectedFrame,
    Busy,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the replica was made. They never go back.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name, in the order of the fields.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Writes made here.
    writes,
    /// Numbers learned from peers.
    news,
    /// Gossip datagrams sent.
    gossip_sent,
    /// Datagrams with heads alone sent.
    heads_sent,
    /// Times there was more news than datagrams should carry.
    backlogs,
    /// Sessions opened here.
    sessions_opened,
    /// Sessions accepted from peers.
    sessions_accepted,
    /// Pulls of what was missing.
    pulls,
    /// Full syncs that came to their end.
    syncs_completed,
    /// Full syncs that did not.
    syncs_failed,
    /// Full syncs started because fingerprints differed.
    fingerprint_syncs,
    /// Full syncs started because what is settled of an attachment differed in a network that is never still.
    settled_syncs,
    /// Full syncs started because the anti-entropy period had passed.
    periodic_syncs,
    /// Periodic syncs that found something: the quicker ways had missed it.
    periodic_finds,
    /// Live entries dropped because a peer that had seen them knew them to be dead.
    buried,
    /// Of these, entries that this node had written itself: others deleted them while it was cut off for longer than the reap time,
    /// or somebody lies.
    buried_own,
    /// Times a live entry stayed although a peer knew it to be superseded, because what supersedes it may be refused here.
    burials_withheld,
    /// Live entries that a peer holds differently under the same number: two processes took the same instance number.
    conflicting,
    /// Tombstones whose time came.
    reaped,
    /// Attachments taken up from news, before the owner's list.
    provisional,
    /// Attachments of returned owners shown without a comparison, because none was to be had in time.
    shown_uncompared,
    /// Datagrams kept for membership to catch up.
    parked,
    /// Times a watcher fell behind.
    watchers_lagged,
    /// Messages that did not decode, or contradicted themselves.
    refused_malformed,
    /// Messages about a network this node, or the sender, is not on.
    refused_not_member,
    /// News of lives that membership did not know in time.
    refused_unknown_life,
    /// News of attachments that have ended.
    refused_ended,
    /// Messages with times too far ahead of the wall clock.
    refused_future,
    /// Events with names, keys or values beyond the limits.
    refused_too_long,
    /// Events beyond the entry limit of a network.
    refused_full,
    /// Events beyond the table limit of a network.
    refused_tables,
    /// Events beyond the byte limit of a network.
    refused_bytes,
    /// Events and ranges that would tear what was seen of an attachment into too many pieces.
    refused_torn,
    /// Lists of networks with more of them, or longer names, than are allowed, or that would be too many in all.
    refused_lists,
    /// Words that only their author may say, from somebody else: another node's list in the place of the sender's own, and
    /// lists in this node's name that it never issued.
    refused_not_author,
    /// Frames out of turn.
    refused_unexpected,
    /// Sessions beyond the limit.
    refused_busy,
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
            Refusal::TooManyTables => &mut self.refused_tables,
            Refusal::TooManyBytes => &mut self.refused_bytes,
            Refusal::Torn => &mut self.refused_torn,
            Refusal::ListTooLong => &mut self.refused_lists,
            Refusal::NotAuthor => &mut self.refused_not_author,
            Refusal::UnexpectedFrame => &mut self.refused_unexpected,
            Refusal::Busy => &mut self.refused_busy,
        };
        *counter += 1;
    }
}
