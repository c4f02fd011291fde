//! The protocol's times and sizes, each with its reason. Chosen for a LAN; a WAN only makes the graces short, which
//! costs a needless pull now and then, never correctness.

use std::time::Duration;

/// What a datagram may be filled with, in bytes: QUIC guarantees 1,162 on any path, of which a node takes a few.
pub(crate) const DATAGRAM_BUDGET: usize = 1140;

/// How long a first piece of news waits for company in its datagram.
pub(crate) const FLUSH_DELAY: Duration = Duration::from_millis(2);

/// More news than this, in bytes, goes over streams instead: eight datagrams.
pub(crate) const BACKLOG_BYTES: usize = 8 * DATAGRAM_BUDGET;

/// Up to so many other members a writer reaches all of them itself, and nobody relays.
pub(crate) const DIRECT_MEMBERS: usize = 8;

/// To so many random members news is sent, by its writer and by everyone to whom it is news, in larger networks.
///
/// With ln n + c each, one such wave reaches all of n members with a probability of e to the power of −e⁻ᶜ (Eugster,
/// Guerraoui, Kermarrec and Massoulié 2004), here nine times in ten whatever the size; the heads find the rest. A constant
/// number would miss a constant share, so in a large network somebody always, who would wait for the heads.
pub(crate) fn fan_out(members: usize) -> usize {
    (members.max(1) as f64).ln().ceil() as usize + 2
}

/// To so many random members more news than datagrams should carry is pushed, over streams.
pub(crate) const PUSH_FAN_OUT: usize = 4;

/// When, after an attachment's last change, its heads are told again, and to how many random members. Then there is
/// silence.
///
/// The first three find what was lost: with one packet of ten lost, even between only two nodes all three and the news
/// itself go astray once in ten thousand times. The later ones find what was cut off. Their pauses double, so that after
/// a cut of any length up to the last of them the two sides find out within about as long again, without waiting for a
/// probe between just the right two.
pub(crate) const WATERMARKS_AFTER: [(Duration, usize); 8] = [
    (Duration::from_millis(50), 3),
    (Duration::from_millis(150), 3),
    (Duration::from_millis(400), 3),
    (Duration::from_secs(1), 2),
    (Duration::from_secs(2), 2),
    (Duration::from_secs(4), 1),
    (Duration::from_secs(8), 1),
    (Duration::from_secs(16), 1),
];

/// How long a number may be missing before it is pulled: it may be on its way.
pub(crate) const MISSING_GRACE: Duration = Duration::from_millis(20);

/// How long after a pull that did not help, or a sync that failed, the next is tried.
pub(crate) const RETRY: Duration = Duration::from_millis(250);

/// How many pulls in a row, each after twice the time, may bring nothing of what is missing before it is left to the
/// comparison of fingerprints: about four seconds.
pub(crate) const MAX_PULLS: u32 = 5;

/// When news of a list is told again after the first time.
pub(crate) const LISTS_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// To how many random members it is told again: like heads, that finds whom the first wave has missed.
pub(crate) const LISTS_AGAIN_FAN_OUT: usize = 3;

/// How long after telling of lists the next ones wait for each other. When a thousand nodes start at once, each hears of
/// a thousand lists one after the other, and would tell each in datagrams of its own.
pub(crate) const LISTS_PAUSE: Duration = Duration::from_millis(20);

/// How long the list of somebody new may be missing before it is asked for.
pub(crate) const UNLISTED_GRACE: Duration = Duration::from_millis(50);

/// How often the pause doubles, from [`RETRY`] on, between two who are asked for lists that have not come.
pub(crate) const LISTS_ASKED_DOUBLINGS: u32 = 3;

/// When others with whom there is a connection were asked for a list in vain, its owner itself is dialled every so many times.
pub(crate) const OWNER_ASKED_EVERY: u32 = 4;

/// Fingerprints count as different only when one's own has not changed for so long: in a busy network they practically
/// never agree.
pub(crate) const QUIESCENT_AFTER: Duration = Duration::from_secs(1);

/// How long a returned owner's entries wait to be compared before they are shown as they are.
pub(crate) const COMPARISON_TIMEOUT: Duration = Duration::from_secs(5);

