//! One joined network: its store, its news, and who else is on it.

mod arrival;
mod first_sync;
mod leaving;
mod receiving;
pub(super) mod refusals;
mod settled;
mod spreading;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;
use wire::{NodeId, NodeName, StreamId};

use super::common::Common;
use super::message::SessionKind;
use super::news::{Item, News};
use super::requests::SessionRequest;
use super::session::PeerStanding;
use super::store::{Dot, Full, Store, Visibility, Write};
use super::timing::{
    AWAITED_AT_ONCE, COMPARISON_PATIENCE, FIRST_ANSWER_PATIENCE, MAX_ABSENCES, MAX_PULLS, PEER_SILENCE,
    RETRY, STILLNESS,
};
use super::view::{Body, Slot};
use crate::{DeleteReason, Value, WriteError};
use first_sync::FirstSync;
use leaving::Leaving;
use receiving::Receiving;
use settled::Busy;

/// A number that is known to exist and has not arrived.
#[derive(Debug)]
struct Missing {
    /// Somebody who has it.
    holder: NodeName,
    /// The greatest number heard of.
    upto: u64,
    pull_at: Instant,
    /// How many pulls have not brought it.
    tries: u32,
}

/// Where a network is in its life on this node.
#[derive(Debug)]
enum Phase {
    /// Not yet synchronised with anybody since it was joined.
    Joining(FirstSync),
    Active,
    /// Writes are refused; final syncs are under way.
    Leaving(Leaving),
}

/// A full session or a pull that was opened here and is not over.
#[derive(Debug)]
pub(crate) struct Syncing {
    pub(crate) peer: NodeName,
    pub(crate) opened_at: Instant,
    /// When the peer sent the latest frame of it, if it has sent one.
    heard_at: Option<Instant>,
}

impl Syncing {
    pub(crate) fn new(peer: NodeName, now: Instant) -> Self {
        Self { peer, opened_at: now, heard_at: None }
    }

    /// Whether the peer has it, or may be about to get it. One that was opened when the peer could not be reached may wait for its
    /// connection for long.
    fn goes_on(&self, patience: Duration, now: Instant) -> bool {
        self.is_answered() || now < self.opened_at + patience
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.heard_at.is_some()
    }

    /// The peer has sent a frame of it.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = Some(now);
    }

    /// Whether the peer has not said anything for so long since its last frame.
    fn is_silent(&self, patience: Duration, now: Instant) -> bool {
        self.heard_at.is_some_and(|heard| now >= heard + patience)
    }
}

/// A comparison of fingerprints that changed nothing.
#[derive(Debug)]
struct Compared {
    mine: u64,
    theirs: u64,
    at: Instant,
}

/// What a caller wants to do to a key.
#[derive(Debug)]
pub(crate) enum Operation {
    Create(Value),
    Update(Value),
    Delete,
}

/// How a bundle came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Gossip,
    Sync,
}

/// What applying a bundle did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Numbers that were news.
    pub(crate) news: u64,
    /// Live entries of ours that the sender knew to be dead.
    pub(crate) buried: u64,
    /// An owner's life is not known to membership yet.
    pub(crate) unknown_life: bool,
    /// Somebody holds numbers in our own name that we never wrote.
    pub(crate) impostor: bool,
}

/// The state of one joined network.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) name: Arc<str>,
    pub(crate) store: Store,
    own: Slot,
    phase: Phase,
    news: News,
    /// Alive others on it, ascending; `None` after a change.
    members: Option<Vec<NodeName>>,
    missing: BTreeMap<Slot, Missing>,
    /// Attachments that some session is bringing in already.
    pub(crate) receiving: Receiving,
    /// Members that a push session is bringing everything new to.
    pub(crate) pushing: BTreeMap<NodeName, StreamId>,
    /// A pull is under way.
    pub(crate) pulling: Option<(StreamId, Syncing)>,
    /// Full sessions under way, opened here.
    pub(crate) syncing: BTreeMap<StreamId, Syncing>,
    awaiting: BTreeSet<Slot>,
    /// Whether the next comparison for the sake of what waits is with an owner of it.
    owners_turn: bool,
    /// How many full syncs in a row had the answer of a member that it is not on the network.
    absences: u32,
    sync_at: Instant,
    anti_entropy_at: Instant,
    joined_at: Instant,
    still_since: Instant,
    last_fingerprint: u64,
    /// The comparison under way that differing fingerprints asked for.
    comparing: Option<(NodeName, Compared)>,
    compared: BTreeMap<NodeName, Compared>,
    /// What others wrote and is not taken in here.
    pub(crate) refusals: refusals::Refusals,
    /// While changes come without a pause.
    busy: Option<Busy>,
    /// When the next full sync may be made because what is settled differs.
    settled_pause: Option<Instant>,
}

