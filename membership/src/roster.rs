//! The table of all other members with its derived indices.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use wire::NodeName;

use crate::member::Member;
use crate::member::State;
use crate::sample_set::SampleSet;
use crate::suspicion::Suspicion;

/// A member together with state that is local to this node.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) member: Member,
    /// The incarnation that issued the record. It is behind while this node has received only a
    /// suspicion of a newer one.
    pub(crate) record_incarnation: u64,
    /// Boxed: few members are suspected at a time, and each node keeps an entry for every other
    /// node.
    pub(crate) suspicion: Option<Box<Suspicion>>,
    /// Whether an event has reported this member as joined.
    pub(crate) announced: bool,
    /// When it is removed, once it has failed or left.
    pub(crate) forget_at: Option<Instant>,
    /// When this node last sent it the claim about it.
    pub(crate) notified_at: Option<Instant>,
    /// When this node last answered a suspicion of it with a suspicion of its own, while it
    /// considers it failed already.
    pub(crate) confirmation_sent_at: Option<Instant>,
    /// When it last answered a probe of this node, and after what time.
    pub(crate) acknowledged: Option<(Instant, Duration)>,
    /// Boxed like the suspicion, which it outlasts.
    pub(crate) accused: Option<Box<Accused>>,
}

impl Entry {
    pub(crate) fn new(member: Member) -> Self {
        let record_incarnation = member.incarnation;
        Self {
            member,
            record_incarnation,
            suspicion: None,
            announced: false,
            forget_at: None,
            notified_at: None,
            confirmation_sent_at: None,
            acknowledged: None,
            accused: None,
        }
    }

    /// Its contribution to the digest of the list.
    fn fingerprint(&self) -> u64 {
        let (id, incarnation) = (&self.member.record.id, self.member.incarnation);
        match self.member.state {
            // A suspicion makes no difference: it is transient.
            State::Alive | State::Suspect => active_fingerprint(id, incarnation, self.record_incarnation),
            // Nodes that keep different failed members keep different tables.
            State::Failed => failed_fingerprint(id, incarnation),
            // No node keeps entries of it, and a node that considers it alive has a different
            // digest for that reason.
            State::Left => 0,
        }
    }
}

/// Who accused a member in its last suspicion, for operators.
#[derive(Debug)]
pub(crate) struct Accused {
    pub(crate) at: Instant,
    pub(crate) accuser: NodeName,
    /// As many as the suspicion counts.
    pub(crate) confirmed_by: Vec<NodeName>,
    pub(crate) failed_by: Option<NodeName>,
}

impl Accused {
    pub(crate) fn new(accuser: NodeName, at: Instant) -> Self {
        Self { at, accuser, confirmed_by: Vec::new(), failed_by: None }
    }
}

/// All other members by name.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: BTreeMap<NodeName, Entry>,
    active: SampleSet,
    /// Active members that are suspected.
    suspects: BTreeSet<NodeName>,
    failed: SampleSet,
    /// Nodes with an open connection, members or not; `None` until connections have been reported.
    connected: Option<BTreeSet<NodeName>>,
    /// Active members with an open connection.
    connected_active: SampleSet,
    /// Cached result of [`Self::neighbour`] and the ring position it was computed for.
    neighbour: Option<(u64, NodeName)>,
    /// Failed and left members in the order of their removal.
    departed: BTreeSet<(Instant, NodeName)>,
    digest: u64,
}

