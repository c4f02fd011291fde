//! The scheduler alone: facts go in, and the requested sessions are looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use wire::{NodeId, StreamId};

use super::super::super::Origin;
use super::super::super::message::AttachmentList;
use super::super::super::node_state::Event;
use super::super::super::session_result::{FullSyncResult, Opener, Outcome, PeerStanding};
use super::super::super::store::Visibility;
use super::super::super::timing::{
    COMPARISON_TIMEOUT, FIRST_RESPONSE_TIMEOUT, INITIAL_SYNC_TRIES, MAX_PULLS,
};
use super::*;
use crate::{Config, JoinOutcome};

const NET: &str = "net";

fn name(number: usize) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

/// The scheduler of n0, which has joined a network on which n1, n2 … are.
struct World {
    scheduler: SyncScheduler,
    node: NodeState,
    store: Store,
    indexes: Vec<AttachmentIndex>,
    now: Instant,
    next_stream: u64,
}

/// A session that was opened.
struct Opened {
    stream: StreamId,
    peer: NodeName,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn new(members: usize) -> Self {
        let now = Instant::now();
        let origin = Origin { now, wall_clock: Duration::from_secs(1_000_000), seed: 1 };
        let me = NodeId::new(name(0), 1);
        let mut node = NodeState::new(Config::new(me.clone()), origin);
        let mut store = Store::new(NET.into(), me.name.clone());
        let mut indexes = vec![store.attach(me, 2, Visibility::Shown)];
        for number in 1..=members {
            let owner = NodeId::new(name(number), 1);
            node.owners.add_instance(&owner);
            let networks = vec![(NET.to_owned(), 2)];
            node.owners.update(&AttachmentList { owner: owner.clone(), version: 2, networks });
            indexes.push(store.attach(owner, 2, Visibility::Shown));
        }
        let scheduler = SyncScheduler::new(NET.into(), &mut node, now);
        Self { scheduler, node, store, indexes, now, next_stream: 0 }
    }

    /// The same after the initial sync.
    fn synchronised(members: usize) -> Self {
        let mut world = Self::new(members);
        let first = world.opened().pop().unwrap();
        world.end(&first, Outcome::Completed, PeerStanding::Synchronised, &[]);
        world.node.events.clear();
        world
    }

    /// Time passes; what is due is requested. Returns the attachments to show.
    fn wait(&mut self, time: Duration) -> Vec<AttachmentIndex> {
        self.now += time;
        self.node.requests.handle_timeout(self.now);
        self.scheduler.request_needed(&self.store, &mut self.node, self.now)
    }

    /// Does what is due, and opens the sessions that have been requested.
    fn opened(&mut self) -> Vec<Opened> {
        self.wait(Duration::ZERO);
        let mut opened = Vec::new();
        while let Some(request) = self.node.requests.next() {
            let (stream, peer) = (StreamId(self.next_stream), request.peer);
            self.next_stream += 1;
            if self.scheduler.session_opened(stream, request.kind, &peer, self.now) {
                self.node.requests.opened(&peer);
                opened.push(Opened { stream, peer });
            }
        }
        opened
    }

    /// A full sync is over. Returns the attachments to show.
    fn end(
        &mut self,
        sync: &Opened,
        outcome: Outcome,
        standing: PeerStanding,
        shown: &[AttachmentIndex],
    ) -> Vec<AttachmentIndex> {
        let Opened { stream, peer } = sync;
        if outcome == Outcome::TurnedAway {
            self.node.requests.turned_away(peer, &mut self.node.rng, self.now);
        }
        self.node.requests.closed(peer);
        self.scheduler.session_over(*stream);
        let opener = Opener::ThisNode { periodic: false };
        let result = FullSyncResult { stream: *stream, peer, opener, outcome, standing: &standing, shown };
        self.scheduler.full_sync_over(&result, &self.store, &mut self.node, self.now)
    }

    fn end_pull(&mut self, pull: &Opened, outcome: Outcome) {
        let Opened { stream, peer } = pull;
        self.node.requests.closed(peer);
        self.scheduler.session_over(*stream);
        self.scheduler.pull_over(*stream, peer, outcome, &self.store, &mut self.node, self.now);
    }

    /// The owner failed and has returned.
    fn return_of(&mut self, number: usize) {
        let (owner, index) = (name(number), self.indexes[number]);
        self.scheduler.owner_failed(owner.as_str(), Some(index), &mut self.node, self.now);
        self.scheduler.owner_returned(&owner, index, &mut self.node, self.now);
    }

    fn readiness(&mut self) -> Option<JoinOutcome> {
        match self.node.events.pop_front()? {
            Event::NetworkReady { outcome, .. } => Some(outcome),
            _ => None,
        }
    }
}

fn peers(opened: &[Opened]) -> Vec<&NodeName> {
    opened.iter().map(|session| &session.peer).collect()
}

fn only(mut opened: Vec<Opened>) -> Opened {
    assert_eq!(opened.len(), 1, "{:?}", peers(&opened));
    opened.remove(0)
}