impl Network {
    pub(crate) fn new(name: Arc<str>, epoch: u64, common: &mut Common, now: Instant) -> Self {
        let me = common.owners.me().clone();
        let mut store = Store::new(name.clone(), me.name.clone());
        let own = store.attach(me, epoch, Visibility::Shown);
        let mut network = Self {
            anti_entropy_at: now,
            name: name.clone(),
            store,
            own,
            phase: Phase::Joining(FirstSync::default()),
            news: News::default(),
            members: None,
            missing: BTreeMap::new(),
            receiving: Receiving::default(),
            pushing: BTreeMap::new(),
            pulling: None,
            syncing: BTreeMap::new(),
            awaiting: BTreeSet::new(),
            owners_turn: false,
            absences: 0,
            sync_at: now,
            joined_at: now,
            still_since: now,
            last_fingerprint: 0,
            comparing: None,
            compared: BTreeMap::new(),
            refusals: refusals::Refusals::default(),
            busy: None,
            settled_pause: None,
        };
        network.plan_anti_entropy(common, now);
        let others: Vec<NodeId> =
            common.owners.others().map(|(n, o)| NodeId::new(n.clone(), o.generation)).collect();
        for other in others {
            network.follow_list(&other, common, now);
        }
        network
    }

    // What there is to know.