impl Roster {
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(crate) fn is_active(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.member.state.is_active())
    }

    pub(crate) fn active(&self) -> &SampleSet {
        &self.active
    }

    /// Active members with an open connection; `None` if no connections have been reported.
    pub(crate) fn connected_active(&self) -> Option<&SampleSet> {
        self.connected.as_ref().map(|_| &self.connected_active)
    }

    /// Whether data can be sent to this member without a handshake, as far as is known.
    pub(crate) fn reachable_without_handshake(&self, name: &NodeName) -> bool {
        self.connected.as_ref().is_none_or(|connected| connected.contains(name))
    }

    /// Records whether a connection to a node exists.
    pub(crate) fn set_connected(&mut self, name: &NodeName, is_connected: bool) {
        let connected = self.connected.get_or_insert_default();
        if is_connected {
            connected.insert(name.clone());
            if self.entries.get(name).is_some_and(|entry| entry.member.state.is_active()) {
                self.connected_active.insert(name);
            }
        } else {
            connected.remove(name);
            self.connected_active.remove(name.as_str());
        }
    }

    /// Records that no connections exist.
    pub(crate) fn forget_connections(&mut self) {
        self.connected = Some(BTreeSet::new());
        self.connected_active = SampleSet::default();
    }

    pub(crate) fn suspects(&self) -> &BTreeSet<NodeName> {
        &self.suspects
    }

    /// The member that `me` monitors: its next unsuspected successor on a ring ordered by hashed
    /// names. The hash separates nodes with consecutive names, which may fail together, so that
    /// they do not monitor each other. Nodes that agree on the members agree on who monitors whom.
    /// O(members) after the neighbour itself changed, else O(1).
    pub(crate) fn neighbour(&mut self, me: &NodeName) -> Option<&NodeName> {
        if self.neighbour.is_none() {
            let mine = ring_position(me);
            let trusted = self.active.names().iter().filter(|name| !self.suspects.contains(*name));
            let next = trusted.min_by_key(|name| ring_distance(mine, name))?;
            self.neighbour = Some((mine, next.clone()));
        }
        self.neighbour.as_ref().map(|(_, name)| name)
    }

    pub(crate) fn failed(&self) -> &SampleSet {
        &self.failed
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The members whose names follow `after`, in order.
    pub(crate) fn after(&self, after: Option<&NodeName>) -> impl Iterator<Item = &Entry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range::<NodeName, _>((from, Bound::Unbounded)).map(|(_, entry)| entry)
    }

    /// The members whose names are before `name`, in order.
    pub(crate) fn before(&self, name: &NodeName) -> impl Iterator<Item = &Entry> {
        self.entries.range::<NodeName, _>(..name).map(|(_, entry)| entry)
    }

    /// Digest of the active and the failed members, their instances and incarnations; independent
    /// of the order of events.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The departed member that is removed next, and when.
    pub(crate) fn next_departed(&self) -> Option<&(Instant, NodeName)> {
        self.departed.first()
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let name = entry.member.name().clone();
        self.remove(name.as_str());
        self.index(&name, &entry);
        self.entries.insert(name, entry);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Entry> {
        let (name, entry) = self.entries.remove_entry(name)?;
        self.unindex(&name, &entry);
        Some(entry)
    }

    /// Changes a member and updates all indices.
    pub(crate) fn change<R>(&mut self, name: &str, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let (name, mut entry) = self.entries.remove_entry(name)?;
        self.unindex(&name, &entry);
        let result = change(&mut entry);
        self.index(&name, &entry);
        self.entries.insert(name, entry);
        Some(result)
    }

    /// Changes fields of a member that no index depends on.
    pub(crate) fn note(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(name) {
            let before = (entry.fingerprint(), entry.member.state, entry.forget_at);
            change(entry);
            debug_assert_eq!(before, (entry.fingerprint(), entry.member.state, entry.forget_at));
        }
    }

    fn index(&mut self, name: &NodeName, entry: &Entry) {
        if let Some((mine, neighbour)) = &mut self.neighbour
            && entry.member.state == State::Alive
            && ring_distance(*mine, name) < ring_distance(*mine, neighbour)
        {
            *neighbour = name.clone();
        }
        self.digest = self.digest.wrapping_add(entry.fingerprint());
        match entry.member.state {
            State::Alive | State::Suspect => {
                self.active.insert(name);
                if self.connected.as_ref().is_some_and(|connected| connected.contains(name)) {
                    self.connected_active.insert(name);
                }
            }
            State::Failed => self.failed.insert(name),
            State::Left => {}
        }
        if entry.member.state == State::Suspect {
            self.suspects.insert(name.clone());
        }
        if let Some(at) = entry.forget_at {
            self.departed.insert((at, name.clone()));
        }
    }

    fn unindex(&mut self, name: &NodeName, entry: &Entry) {
        self.neighbour.take_if(|(_, neighbour)| neighbour == name);
        self.digest = self.digest.wrapping_sub(entry.fingerprint());
        match entry.member.state {
            State::Alive | State::Suspect => {
                self.active.remove(name.as_str());
                self.connected_active.remove(name.as_str());
            }
            State::Failed => self.failed.remove(name.as_str()),
            State::Left => {}
        }
        if entry.member.state == State::Suspect {
            self.suspects.remove(name.as_str());
        }
        if let Some(at) = entry.forget_at {
            self.departed.remove(&(at, name.clone()));
        }
    }
}

/// Contribution of an active member to the digest of a member list. Labels and address need no part
/// of their own: each change of them increases the incarnation of the record.
pub(crate) fn active_fingerprint(id: &wire::NodeId, incarnation: u64, record_incarnation: u64) -> u64 {
    fingerprint(id, State::Alive, [incarnation, record_incarnation])
}

/// Contribution of a failed member. Its record may be out of date: the node cannot be asked for it.
fn failed_fingerprint(id: &wire::NodeId, incarnation: u64) -> u64 {
    fingerprint(id, State::Failed, [incarnation, 0])
}

fn fingerprint(id: &wire::NodeId, state: State, incarnations: [u64; 2]) -> u64 {
    let state = if state == State::Failed { 1u8 } else { 0 };
    let numbers = [id.generation].into_iter().chain(incarnations).flat_map(u64::to_le_bytes);
    hash_bytes(id.name.as_str().bytes().chain([state]).chain(numbers))
}

fn ring_position(name: &NodeName) -> u64 {
    hash_bytes(name.as_str().bytes())
}