#[test]
fn a_member_that_does_not_respond_is_not_the_one_asked_next() {
    let mut world = World::new(6);
    let mut asked = BTreeSet::from([only(world.opened()).peer]);
    world.wait(FIRST_RESPONSE_TIMEOUT - Duration::from_millis(1));
    assert!(world.opened().is_empty(), "it may still respond");
    for _ in 1..6 {
        world.wait(FIRST_RESPONSE_TIMEOUT + RETRY);
        assert!(asked.insert(only(world.opened()).peer));
    }
    world.wait(FIRST_RESPONSE_TIMEOUT + RETRY);
    assert!(world.opened().is_empty(), "all have been asked");
}

/// A member that has died without a word has no connection with a newcomer.
#[test]
fn the_members_with_a_connection_are_asked_first() {
    let mut world = World::new(8);
    let connected = [name(3), name(7)];
    for peer in &connected {
        world.node.connections.change(peer, true);
    }
    for _ in 0..2 {
        let sync = only(world.opened());
        assert!(connected.contains(&sync.peer), "{}", sync.peer);
        world.wait(FIRST_RESPONSE_TIMEOUT + RETRY);
    }
    let sync = only(world.opened());
    assert!(!connected.contains(&sync.peer), "{} was asked twice", sync.peer);
}

#[test]
fn a_member_without_capacity_is_passed_over_and_failures_end_the_wait() {
    let mut world = World::new(2);
    let first = only(world.opened());
    world.end(&first, Outcome::TurnedAway, PeerStanding::default(), &[]);
    let mut sync = only(world.opened());
    assert_ne!(first.peer, sync.peer, "the other member is asked at once");
    for failures in 1..=INITIAL_SYNC_TRIES {
        assert_eq!(world.readiness(), None);
        world.end(&sync, Outcome::Failed, PeerStanding::default(), &[]);
        assert!(world.opened().is_empty(), "only after a pause");
        world.wait(RETRY);
        sync = only(world.opened());
        assert_eq!(world.node.counters.syncs_failed, u64::from(failures));
    }
    assert_eq!(world.readiness(), Some(JoinOutcome::Unsynchronised));
    world.end(&sync, Outcome::Completed, PeerStanding::Synchronised, &[]);
    assert!(world.scheduler.is_synced());
    assert_eq!(world.readiness(), None, "it has been announced");
}

#[test]
fn a_network_is_ready_when_all_members_are_known_not_to_be_synchronised() {
    let mut world = World::new(3);
    let first = only(world.opened());
    let other = (1..=3).map(name).find(|member| *member != first.peer).unwrap();
    world.end(&first, Outcome::Completed, PeerStanding::Unsynchronised(vec![other.clone()]), &[]);
    assert!(!world.scheduler.is_synced());
    let second = only(world.opened());
    assert!(second.peer != first.peer && second.peer != other, "what the two had is held here");
    world.end(&second, Outcome::Completed, PeerStanding::Unsynchronised(vec![]), &[]);
    assert!(world.scheduler.is_synced());
    assert_eq!(world.readiness(), Some(JoinOutcome::Synchronised));
}

#[test]
fn a_network_is_left_after_final_syncs_with_two_members() {
    let mut world = World::synchronised(6);
    world.scheduler.start_leaving(0, &mut world.node, world.now);
    let mut opened = world.opened();
    assert_eq!(opened.len(), 2, "{:?}", peers(&opened));
    let (second, mut sync) = (opened.pop().unwrap(), opened.pop().unwrap());
    let mut asked = BTreeSet::from([second.peer.clone()]);
    for _ in 1..5 {
        world.end(&sync, Outcome::Failed, PeerStanding::default(), &[]);
        assert!(asked.insert(sync.peer), "those that have not failed come first");
        sync = only(world.opened());
    }
    world.end(&second, Outcome::Completed, PeerStanding::Synchronised, &[]);
    assert!(!world.scheduler.left(world.now));
    world.end(&sync, Outcome::Completed, PeerStanding::Synchronised, &[]);
    assert!(world.scheduler.left(world.now));
    assert_eq!(world.scheduler.final_syncs(), FinalSyncs { wanted: 2, completed: 2 });
}

#[test]
fn a_final_sync_with_a_leaver_or_before_a_failure_saves_nothing() {
    let mut world = World::synchronised(2);
    world.scheduler.start_leaving(0, &mut world.node, world.now);
    let mut opened = world.opened();
    let (second, first) = (opened.pop().unwrap(), opened.pop().unwrap());
    world.end(&first, Outcome::Completed, PeerStanding::Leaving, &[]);
    world.end(&second, Outcome::Completed, PeerStanding::Synchronised, &[]);
    assert_eq!(world.scheduler.final_syncs().completed, 1);
    world.node.owners.set_alive(second.peer.as_str(), false);
    world.scheduler.owner_failed(second.peer.as_str(), None, &mut world.node, world.now);
    assert!(world.scheduler.left(world.now), "no member is left that stays");
    assert_eq!(world.scheduler.final_syncs(), FinalSyncs { wanted: 0, completed: 0 });
}