    pub(crate) fn own(&self) -> Slot {
        self.own
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    pub(crate) fn is_synced(&self) -> bool {
        !matches!(self.phase, Phase::Joining(_))
    }

    /// Whether the first sync is under way, which brings what the others hold. Over a slow link that may take minutes, in
    /// which each of them would come along with the same.
    pub(crate) fn is_being_filled(&self) -> bool {
        !self.is_synced() && self.syncing.values().any(Syncing::is_answered)
    }

    /// Whether a full sync with a peer, opened here, has begun there as well.
    pub(crate) fn goes_on_syncing_with(&self, peer: &NodeName, now: Instant) -> bool {
        self.syncing.values().any(|syncing| syncing.peer == *peer && syncing.goes_on(RETRY, now))
    }

    /// Whether a full sync opened here is under way, or waits for capacity.
    fn is_syncing(&self, common: &Common) -> bool {
        !self.syncing.is_empty() || common.requests.full_syncs(&self.name).next().is_some()
    }

    pub(crate) fn queue_length(&self) -> usize {
        self.news.len()
    }

    /// Alive others on this network, ascending. O(cluster) after a change, else O(1).
    pub(crate) fn members(&mut self, common: &Common) -> &[NodeName] {
        self.members.get_or_insert_with(|| common.owners.members_of(&self.name).cloned().collect())
    }

    /// Exactly `count` of them, or all there are; each as likely as any other.
    fn sample_members(&mut self, count: usize, common: &mut Common) -> Vec<NodeName> {
        self.members(common);
        let members = self.members.as_deref().unwrap_or_default();
        members.sample(&mut common.rng, count).cloned().collect()
    }

    pub(crate) fn members_changed(&mut self) {
        self.members = None;
    }

    /// There may be a member more: with whom the first sync can be made, if nobody was there before.
    pub(crate) fn member_appeared(&mut self, now: Instant) {
        self.members_changed();
        if !self.is_synced() {
            self.sync_at = self.sync_at.min(now);
        }
    }

    /// The fingerprint, if it has not changed for a while; sampled whenever it is asked for.
    pub(crate) fn still_fingerprint(&mut self, now: Instant) -> Option<u64> {
        let present = self.store.fingerprint();
        if present != self.last_fingerprint {
            self.last_fingerprint = present;
            self.still_since = now;
        }
        (now.saturating_duration_since(self.still_since) >= STILLNESS).then_some(present)
    }

    /// The same, for others to compare with; `None` while something is refused here: it would only tell them so.
    pub(crate) fn offered_fingerprint(&mut self, now: Instant) -> Option<u64> {
        self.still_fingerprint(now).filter(|_| !self.refusals.is_outstanding())
    }

    /// The earliest time of the next pull: one at a time, unless the peer of the present one does not answer, or has fallen silent.
    ///
    /// There is none before the first sync: that brings the same, and with it what is dead. A pull brings one attachment alone; a
    /// node that knew nothing but a delete, and forgot it when its time was up, would show the put that it receives later.
    fn may_pull_at(&self) -> Option<Instant> {
        match &self.pulling {
            _ if !self.is_synced() => None,
            None => Some(self.joined_at),
            Some((_, pulling)) => Some(match pulling.heard_at {
                None => pulling.opened_at + FIRST_ANSWER_PATIENCE,
                Some(heard) => heard + PEER_SILENCE,
            }),
        }
    }

    /// When this network wants to be looked at again.
    pub(crate) fn next_deadline(&self) -> Instant {
        let missing = self.missing.values().map(|missing| missing.pull_at).min();
        let missing = missing.zip(self.may_pull_at()).map(|(due, possible)| due.max(possible));
        let phase = match &self.phase {
            Phase::Joining(_) => Some(self.sync_at),
            _ => self.leaving_deadline(),
        };
        let awaiting = (!self.awaiting.is_empty()).then_some(self.sync_at);
        let (refused, settled) = (self.refusals.next_deadline(), self.settled_deadline());
        [self.news.next_deadline(), missing, phase, awaiting, refused, settled, self.store.next_expiry()]
            .into_iter()
            .flatten()
            .fold(self.anti_entropy_at, Instant::min)
    }

    // What the application does.

    pub(crate) fn write(
        &mut self,
        operation: Operation,
        table_name: &str,
        key: &str,
        common: &mut Common,
        now: Instant,
    ) -> Result<(), WriteError> {
        if self.is_leaving() {
            return Err(WriteError::NotJoined { network: self.name.to_string() });
        }
        let target = || (self.name.to_string(), table_name.to_owned(), key.to_owned());
        let found = self.store.view().table(table_name);
        let present = found.as_ref().and_then(|table| {
            let record = table.records.get(key)?;
            Some(((record.tag.slot, record.number), record.visible().is_some()))
        });
        let exists = present.is_some_and(|(_, visible)| visible);
        let body = match operation {
            Operation::Create(_) if exists => {
                let (network, table, key) = target();
                return Err(WriteError::AlreadyExists { network, table, key });
            }
            Operation::Update(_) if !exists => {
                let (network, table, key) = target();
                return Err(WriteError::CannotUpdate { network, table, key });
            }
            Operation::Delete if !exists => {
                let (network, table, key) = target();
                return Err(WriteError::CannotDelete { network, table, key });
            }
            Operation::Create(value) | Operation::Update(value) => Body::Live(value),
            Operation::Delete => Body::Tombstone { expires: Box::new(now + common.config.reap_time) },
        };
        let limits = &common.config.limits;
        let network = || self.name.to_string();
        match self.store.lacks_room(found.as_ref(), key, &body, limits) {
            None => {}
            Some(Full::Entries) => {
                return Err(WriteError::NetworkFull { network: network(), limit: limits.entries });
            }
            Some(Full::Tables) => {
                return Err(WriteError::TooManyTables { network: network(), limit: limits.tables });
            }
            Some(Full::Bytes) => {
                return Err(WriteError::NetworkBytes { network: network(), limit: limits.bytes });
            }
        }
        let bytes = news_bytes(table_name, key, &body);
        let table = found.unwrap_or_else(|| self.store.view().table_or_new(table_name));
        let own = self.store.attachment(self.own).map_or(0, |own| own.context().highest());
        let dot = (self.own, own + 1);
        let replaced: Vec<Dot> = present.map(|(dot, _)| dot).into_iter().collect();
        let time = common.clock.tick(now);
        let write = Write { dot, time, table: &table, key, body, replaced: &replaced };
        self.store.apply(write, &mut common.watchers);
        common.counters.writes += 1;
        self.note_change(now);
        common.wake |= self.news.push(Item { dot, replaced }, true, bytes, now);
        Ok(())
    }

    /// Rewrites our own entries in a new life of ours, under the same epoch.
    pub(crate) fn renew(&mut self, me: NodeId, common: &mut Common, now: Instant) {
        let Some(former) = self.store.attachment(self.own) else { return };
        let epoch = former.tag.epoch;
        let own: Vec<_> = former.live().iter().map(|(_, place)| place.clone()).collect();
        let values: Vec<_> = own
            .into_iter()
            .filter_map(|(table, key)| {
                let record = table.records.get(&key)?;
                let (value, time) = (record.visible()?.clone(), record.time);
                drop(record);
                Some((table, key, value, time))
            })
            .collect();
        self.drop_attachment(self.own, common);
        self.own = self.store.attach(me, epoch, Visibility::Shown);
        for (number, (table, key, value, time)) in (1..).zip(values) {
            let bytes = key.len() + value.len();
            let dot = (self.own, number);
            let table = self.store.view().table_or_new(&table.name);
            // As old as it was: it is not to win over what others have made of it since.
            let write = Write { dot, time, table: &table, key: &key, body: Body::Live(value), replaced: &[] };
            self.store.apply(write, &mut common.watchers);
            self.news.push(Item { dot, replaced: Vec::new() }, true, bytes, now);
        }
        common.wake = true;
    }

    // What membership and the lists say.

    /// Brings the attachment of `owner` in line with its list: ended, taken up, or kept.
    pub(crate) fn follow_list(&mut self, owner: &NodeId, common: &mut Common, now: Instant) {
        self.member_appeared(now);
        let Some(known) = common.owners.get(owner.name.as_str()) else { return };
        let (version, listed, alive) = (known.list_version, known.listed_epoch(&self.name), known.alive);
        let held = self.store.of_owner(owner.name.as_str()).map(|(slot, held)| (slot, held.tag.epoch));
        if let Some((slot, epoch)) = held {
            // A provisional epoch is later than the list; the list says nothing of it yet.
            if epoch > version || listed == Some(epoch) {
                return;
            }
            self.drop_attachment(slot, common);
        }
        if let Some(epoch) = listed {
            let visibility = if alive { Visibility::Shown } else { Visibility::OwnerFailed };
            self.take_up(owner.clone(), epoch, visibility, common);
            if let Phase::Joining(first) = &mut self.phase {
                first.forget(owner.name.as_str());
            }
        }
        self.final_syncs_without(owner.name.as_str(), common, now);
    }

    pub(crate) fn owner_failed(&mut self, owner: &str, common: &mut Common, now: Instant) {
        self.members_changed();
        self.final_syncs_without(owner, common, now);
        let Some((slot, _)) = self.store.of_owner(owner) else { return };
        self.awaiting.remove(&slot);
        self.store.set_visibility(slot, Visibility::OwnerFailed, &mut common.watchers);
    }

    /// The owner is back: what we remember of it has to be compared before it is shown.
    pub(crate) fn owner_returned(&mut self, owner: &NodeName, common: &mut Common, now: Instant) {
        self.member_appeared(now);
        let Some((slot, attachment)) = self.store.of_owner(owner.as_str()) else { return };
        if attachment.visibility() != Visibility::OwnerFailed {
            return;
        }
        let until = now + COMPARISON_PATIENCE;
        self.store.set_visibility(slot, Visibility::AwaitsComparison { until }, &mut common.watchers);
        // Half a cluster may return at once, each of which shows what the others own: the first are asked, and the next when
        // that is known. Not put off by each that returns.
        let first = self.awaiting.is_empty();
        self.owners_turn &= !first;
        self.sync_at = if first { now + RETRY } else { self.sync_at.min(now + RETRY) };
        if self.awaiting.insert(slot) && self.awaiting.len() <= AWAITED_AT_ONCE / 2 {
            self.request(SessionKind::Full, owner.clone(), BTreeSet::new(), common);
        }
    }

    /// Compares for the sake of what waits for it: in turn with one of the owners, which shows its own entries and most likely
    /// those of others that wait, and with another member, in case the owners cannot be reached.
    fn compare_awaiting(&mut self, common: &mut Common, now: Instant) {
        self.members(common);
        // One without an answer may wait for a connection that has broken since, and one that has fallen silent for a packet that is
        // lost again and again: they keep nobody from being asked.
        let asked: BTreeSet<&NodeName> = self
            .syncing
            .values()
            .filter(|syncing| syncing.goes_on(RETRY, now) && !syncing.is_silent(RETRY * 2, now))
            .map(|syncing| &syncing.peer)
            .chain(common.requests.full_syncs(&self.name))
            .collect();
        if self.awaiting.is_empty() || asked.len() >= AWAITED_AT_ONCE {
            return;
        }
        let tried = |member: &NodeName| self.syncing.values().any(|syncing| syncing.peer == *member);
        let near = |member: &NodeName| common.connections.reach(member);
        let members = self.members.iter().flatten().filter(|member| !asked.contains(member));
        // Nobody is dialled twice. Where nothing else is left, what has fallen silent is tried anew over the same connection.
        let members = members.filter(|member| near(member) || !tried(member));
        let waits = |member: &&NodeName| {
            self.store.of_owner(member.as_str()).is_some_and(|(slot, _)| self.awaiting.contains(&slot))
        };
        let (owners, others): (Vec<&NodeName>, Vec<&NodeName>) = members.partition(waits);
        let (first, second) = if self.owners_turn { (owners, others) } else { (others, owners) };
        let [first, second] =
            [first, second].map(|among| among.into_iter().partition(|member| !tried(member)));
        let (first, first_tried): (Vec<&NodeName>, Vec<&NodeName>) = first;
        let (second, second_tried): (Vec<&NodeName>, Vec<&NodeName>) = second;
        let choices =
            [common.connections.prefer(first), common.connections.prefer(second), first_tried, second_tried];
        let chosen = choices.iter().find_map(|among| among.choose(&mut common.rng));
        let chosen = chosen.map(|member| NodeName::clone(member));
        self.owners_turn = !self.owners_turn;
        if let Some(member) = chosen {
            self.request(SessionKind::Full, member, BTreeSet::new(), common);
        }
    }

    /// The owner's life is over, or it has left the network.
    pub(crate) fn owner_gone(&mut self, owner: &str, common: &mut Common, now: Instant) {
        self.members_changed();
        self.final_syncs_without(owner, common, now);
        self.compared.remove(owner);
        if let Phase::Joining(first) = &mut self.phase {
            first.forget(owner);
        }
        if let Some((slot, _)) = self.store.of_owner(owner) {
            self.drop_attachment(slot, common);
        }
    }

    /// Takes up an attachment. Nothing is known of it yet, unless its owner was forgotten here and is back: then what of it
    /// was dead still is.
    fn take_up(&mut self, owner: NodeId, epoch: u64, visibility: Visibility, common: &mut Common) -> Slot {
        let dead = common.remembered.take(&owner, &self.name, epoch);
        let slot = self.store.attach(owner, epoch, visibility);
        for &(low, high) in dead.iter().flat_map(|dead| dead.as_slice()) {
            self.store.note_dead(slot, low, high);
        }
        slot
    }

    /// The owner is about to be forgotten. Live entries and tombstones are dropped, and count as not seen should it return;
    /// the rest of what was seen is dead for ever, and must not come back with it.
    pub(crate) fn remember_dead(&mut self, owner: &str, common: &mut Common) {
        let Some((_, attachment)) = self.store.of_owner(owner) else { return };
        let dead = attachment.dead();
        // Torn so badly it would keep the owner's next writes out.
        if dead.as_slice().len() <= common.config.limits.ranges / 2 {
            let tag = &attachment.tag;
            common.remembered.keep(&tag.owner, &self.name, tag.epoch, dead);
        }
    }

    fn drop_attachment(&mut self, slot: Slot, common: &mut Common) {
        self.store.end(slot, DeleteReason::OwnerGone, &mut common.watchers);
        self.news.forget(slot);
        self.missing.remove(&slot);
        self.receiving.forget(slot);
        self.awaiting.remove(&slot);
        self.refusals.forget(slot);
    }

    // What sessions report.

    /// A full session is over and everything was exchanged. `shown` are attachments that the peer shows.
    pub(crate) fn compared_with(
        &mut self,
        peer: &NodeName,
        shown: &[Slot],
        standing: &PeerStanding,
        common: &mut Common,
        now: Instant,
    ) {
        common.counters.syncs_completed += 1;
        self.absences = 0;
        self.refusals.compared(common.config.anti_entropy_interval, now);
        // Only now: one that was cut short is to be tried again with the next probe.
        if let Some((_, compared)) = self.comparing.take_if(|(with, _)| with == peer)
            && common.owners.knows(peer)
        {
            self.compared.insert(peer.clone(), Compared { at: now, ..compared });
        }
        let waited = self.awaiting.len();
        for &slot in shown {
            if self.awaiting.remove(&slot) {
                self.store.set_visibility(slot, Visibility::Shown, &mut common.watchers);
            }
        }
        if !self.is_leaving() {
            // Another that waits would find nothing.
            common.requests.forget_full_syncs(&self.name, Some(peer.as_str()));
        }
        self.first_sync_completed(peer, standing, common, now);
        if !self.awaiting.is_empty() && self.awaiting.len() < waited {
            // That helped. What does not help is tried again after a while.
            self.owners_turn = true;
            self.compare_awaiting(common, now);
        }
        // Whatever is missing may have come along.
        self.forget_arrived();
        tracing::debug!(network = &*self.name, peer = peer.as_str(), "compared");
        self.plan_anti_entropy(common, now);
    }

    /// A full session gave way to one that the peer had opened; should that one fail, there is another try.
    pub(crate) fn comparison_postponed(&mut self, now: Instant) {
        self.sync_at = now + RETRY;
    }

    /// A full session ended without a result.
    pub(crate) fn comparison_failed(&mut self, common: &mut Common, now: Instant) {
        common.counters.syncs_failed += 1;
        self.sync_at = now + RETRY;
        self.first_sync_failed(common);
    }

    /// The peer has no capacity for a full sync now. That is no failure: somebody else is asked, or the same one later.
    pub(crate) fn comparison_turned_away(
        &mut self,
        peer: &NodeName,
        periodic: bool,
        common: &mut Common,
        now: Instant,
    ) {
        match self.phase {
            Phase::Joining(_) => self.sync_at = now,
            Phase::Active if !periodic => {
                self.request(SessionKind::Full, peer.clone(), BTreeSet::new(), common);
            }
            Phase::Active | Phase::Leaving(_) => {}
        }
    }

    /// The member with whom a full sync was to be made has gone.
    pub(crate) fn comparison_not_begun(&mut self, now: Instant) {
        self.sync_at = now;
    }

    /// The member with whom a full sync was under way is not on the network. That is no failure: another is asked at once.
    pub(crate) fn comparison_with_nobody(&mut self, peer: &NodeName, common: &mut Common, now: Instant) {
        // One that is back since counts as a member still; so does one that lies.
        let is_member = common.owners.is_member(peer.as_str(), &self.name);
        self.absences = if is_member { self.absences + 1 } else { 0 };
        if !self.is_leaving() {
            self.sync_at = if self.absences <= MAX_ABSENCES { now } else { now + RETRY };
        }
    }

    /// The peer has no capacity for a pull now: another is asked, and it does not count.
    pub(crate) fn pull_turned_away(&mut self, pull: StreamId, common: &mut Common, now: Instant) {
        if !self.end_pull(pull) {
            return;
        }
        let other = self.sample_members(1, common).pop();
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY;
            if let Some(other) = &other {
                missing.holder = other.clone();
            }
        }
    }

