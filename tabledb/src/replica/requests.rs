//! Requests for sessions: a fair queue over networks and kinds, and a window of open sessions per peer.
//!
//! A request is never dropped for lack of capacity. One request per network, kind and peer can wait, so the
//! queue is bounded by three times the members of all networks joined here; in practice a network has one or
//! two.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use rand::{Rng, RngExt};
use wire::NodeName;

use super::message::SessionKind;
use super::timing::{MAX_OPENED_SESSIONS, MAX_OPENED_TO_PEER, busy_backoff};
use crate::record::AttachmentIndex;

/// The purpose of a session about a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) enum SyncKind {
    Full,
    Pull,
    Push { relay: bool },
}

impl From<SyncKind> for SessionKind {
    fn from(kind: SyncKind) -> Self {
        match kind {
            SyncKind::Full => Self::Full,
            SyncKind::Pull => Self::Pull,
            SyncKind::Push { relay } => Self::Push { relay },
        }
    }
}

/// A session that a network wants opened.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct SessionRequest {
    pub(crate) kind: SyncKind,
    pub(crate) network: Arc<str>,
    pub(crate) peer: NodeName,
    /// For a pull or push: the attachments that it is about.
    pub(crate) indexes: BTreeSet<AttachmentIndex>,
    /// Only the anti-entropy period caused it, no known difference.
    pub(crate) periodic: bool,
}

/// Requests of a network that are served in turn with other classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
enum Class {
    Full,
    Pull,
    Push,
}

impl Class {
    fn of(kind: SyncKind) -> Self {
        match kind {
            SyncKind::Full => Self::Full,
            SyncKind::Pull => Self::Pull,
            SyncKind::Push { .. } => Self::Push,
        }
    }
}

type Turn = (Arc<str>, Class);

/// The state of a peer as a server of sessions. Its window follows the peer's responses by additive increase
/// and multiplicative decrease, so that the peer soon need not turn sessions away.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
struct Window {
    open: usize,
    allowed: usize,
    /// `Busy` responses since the last session that the peer served.
    refusals: u32,
    /// No session is opened to the peer before this time.
    not_before: Option<Instant>,
}

impl Default for Window {
    fn default() -> Self {
        Self { open: 0, allowed: MAX_OPENED_TO_PEER, refusals: 0, not_before: None }
    }
}

impl Window {
    fn takes_more(&self) -> bool {
        self.open < self.allowed && self.not_before.is_none()
    }

    fn is_default(&self) -> bool {
        self.open == 0
            && self.allowed == MAX_OPENED_TO_PEER
            && self.refusals == 0
            && self.not_before.is_none()
    }
}

/// The queue, and the number of sessions that this node has open.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Requests {
    /// The order of turns, the next one first.
    turns: VecDeque<Turn>,
    waiting: BTreeMap<Turn, VecDeque<SessionRequest>>,
    windows: BTreeMap<NodeName, Window>,
    open: usize,
    /// No waiting request can be opened until something changes.
    blocked: bool,
}

impl Requests {
    /// Queues a request. A waiting request for the same network, kind and peer is extended instead.
    pub(crate) fn push(&mut self, request: SessionRequest) {
        self.blocked = false;
        let turn = (request.network.clone(), Class::of(request.kind));
        let queue = self.waiting.entry(turn.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(turn);
        }
        match queue.iter_mut().find(|waiting| waiting.peer == request.peer) {
            Some(waiting) => {
                waiting.indexes.extend(request.indexes);
                waiting.periodic &= request.periodic;
                if let SyncKind::Push { relay: true } = request.kind {
                    waiting.kind = request.kind;
                }
            }
            None => queue.push_back(request),
        }
    }