#[test]
fn returned_owners_and_other_members_are_compared_with_in_turn() {
    let mut world = World::synchronised(6);
    (1..=4).for_each(|number| world.return_of(number));
    let opened = world.opened();
    assert_eq!(peers(&opened), [&name(1), &name(2)], "the first two at once");
    let first = [world.indexes[1]];
    assert_eq!(world.end(&opened[0], Outcome::Completed, PeerStanding::default(), &first), first);
    let third = only(world.opened());
    assert!([name(3), name(4)].contains(&third.peer), "it helped, so the next owner is asked at once");
    world.wait(RETRY);
    let other = only(world.opened());
    assert!([name(1), name(5), name(6)].contains(&other.peer), "{}", other.peer);
    let nothing = world.end(&other, Outcome::Completed, PeerStanding::default(), &[]);
    assert!(nothing.is_empty() && world.opened().is_empty(), "it did not help: the next one after a pause");
    world.wait(RETRY);
    let fourth = only(world.opened());
    assert!([name(3), name(4)].contains(&fourth.peer) && fourth.peer != third.peer, "{}", fourth.peer);
    let shown = world.wait(COMPARISON_TIMEOUT);
    assert_eq!(shown, world.indexes[2..5], "they have waited for long enough");
    assert_eq!(world.node.counters.shown_uncompared, 3);
}

#[test]
fn what_a_pull_did_not_bring_is_pulled_from_the_owner_and_not_for_ever() {
    let mut world = World::new(3);
    let (reporter, owner) = (name(1), name(3));
    world.scheduler.watermark_received(world.indexes[3], 7, &reporter, &world.store, world.now);
    world.now += MISSING_GRACE;
    let initial = only(world.opened());
    assert_eq!(world.node.counters.pulls, 0, "the initial sync brings it");
    world.end(&initial, Outcome::Completed, PeerStanding::Synchronised, &[]);
    let first = only(world.opened());
    assert_eq!((&first.peer, world.node.counters.pulls), (&reporter, 1));
    world.end_pull(&first, Outcome::Completed);
    assert!(world.opened().is_empty(), "only after a pause");
    world.now += RETRY;
    let second = only(world.opened());
    assert_eq!(second.peer, owner, "it has what it wrote");
    world.end_pull(&second, Outcome::Failed);
    let mut asked = Vec::new();
    for _ in 0..20 {
        world.now += Duration::from_secs(2);
        for pull in world.opened() {
            world.end_pull(&pull, Outcome::Failed);
            asked.push(pull.peer);
        }
    }
    assert_eq!(world.node.counters.pulls, u64::from(MAX_PULLS));
    let of_owner = asked.iter().map(|peer| *peer == owner).collect::<Vec<_>>();
    assert_eq!(
        of_owner,
        [false, true, false],
        "in turn with others, of which it is none: it may have crashed"
    );
    world.scheduler.watermark_received(world.indexes[3], 7, &owner, &world.store, world.now);
    world.store.note_superseded(world.indexes[3], 1, 7);
    world.now += MISSING_GRACE;
    assert!(world.opened().is_empty(), "it has arrived");
}

#[test]
fn a_pull_gives_way_to_one_from_another_member_after_a_second_without_a_response() {
    let mut world = World::synchronised(2);
    world.scheduler.watermark_received(world.indexes[2], 1, &name(1), &world.store, world.now);
    world.now += MISSING_GRACE;
    let first = only(world.opened());
    world.now += FIRST_RESPONSE_TIMEOUT - Duration::from_millis(1);
    assert!(world.opened().is_empty());
    world.wait(RETRY);
    world.wait(RETRY);
    assert_eq!((first.peer, only(world.opened()).peer), (name(1), name(2)));
}

#[test]
fn the_same_two_fingerprints_are_compared_once() {
    let mut world = World::synchronised(2);
    let differ = |world: &mut World, theirs| {
        world.scheduler.fingerprint_differs(&name(1), (1, theirs), &mut world.node, world.now);
        world.opened()
    };
    let sync = only(differ(&mut world, 2));
    assert!(differ(&mut world, 3).is_empty(), "while one is in progress");
    world.end(&sync, Outcome::Failed, PeerStanding::default(), &[]);
    let sync = only(differ(&mut world, 2));
    world.end(&sync, Outcome::Completed, PeerStanding::Synchronised, &[]);
    assert!(differ(&mut world, 2).is_empty(), "a comparison has left them different");
    let sync = only(differ(&mut world, 3));
    world.end(&sync, Outcome::Completed, PeerStanding::Synchronised, &[]);
    world.now += world.node.config.anti_entropy_interval;
    only(differ(&mut world, 3));
}

#[test]
fn only_members_are_asked_for_sessions() {
    let mut world = World::synchronised(1);
    let stranger = name(9);
    world.scheduler.settled_differs(&stranger, 1, &mut world.node, world.now);
    world.scheduler.push(&BTreeSet::new(), false, [stranger, name(1)], &mut world.node);
    assert_eq!(only(world.opened()).peer, name(1));
}