    /// The member asked for what is missing is not on the network: another is asked at once.
    pub(crate) fn pulled_from_nobody(
        &mut self,
        pull: StreamId,
        peer: &NodeName,
        common: &mut Common,
        now: Instant,
    ) {
        self.pulled(pull, common, now);
        let other = self.sample_members(2, common).into_iter().find(|other| other != peer);
        for missing in self.missing.values_mut() {
            if let Some(other) = &other {
                (missing.holder, missing.pull_at) = (other.clone(), now);
            }
        }
    }

    /// A pull is over; what it did not bring is asked of its owner or somebody else, later each time, and not for ever: its only
    /// holder may have failed. Should somebody have it after all, fingerprints differ.
    pub(crate) fn pulled(&mut self, pull: StreamId, common: &mut Common, now: Instant) {
        if !self.end_pull(pull) {
            return;
        }
        self.forget_arrived();
        for missing in self.missing.values_mut() {
            missing.pull_at = now + RETRY * 2u32.pow(missing.tries);
            missing.tries += 1;
        }
        self.missing.retain(|_, missing| missing.tries < MAX_PULLS);
        if self.missing.is_empty() {
            return;
        }
        let other = self.sample_members(1, common).pop();
        for (&slot, missing) in &mut self.missing {
            // Others may lack the same; the owner, every other time, does not.
            let owner = self.store.attachment(slot).map(|held| &held.tag.owner.name);
            let owner = owner.filter(|owner| missing.tries % 2 == 1 && common.owners.is_alive(owner));
            if let Some(other) = owner.or(other.as_ref()) {
                missing.holder = other.clone();
            }
        }
    }