    /// The next session to open, if there is capacity for any waiting request.
    pub(crate) fn next(&mut self) -> Option<SessionRequest> {
        if self.blocked || self.open >= MAX_OPENED_SESSIONS {
            return None;
        }
        for at in 0..self.turns.len() {
            let turn = &self.turns[at];
            let Some(queue) = self.waiting.get_mut(turn) else { continue };
            let can_open = |request: &SessionRequest| match self.windows.get(&request.peer) {
                Some(window) => window.takes_more(),
                None => true,
            };
            let Some(found) = queue.iter().position(can_open) else { continue };
            let request = queue.remove(found);
            let is_empty = queue.is_empty();
            let turn = self.turns.remove(at)?;
            if is_empty {
                self.waiting.remove(&turn);
            } else {
                self.turns.push_back(turn);
            }
            return request;
        }
        self.blocked = true;
        None
    }

    /// The number of waiting requests.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// The number of open sessions that this node opened.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// The members with which a full sync of this network waits.
    pub(crate) fn full_syncs(&self, network: &Arc<str>) -> impl Iterator<Item = &NodeName> {
        let queue = self.waiting.get(&(network.clone(), Class::Full));
        queue.into_iter().flatten().map(|request| &request.peer)
    }

    /// Drops waiting full syncs of this network, with `peer` or with all.
    pub(crate) fn forget_full_syncs(&mut self, network: &Arc<str>, peer: Option<&str>) {
        self.retain(|turn, request| {
            let other = peer.is_some_and(|peer| request.peer.as_str() != peer);
            turn.1 != Class::Full || turn.0 != *network || other
        });
    }

    /// The network has been left.
    pub(crate) fn forget_network(&mut self, network: &str) {
        self.retain(|turn, _| *turn.0 != *network);
    }

