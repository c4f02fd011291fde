//! The times and sizes of the protocol, each with its reason. Chosen for a LAN; on a WAN the grace periods
//! are short, which costs a needless pull now and then, never correctness.

use std::time::Duration;

/// The size up to which a datagram is filled, in bytes: QUIC guarantees 1,162 on any path, of which a node
/// uses a few.
pub(crate) const DATAGRAM_BUDGET: usize = 1140;

/// The time after updates were sent in which further ones wait for each other, to share a datagram. A single
/// write does not wait; at a thousand writes a second five share one.
pub(crate) const UPDATES_PAUSE: Duration = Duration::from_millis(5);

/// The time that the first attachment list waits for others to share its datagram.
pub(crate) const LISTS_DELAY: Duration = Duration::from_millis(2);

/// More bytes of updates than this go over streams instead: eight datagrams.
pub(crate) const BACKLOG_BYTES: usize = 8 * DATAGRAM_BUDGET;

/// Up to this number of other members, a writer sends to all of them itself, and no node relays.
pub(crate) const DIRECT_MEMBERS: usize = 8;

/// In larger networks, the number of random members to which a writer sends its updates, and each receiver
/// relays those that are new to it.
///
/// With ln n + c each, one such wave reaches all of n members with a probability of e to the power of −e⁻ᶜ
/// (Eugster, Guerraoui, Kermarrec and Massoulié 2004), here nine times in ten whatever the size; the high
/// watermarks find the rest. A constant number would miss a constant share, so in a large network it would
/// always miss some member, which would have to wait for the watermarks.
pub(crate) fn fan_out(members: usize) -> usize {
    (members.max(1) as f64).ln().ceil() as usize + 2
}

/// The number of random members to which more updates than datagrams should carry are pushed over streams.
pub(crate) const PUSH_FAN_OUT: usize = 4;

/// The times after an attachment's last change at which its high watermark is sent again, and to how many
/// random members. After the last of them, nothing is sent.
///
/// The first three find lost datagrams: with a loss of one in ten, even between only two nodes, all three and
/// the update itself are lost once in ten thousand times. The later ones find nodes that were cut off. Their
/// pauses double, so that after a cut of any length up to the last of them the two sides detect the
/// difference within about the same time again, without waiting for a probe between just these two.
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

/// The time for which a number may be missing before it is pulled: it may be on its way.
pub(crate) const MISSING_GRACE: Duration = Duration::from_millis(20);

/// The pause after an unsuccessful pull, or a failed sync, before the next one.
pub(crate) const RETRY: Duration = Duration::from_millis(250);

/// The number of pulls in a row, each after twice the pause, that may bring no missing number before the
/// comparison of fingerprints has to find it: about four seconds.
pub(crate) const MAX_PULLS: u32 = 5;

/// The times at which a new attachment list is sent again after the first time.
pub(crate) const LISTS_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(200)];

/// The number of random members to which it is sent again: like watermarks, this finds nodes that the first
/// wave missed.
pub(crate) const LISTS_AGAIN_FAN_OUT: usize = 3;

/// The time for which further lists wait for each other after lists were sent. When a thousand nodes start at
/// once, each receives a thousand lists one after the other, and would otherwise send each in its own
/// datagrams.
pub(crate) const LISTS_PAUSE: Duration = Duration::from_millis(20);

/// The time for which the attachment list of a new node may be missing before this node asks for it.
pub(crate) const UNLISTED_GRACE: Duration = Duration::from_millis(50);

/// How many times the pause doubles, starting at [`RETRY`], between two requests for missing lists.
pub(crate) const LISTS_ASKED_DOUBLINGS: u32 = 3;

/// After this number of requests to connected peers that did not bring a list, its owner is dialled.
pub(crate) const OWNER_ASKED_EVERY: u32 = 4;

/// A network is quiescent when its fingerprint has not changed for this time. Only then are fingerprints
/// compared: those of busy networks practically never agree.
pub(crate) const QUIESCENT_AFTER: Duration = Duration::from_secs(1);

/// The time for which a returned owner's entries wait for a comparison before they are shown as they are.
pub(crate) const COMPARISON_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of members with which a network is compared at once for hidden entries: half of them owners, as
/// they return, then any other members.
pub(crate) const AWAITED_AT_ONCE: usize = 4;