    /// False if another has been made since, because this one had no answer.
    fn end_pull(&mut self, pull: StreamId) -> bool {
        self.pulling.take_if(|(stream, _)| *stream == pull).is_some()
    }

    /// A push brought news that is to be pushed on once, after a moment in which others may bring it to everyone.
    pub(crate) fn relay_pushed(
        &mut self,
        slots: impl Iterator<Item = Slot>,
        common: &mut Common,
        now: Instant,
    ) {
        let at = now + Duration::from_millis(common.rng.random_range(0..10));
        for slot in slots {
            if self.store.attachment(slot).is_some() {
                self.news.relay_by_stream(slot, at);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn compared_count(&self) -> usize {
        self.compared.len()
    }

    fn forget_arrived(&mut self) {
        let store = &self.store;
        self.missing.retain(|&slot, missing| {
            store.attachment(slot).is_some_and(|held| {
                let accounted = held.accounted();
                missing.upto > accounted.highest() || accounted.has_holes()
            })
        });
    }

    // What time brings.

    pub(crate) fn handle_timeout(&mut self, common: &mut Common, now: Instant) {
        if self.news.flush_due(now) {
            self.flush(common, now);
        }
        let (heads, fan_out) = self.news.due_heads(now);
        if !heads.is_empty() {
            self.tell_heads(&heads, fan_out, common, now);
        }
        self.retry_refused(common, now);
        self.pull_missing(common, now);
        self.keep_awaiting(common, now);
        self.keep_first_sync(common, now);
        self.keep_final_syncs(common, now);
        self.tell_settled(common, now);
        if now >= self.anti_entropy_at {
            self.plan_anti_entropy(common, now);
            if !self.is_syncing(common) && !self.is_leaving() {
                common.counters.periodic_syncs += 1;
                self.sync_with_random(true, common);
            }
        }
        if self.store.next_expiry().is_some_and(|at| at <= now) {
            common.counters.reaped += self.store.reap(now) as u64;
        }
        self.store.sweep_empty_tables();
    }

    fn sync_with_random(&mut self, periodic: bool, common: &mut Common) {
        if let Some(peer) = self.sample_members(1, common).pop() {
            let (kind, network) = (SessionKind::Full, self.name.clone());
            common.requests.push(SessionRequest { kind, network, peer, slots: BTreeSet::new(), periodic });
        }
    }

    fn keep_awaiting(&mut self, common: &mut Common, now: Instant) {
        if self.awaiting.is_empty() || now < self.sync_at {
            return;
        }
        self.sync_at = now + RETRY;
        for slot in self.awaiting.clone() {
            let Some(attachment) = self.store.attachment(slot) else {
                self.awaiting.remove(&slot);
                continue;
            };
            let Visibility::AwaitsComparison { until } = attachment.visibility() else {
                self.awaiting.remove(&slot);
                continue;
            };
            if now >= until {
                common.counters.shown_uncompared += 1;
                self.awaiting.remove(&slot);
                self.store.set_visibility(slot, Visibility::Shown, &mut common.watchers);
            }
        }
        self.compare_awaiting(common, now);
    }

    fn plan_anti_entropy(&mut self, common: &mut Common, now: Instant) {
        let interval = common.config.anti_entropy_interval;
        self.anti_entropy_at = now + interval.mul_f64(common.rng.random_range(0.75..1.25));
    }

    /// Has a session opened. A network's tables, and who holds what of them, go to its members only: whoever else it was
    /// to be opened with gets nothing.
    pub(crate) fn request(
        &mut self,
        kind: SessionKind,
        peer: NodeName,
        slots: BTreeSet<Slot>,
        common: &mut Common,
    ) {
        if !common.owners.is_member(peer.as_str(), &self.name) {
            return;
        }
        common.requests.push(SessionRequest {
            kind,
            network: self.name.clone(),
            peer,
            slots,
            periodic: false,
        });
    }
}

/// About how many bytes a piece of news takes in a bundle.
fn news_bytes(table: &str, key: &str, body: &Body) -> usize {
    let value = if let Body::Live(value) = body { value.len() } else { 8 };
    24 + table.len() / 4 + key.len() + value
}