/// With so many members a network is compared at once for the sake of what waits for a comparison: with half as many owners
/// of it, as they return, then with whoever else is there.
pub(crate) const AWAITED_AT_ONCE: usize = 4;

/// How long a session may make no progress.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The same once everything is sent: the last of it may still be on its way. A stream takes up to 2 MiB in advance, which are
/// 17 s of a megabit a second.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the final syncs of a network may take from when they are opened. What waits for capacity, because many
/// networks are left at once, does not count.
pub(crate) const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long leaving a network may take in any case.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// How many members in a row may answer that they are not on the network, although they still count as such, before the next
/// one is asked only after a while. Honest ones do so when they have come back since; each answer takes a round trip.
pub(crate) const MAX_ABSENCES: u32 = 8;

/// With so many members the final sync is done.
pub(crate) const FINAL_SYNCS: usize = 2;

/// How long a network just joined waits for the lists of nodes that are known to be there before it takes itself for
/// the first one on it.
pub(crate) const LISTS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a first sync or a pull may go without an answer before another is made beside it, with somebody else.
pub(crate) const FIRST_RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the peer of a session may send nothing before what it was to bring is asked of somebody else. A frame takes half a second
/// of a megabit a second, and several may share the link.
pub(crate) const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many first syncs may break off before the network counts as ready all the same. That there is no capacity for one,
/// here or there, is no failure.
pub(crate) const INITIAL_SYNC_TRIES: u32 = 3;

/// How long a network that has members counts as not ready at most: as long as three first syncs that get stuck.
pub(crate) const INITIAL_SYNC_LIMIT: Duration = Duration::from_secs(30);

/// How many sessions this node opens at a time; further ones wait for their turn.
pub(crate) const MAX_OPENED_SESSIONS: usize = 32;

/// How many of them with one peer, which lets four times as many in. One that takes long, or cannot be reached, leaves
/// most of the capacity to the others.
pub(crate) const MAX_OPENED_TO_PEER: usize = 8;

/// How many of them may be exchanges of lists.
pub(crate) const MAX_LIST_SESSIONS: usize = 8;

/// How long a peer that turns a session away as busy is left alone, give or take half.
pub(crate) fn busy_backoff(refusals: u32) -> Duration {
    Duration::from_millis(100) * 2u32.pow(refusals.min(5))
}

/// In a network that is never still as a whole: how often what is settled of each attachment is told, and how long after
/// the first change that begins.
pub(crate) const SETTLED_INTERVAL: Duration = Duration::from_millis(500);
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// After so long a pause changes count as the first ones again. Longer than `QUIESCENT_AFTER`: where the pauses between changes are now
/// a little shorter than that and now a little longer, members that compare fingerprints would rarely find both of them still.
pub(crate) const SETTLED_UNTIL: Duration = Duration::from_secs(3);

/// To how many random members it is told.
pub(crate) const SETTLED_FAN_OUT: usize = 2;

/// How long after a full sync that differing settled parts asked for the next may be, for each 64 attachments: what is
/// overwritten just now differs for a moment and looks the same.
pub(crate) const SETTLED_PAUSE: Duration = Duration::from_secs(1);

/// Of the sessions that peers may open, one peer may have one part in so many.
pub(crate) const SESSION_SHARES: usize = 4;

/// How many answers may wait in a session while its peer goes on asking. Who takes turns never has more than a few.
pub(crate) const MAX_WAITING_ANSWERS: usize = 16;

/// Into how many ranges, all attachments together, what a peer says it holds may be torn in one session. 16 bytes each.
pub(crate) const MAX_HELD_RANGES: usize = 1 << 20;

/// How many attachments that are refused, or spans that differ, a peer may name in one session before it is given up.
pub(crate) const MAX_NAMED: usize = 1 << 16;

/// How long datagrams about lives unknown to membership are kept for it to catch up. Dropping is harmless.
pub(crate) const DEFERRED_FOR: Duration = Duration::from_secs(10);

/// How long after a write was refused it is tried anew, and the most that this grows to by doubling: what was refused because
/// there was no capacity, or for its time, is taken within about so long after that has passed.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(128);

/// How long after one refusal was logged the next ones of the same network are only counted.
pub(crate) const REFUSED_LOG_PAUSE: Duration = Duration::from_secs(30);