/// The time for which a session may make no progress.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The same once everything is sent, while the end of it may still be on its way. A stream buffers up to 2
/// MiB, which take 17 s at a megabit a second.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The time that the final syncs of a network may take after they are opened. Waiting for capacity, because
/// many networks are left at once, does not count.
pub(crate) const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum time for leaving a network.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// The number of members in a row that may respond that they are not on the network, although they count as
/// members, before the next one is asked only after a pause. Correct ones do so when they have returned
/// since; each response takes a round trip.
pub(crate) const MAX_ABSENCES: u32 = 8;

/// The number of members with which a final sync is made.
pub(crate) const FINAL_SYNCS: usize = 2;

/// The time for which a newly joined network waits for the attachment lists of known nodes before this node
/// considers itself its first member.
pub(crate) const LISTS_TIMEOUT: Duration = Duration::from_secs(2);

/// The time for which an initial sync or a pull may have no response before another is made beside it, with
/// another member.
pub(crate) const FIRST_RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The time for which the peer of a session may send nothing before its updates are requested from another
/// member. A frame takes half a second at a megabit a second, and several may share the link.
pub(crate) const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// The number of initial syncs that may fail before the network counts as ready. A lack of capacity, on
/// either side, is no failure.
pub(crate) const INITIAL_SYNC_TRIES: u32 = 3;

/// The maximum time for which a network with members counts as not ready: as long as three initial syncs that
/// get stuck.
pub(crate) const INITIAL_SYNC_LIMIT: Duration = Duration::from_secs(30);

/// The most sessions that this node has open at a time; further ones wait.
pub(crate) const MAX_OPENED_SESSIONS: usize = 32;

/// The most of them with one peer, which accepts four times as many. A slow or unreachable peer leaves most
/// of the capacity to the others.
pub(crate) const MAX_OPENED_TO_PEER: usize = 8;

/// The most of them that may be exchanges of lists.
pub(crate) const MAX_LIST_SESSIONS: usize = 8;

/// The pause, varied by half, after a peer turned a session away as busy.
pub(crate) fn busy_backoff(refusals: u32) -> Duration {
    Duration::from_millis(100) * 2u32.pow(refusals.min(5))
}

/// In a network that is not quiescent: the interval of the reports of settled attachments, and the time from
/// the first change to the first report.
pub(crate) const SETTLED_INTERVAL: Duration = Duration::from_millis(500);
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// After a pause of this length, a change counts as the first one again. Longer than `QUIESCENT_AFTER`: where
/// the pauses between changes vary around that value, members that compare fingerprints would rarely both be
/// quiescent.
pub(crate) const SETTLED_UNTIL: Duration = Duration::from_secs(3);

/// The number of random members that receive each report.
pub(crate) const SETTLED_FAN_OUT: usize = 2;

/// The pause between two full syncs that differing settled parts cause, for each 64 attachments: writes in
/// progress cause the same difference for a moment.
pub(crate) const SETTLED_PAUSE: Duration = Duration::from_secs(1);

/// One peer may have one of this number of parts of the sessions that peers may open.
pub(crate) const SESSION_SHARES: usize = 4;

/// The most responses that may wait in a session while its peer continues to ask. A peer that takes turns
/// never has more than a few.
pub(crate) const MAX_WAITING_ANSWERS: usize = 16;

/// The most ranges, of all attachments together, in the version vector of a peer in one session. 16 bytes
/// each.
pub(crate) const MAX_HELD_RANGES: usize = 1 << 20;

/// The most refused attachments, or differing spans, that a peer may name in one session before it is given
/// up.
pub(crate) const MAX_NAMED: usize = 1 << 16;

/// The time for which datagrams about instances unknown to membership are deferred. Dropping them is
/// harmless.
pub(crate) const DEFERRED_FOR: Duration = Duration::from_secs(10);

/// The pause before a refused write is retried, and the maximum to which it doubles: a write refused for lack
/// of capacity, or for its time, is applied within about this time after the cause has gone.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(128);

/// After one refusal was logged, the time for which further ones of the same network are only counted.
pub(crate) const REFUSED_LOG_PAUSE: Duration = Duration::from_secs(30);