/// Distance of a member from a ring position in one direction; all distances differ.
fn ring_distance(from: u64, name: &NodeName) -> (u64, &NodeName) {
    (ring_position(name).wrapping_sub(from), name)
}

/// FNV-1a with a finalizer, because hashes are summed and compared by magnitude.
///
/// Implemented here because it must be identical in every version of the program; the hasher of the
/// standard library may change.
fn hash_bytes(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{member, start};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_indices_follow_every_change(
            changes in proptest::collection::vec((0usize..8, 0u64..3, 0usize..7), 0..60)
        ) {
            let mut roster = Roster::default();
            let mut connected = BTreeSet::new();
            for (number, incarnation, state) in changes {
                let name = format!("n{number}");
                if state > 4 {
                    let name = NodeName::new(&name).expect("valid");
                    roster.set_connected(&name, state == 5);
                    match state {
                        5 => drop(connected.insert(name)),
                        _ => drop(connected.remove(&name)),
                    }
                    continue;
                }
                let departed = start() + Duration::from_secs(incarnation);
                let set = |entry: &mut Entry, state: State| {
                    entry.member.state = state;
                    entry.member.incarnation = incarnation;
                    entry.forget_at = (!state.is_active()).then_some(departed);
                };
                let states = [State::Alive, State::Suspect, State::Failed, State::Left];
                match states.get(state) {
                    None => drop(roster.remove(&name)),
                    Some(state) if roster.get(&name).is_some() => {
                        roster.change(&name, |entry| set(entry, *state));
                    }
                    Some(state) => {
                        let mut entry = Entry::new(member(&name, 1));
                        set(&mut entry, *state);
                        roster.insert(entry);
                    }
                }
                let me = NodeName::new("me").expect("valid");
                let found = roster.neighbour(&me).cloned();
                roster.neighbour = None;
                prop_assert_eq!(found.as_ref(), roster.neighbour(&me));
            }
            let members = roster.after(None).map(|entry| entry.member.clone()).collect::<Vec<_>>();
            let names = |wanted: fn(State) -> bool| {
                let wanted = members.iter().filter(|member| wanted(member.state));
                wanted.map(|member| member.name().clone()).collect::<BTreeSet<_>>()
            };
            let set = |set: &SampleSet| set.names().iter().cloned().collect::<BTreeSet<_>>();
            prop_assert_eq!(set(roster.active()), names(State::is_active));
            let active = names(State::is_active);
            let expected = active.intersection(&connected).cloned().collect::<BTreeSet<_>>();
            prop_assert_eq!(set(&roster.connected_active), expected);
            prop_assert_eq!(set(roster.failed()), names(|state| state == State::Failed));
            prop_assert_eq!(roster.suspects(), &names(|state| state == State::Suspect));
            let departed = roster.departed.iter().map(|(_, name)| name.clone()).collect::<BTreeSet<_>>();
            prop_assert_eq!(departed, names(|state| !state.is_active()));
            let digest = members.iter().fold(0u64, |sum, member| {
                let id = &member.record.id;
                let entry = roster.get(member.name().as_str());
                let record_incarnation = entry.map_or(0, |entry| entry.record_incarnation);
                sum.wrapping_add(match member.state {
                    State::Alive | State::Suspect => {
                        active_fingerprint(id, member.incarnation, record_incarnation)
                    }
                    State::Failed => failed_fingerprint(id, member.incarnation),
                    State::Left => 0,
                })
            });
            prop_assert_eq!(roster.digest(), digest);
        }
    }

    #[test]
    fn every_member_is_monitored_by_one_neighbour_and_suspects_by_none() {
        let names = (0..50).map(|number| format!("n{number}")).collect::<Vec<_>>();
        let mut monitored = BTreeSet::new();
        for me in &names {
            let mut roster = Roster::default();
            for other in names.iter().filter(|other| *other != me) {
                roster.insert(Entry::new(member(other, 1)));
            }
            let me = NodeName::new(me).expect("valid");
            let first = roster.neighbour(&me).expect("there are other members").clone();
            assert!(monitored.insert(first.clone()), "{first} twice");
            roster.change(first.as_str(), |entry| entry.member.state = State::Suspect);
            let second = roster.neighbour(&me).expect("there are other members").clone();
            roster.change(first.as_str(), |entry| entry.member.state = State::Alive);
            assert_eq!((roster.neighbour(&me) == Some(&first), first == second), (true, false));
            roster.remove(first.as_str());
            assert_eq!(roster.neighbour(&me), Some(&second));
        }
        let mut alone = Roster::default();
        assert_eq!(alone.neighbour(&NodeName::new("me").expect("valid")), None);
    }

    #[test]
    fn the_fingerprint_is_the_same_in_every_version() {
        let id = member("a", 1).record.id;
        assert_eq!(
            (active_fingerprint(&id, 0, 0), failed_fingerprint(&id, 0)),
            (15265164620190317741, 8320948539726489848)
        );
    }
}