    /// The peer's instance has ended.
    pub(crate) fn forget_peer(&mut self, peer: &str) {
        self.retain(|_, request| request.peer.as_str() != peer);
        if let Some(window) = self.windows.get_mut(peer) {
            *window = Window { open: window.open, ..Window::default() };
            if window.is_default() {
                self.windows.remove(peer);
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(&Turn, &SessionRequest) -> bool) {
        self.waiting.retain(|turn, queue| {
            queue.retain(|request| keep(turn, request));
            !queue.is_empty()
        });
        let waiting = &self.waiting;
        self.turns.retain(|turn| waiting.contains_key(turn));
    }

    /// A session to this peer has been opened.
    pub(crate) fn opened(&mut self, peer: &NodeName) {
        self.open += 1;
        self.windows.entry(peer.clone()).or_default().open += 1;
    }

    /// A session that this node opened is over.
    pub(crate) fn closed(&mut self, peer: &NodeName) {
        self.blocked = false;
        self.open = self.open.saturating_sub(1);
        if let Some(window) = self.windows.get_mut(peer) {
            window.open = window.open.saturating_sub(1);
            if window.is_default() {
                self.windows.remove(peer);
            }
        }
    }

    /// The peer has served a session.
    pub(crate) fn served(&mut self, peer: &NodeName) {
        if let Some(window) = self.windows.get_mut(peer) {
            window.refusals = 0;
            window.allowed = (window.allowed + 1).min(MAX_OPENED_TO_PEER);
            self.blocked = false;
        }
    }

    /// The peer has turned a session away: it is not asked for a while, then for fewer sessions at a time.
    pub(crate) fn turned_away(&mut self, peer: &NodeName, rng: &mut impl Rng, now: Instant) {
        let window = self.windows.entry(peer.clone()).or_default();
        // Sessions that were opened together are turned away together, which counts as one refusal.
        if window.not_before.is_some() {
            return;
        }
        window.allowed = (window.allowed / 2).max(1);
        window.not_before = Some(now + busy_backoff(window.refusals).mul_f64(rng.random_range(0.5..1.5)));
        window.refusals += 1;
    }

    /// Whether the peer has recently turned a session away.
    pub(crate) fn is_backing_off(&self, peer: &NodeName) -> bool {
        self.windows.get(peer).is_some_and(|window| window.not_before.is_some())
    }

    /// The next time at which a backed-off peer may be asked again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.windows.values().filter_map(|window| window.not_before).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for window in self.windows.values_mut() {
            if window.not_before.is_some_and(|at| at <= now) {
                window.not_before = None;
                self.blocked = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn request(network: &str, peer: &str, kind: SyncKind) -> SessionRequest {
        let peer = NodeName::new(peer).unwrap();
        SessionRequest { kind, network: network.into(), peer, indexes: BTreeSet::new(), periodic: true }
    }

    fn next(requests: &mut Requests) -> Option<(String, String)> {
        let request = requests.next()?;
        requests.opened(&request.peer);
        Some((request.network.to_string(), request.peer.to_string()))
    }

    fn pair(network: &str, peer: &str) -> Option<(String, String)> {
        Some((network.to_owned(), peer.to_owned()))
    }

    #[test]
    fn networks_take_turns_and_so_do_kinds() {
        let mut requests = Requests::default();
        for peer in ["a", "b", "c"] {
            requests.push(request("large", peer, SyncKind::Push { relay: false }));
        }
        requests.push(request("large", "d", SyncKind::Full));
        requests.push(request("small", "e", SyncKind::Full));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut requests)).map(|(_, peer)| peer).collect();
        assert_eq!(order, ["a", "d", "e", "b", "c"]);
        assert_eq!(requests.len(), 0);
    }

    #[test]
    fn a_request_like_one_that_waits_is_merged_with_it() {
        let mut requests = Requests::default();
        requests.push(request("n", "a", SyncKind::Push { relay: false }));
        let more = request("n", "a", SyncKind::Push { relay: true });
        requests.push(SessionRequest {
            indexes: BTreeSet::from([AttachmentIndex(3)]),
            periodic: false,
            ..more
        });
        let merged = requests.next().unwrap();
        assert_eq!((merged.kind, merged.periodic), (SyncKind::Push { relay: true }, false));
        assert_eq!(merged.indexes, BTreeSet::from([AttachmentIndex(3)]));
        assert!(requests.next().is_none());
    }

    #[test]
    fn one_peer_does_not_take_all_the_capacity_and_nothing_is_lost_for_want_of_it() {
        let mut requests = Requests::default();
        for number in 0..100 {
            requests.push(request(&format!("n{number}"), "slow", SyncKind::Full));
        }
        requests.push(request("n0", "quick", SyncKind::Full));
        let opened: Vec<_> = std::iter::from_fn(|| next(&mut requests)).collect();
        assert_eq!(opened.len(), MAX_OPENED_TO_PEER + 1);
        assert!(opened.iter().any(|(_, peer)| peer == "quick"));
        let mut served = opened.len();
        let slow = NodeName::new("slow").unwrap();
        while requests.len() > 0 {
            requests.closed(&slow);
            served += std::iter::from_fn(|| next(&mut requests)).count();
        }
        assert_eq!(served, 101);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn a_peer_that_turns_sessions_away_is_asked_later_and_for_less() {
        let (mut now, mut rng) = (Instant::now(), ChaCha8Rng::seed_from_u64(1));
        let (mut requests, peer) = (Requests::default(), NodeName::new("busy").unwrap());
        let mut pauses = Vec::new();
        for round in 0..8 {
            requests.push(request("n", "busy", SyncKind::Full));
            assert_eq!(next(&mut requests), pair("n", "busy"));
            requests.turned_away(&peer, &mut rng, now);
            requests.closed(&peer);
            requests.push(request("n", "busy", SyncKind::Full));
            assert!(requests.is_backing_off(&peer) && next(&mut requests).is_none(), "{round}");
            let until = requests.next_deadline().unwrap();
            pauses.push(until - now);
            now = until;
            requests.handle_timeout(now);
            requests.forget_full_syncs(&"n".into(), Some(peer.as_str()));
        }
        assert!(pauses[0] < Duration::from_millis(200) && pauses[7] > Duration::from_secs(1), "{pauses:?}");
        for number in 0..5 {
            requests.push(request(&format!("n{number}"), "busy", SyncKind::Full));
        }
        assert_eq!(std::iter::from_fn(|| next(&mut requests)).count(), 1);
        requests.served(&peer);
        assert_eq!(std::iter::from_fn(|| next(&mut requests)).count(), 1);
        requests.forget_peer("busy");
        assert_eq!((requests.len(), requests.open()), (0, 2));
    }
}
