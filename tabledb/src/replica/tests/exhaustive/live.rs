//! A production replica at work, with two watchers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use wire::{FramePoll, NodeId, NodeName, StreamId};

use super::content::{Content, Dot, Held, HeldRecord, View};
use super::promises::Promise;
use super::state_hash::hash128;
use super::steps::Input;
use super::{NODES, REAP_TIME};
use crate::replica::network::Network;
use crate::replica::requests::{SessionRequest, SyncKind};
use crate::replica::session::{Role, Session};
use crate::replica::store::{Attachment, Visibility};
use crate::replica::tests::{NET, TABLE, name};
use crate::replica::timing::LEAVE_LIMIT;
use crate::replica::{Counters, Event, MessageError, Origin, Replica, Stream, Taken, Transmit, WatchCursor};
use crate::{Config, Key, Value, WatchFilter};

/// One watch, and the table as its watcher sees it.
#[derive(Debug)]
struct Watching {
    filter: WatchFilter,
    cursor: WatchCursor,
    table: BTreeMap<Key, (Value, NodeName)>,
}

/// A replica at work.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) me: usize,
    pub(super) replica: Replica,
    pub(super) now: Instant,
    start: Instant,
    watches: Vec<Watching>,
}

/// The output of a replica for one input.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) datagrams: Vec<(usize, Vec<u8>)>,
    pub(super) opened: Vec<(u64, usize)>,
    pub(super) polled: Option<FramePoll>,
    pub(super) stream: Option<u64>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) gave_up: bool,
    pub(super) broken: Option<Promise>,
}

pub(super) fn node_of(name: &NodeName) -> usize {
    (0..NODES).find(|&at| self::name(at) == *name).expect("one of us")
}

fn key_name(key: u8) -> String {
    format!("k{key}")
}

impl Live {
    pub(super) fn new(me: usize, start: Instant, reap_time: Duration) -> Self {
        let mut config = Config::new(NodeId::new(name(me), 1));
        config.reap_time = reap_time;
        // The model triggers the periodic comparison itself.
        config.anti_entropy_interval = Duration::from_secs(24 * 3600);
        let origin = Origin { now: start, wall_clock: Duration::from_secs(1_000_000), seed: 0 };
        let mut replica = Replica::new(config, origin).expect("settings within their bounds");
        let watches = [false, true].map(|exclude_own| {
            let filter = WatchFilter { exclude_own, ..WatchFilter::default() };
            let (_, cursor) = replica.watch(&filter);
            Watching { filter, cursor, table: BTreeMap::new() }
        });
        Self { me, replica, now: start, start, watches: watches.into() }
    }

    /// Gives one input. `draw` seeds the replica's random choices in this step.
    pub(super) fn take(&mut self, input: &Input, draw: u64, text: Option<&[u8]>) -> Output {
        let mut output = self.take_unwatched(input, draw, text);
        if !self.watches_see_the_table() {
            output.broken = Some(Promise::WatchIsTable);
        }
        output
    }

    /// Whether the changes that the watchers received, applied in order, fit at every step, and give what a
    /// reader sees now.
    pub(super) fn watches_see_the_table(&mut self) -> bool {
        let held = self.replica.inspect(NET, self.now).map(|network| network.entries).unwrap_or_default();
        self.follow_watches()
            && self.watches.iter().all(|watching| {
                let wanted = |owner: &NodeName| !(watching.filter.exclude_own && *owner == name(self.me));
                let shown = held.iter().filter(|(_, entry)| entry.visible && wanted(&entry.owner.name));
                let shown = shown.filter_map(|((_, key), entry)| {
                    Some((Key::from(key.as_str()), (entry.value.clone()?, entry.owner.name.clone())))
                });
                shown.collect::<BTreeMap<_, _>>() == watching.table
            })
    }

    pub(super) fn take_unwatched(&mut self, input: &Input, draw: u64, text: Option<&[u8]>) -> Output {
        let mut output = Output::default();
        self.replica.node.rng = ChaCha8Rng::seed_from_u64(draw);
        self.replica.node.counters = Counters::default();
        self.put_in(input, text.unwrap_or_default(), &mut output);
        while let Some(transmit) = self.replica.poll_transmit(self.now) {
            match transmit {
                Transmit::Datagram { to, bytes } => output.datagrams.push((node_of(&to), bytes)),
                Transmit::OpenStream { stream, to } => output.opened.push((stream.0, node_of(&to))),
                // The model polls every end after every step.
                Transmit::CloseStream { .. } | Transmit::WakeStream { .. } => {}
            }
        }
        while let Some(event) = self.replica.poll_event() {
            if let Event::GenerationTaken { .. } = event {
                output.broken = Some(Promise::NothingInOurName);
            }
        }
        if self.replica.node.counters.refused_malformed > 0 {
            output.broken = Some(Promise::Sense);
        }
        output
    }

    fn put_in(&mut self, input: &Input, text: &[u8], output: &mut Output) {
        let (replica, now) = (&mut self.replica, self.now);
        match *input {
            Input::Put { key } => {
                let own =
                    replica.inspect(NET, now).and_then(|mut net| net.attachments.remove(&name(self.me)));
                let own = own.expect("on the network");
                // Every value identifies its write.
                let value = [self.me as u8, own.epoch as u8, own.seen.highest() as u8 + 1];
                let key = key_name(key);
                if replica.update(NET, TABLE, &key, value, now).is_err() {
                    replica.create(NET, TABLE, &key, value, now).expect("no such entry");
                }
            }
            Input::Delete { key } => {
                replica.delete(NET, TABLE, &key_name(key), now).expect("only what is visible is deleted");
            }
            Input::Datagram { from, .. } => {
                let taken = replica.handle_datagram(&name(from), text, now);
                if taken.is_err() {
                    output.broken = Some(Promise::Sense);
                }
            }
            Input::StreamOpened { from } => {
                output.stream = Some(replica.handle_stream_opened(&name(from), now).0);
            }
            Input::Frame { stream, .. } => match replica.handle_frame(StreamId(stream), text, now) {
                Ok(()) => {}
                Err(MessageError::Malformed(_)) => output.broken = Some(Promise::Sense),
                Err(_) => output.gave_up = true,
            },
            Input::Poll { stream } => output.polled = Some(replica.poll_frame(StreamId(stream), now)),
            Input::StreamClosed { stream } => replica.handle_stream_closed(StreamId(stream), now),
            Input::Unreachable { stream } => {
                replica.handle_stream_closed(StreamId(stream), now);
                if replica.next_stream == stream + 1 {
                    replica.next_stream = stream;
                }
                // A leaving node without a reachable member tries until its time is up.
                let reaches_nobody =
                    replica.network(NET).is_some_and(|network| network.scheduler.full_syncs().len() == 0);
                if replica.network(NET).is_some_and(Network::is_leaving) && reaches_nobody {
                    self.now += LEAVE_LIMIT;
                    replica.handle_timeout(self.now);
                }
            }
            Input::Timer => {
                self.now = replica.poll_timeout().map_or(now, |due| due.max(now));
                replica.handle_timeout(self.now);
            }
            Input::ReapTime => {
                self.now += REAP_TIME;
                replica.handle_timeout(self.now);
            }
            Input::WholeSecond => {
                let seconds = self.now.saturating_duration_since(self.start).as_secs();
                self.now = self.start + Duration::from_secs(seconds + 2);
                replica.handle_timeout(self.now);
            }
            Input::Leave => replica.leave_network(NET, now).expect("on the network"),
            Input::Join => replica.join_network(NET, now).expect("not on the network"),
            Input::Failed { whom } => replica.handle_owner_failed(&NodeId::new(name(whom), 1), now),
            Input::Alive { whom } => replica.handle_owner_alive(&NodeId::new(name(whom), 1), now),
            Input::Compare { with } => self.compare(with),
            Input::Probe { to } => output.digest = replica.digest_for(&name(to), 32, now),
            Input::Digest { from, .. } => {
                if replica.handle_digest(&name(from), text, now).is_err() {
                    output.broken = Some(Promise::Sense);
                }
            }
        }
    }

    /// The effect of the anti-entropy timer, except the choice of the partner.
    fn compare(&mut self, with: usize) {
        let Replica { networks, by_name, node, .. } = &mut self.replica;
        let Some(network) = by_name.get(NET).and_then(|&at| networks[at].as_mut()) else { return };
        let is_member = network.members(node).contains(&name(with));
        if is_member && network.scheduler.full_syncs().len() == 0 && !network.is_leaving() {
            node.requests.push(SessionRequest {
                kind: SyncKind::Full,
                network: network.name.clone(),
                peer: name(with),
                indexes: BTreeSet::new(),
                periodic: true,
            });
        }
    }

    /// Applies the changes that the watchers received, and returns whether each fitted the previous state.
    pub(super) fn follow_watches(&mut self) -> bool {
        self.watches.iter_mut().all(|watching| {
            while let Taken::Change(recorded) = watching.cursor.take() {
                let change = std::sync::Arc::unwrap_or_clone(recorded).change;
                let before = watching.table.get(&*change.key).map(|(value, _)| value.clone());
                let kind = match (&before, &change.value) {
                    (None, Some(_)) => crate::ChangeKind::Create,
                    (Some(_), Some(_)) => crate::ChangeKind::Update,
                    (Some(_), None) => crate::ChangeKind::Delete,
                    (None, None) => return false,
                };
                if change.previous != before || change.kind != kind {
                    return false;
                }
                match change.value {
                    Some(value) => watching.table.insert(change.key, (value, change.owner)),
                    None => watching.table.remove(&change.key),
                };
            }
            true
        })
    }

    /// A hash of the whole state of the replica: two replicas with the same one have the same future. Cached
    /// values are computed first.
    pub(super) fn state_hash(&mut self) -> u128 {
        let Replica { networks, node, .. } = &mut self.replica;
        node.owners.lists_digest();
        for network in networks.iter_mut().flatten() {
            network.members(node);
            network.store.fingerprint();
        }
        hash128(&(self.now, &self.replica))
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.replica.network(NET).is_some_and(|network| network.is_leaving())
    }

    pub(super) fn view(&self) -> View {
        let owners = &self.replica.node.owners;
        let lists = std::array::from_fn(|at| {
            let list = owners.list_of(name(at).as_str());
            let epoch = |networks: Vec<(String, u64)>| networks.first().map(|&(_, epoch)| epoch);
            list.map_or((0, None), |list| (list.version, epoch(list.networks)))
        });
        let alive = std::array::from_fn(|at| {
            at == self.me || owners.get(name(at).as_str()).is_some_and(|owner| owner.alive)
        });
        let mut content = Content {
            me: self.me,
            joined: false,
            leaving: false,
            held: std::array::from_fn(|_| None),
            records: BTreeMap::new(),
            lists,
            alive,
        };
        if let Some(network) = self.replica.network(NET) {
            content.joined = true;
            content.leaving = network.is_leaving();
            for (_, held) in network.store.attachments() {
                content.held[node_of(&held.tag.owner.name)] = Some(Held {
                    epoch: held.tag.epoch,
                    seen: held.seen().as_slice().to_vec(),
                    live: held.live().iter().map(|(number, _)| number).collect(),
                    shown: held.visibility() == Visibility::Shown,
                });
            }
        }
        if let Some(inspected) = self.replica.inspect(NET, self.now) {
            for ((_, key), entry) in inspected.entries {
                let dot = Dot { owner: node_of(&entry.owner.name), epoch: entry.epoch, number: entry.number };
                let record =
                    HeldRecord { dot, time: entry.time, residual: entry.residual, visible: entry.visible };
                content.records.insert(key.as_bytes()[1] - b'0', record);
            }
        }
        let wait = self.replica.poll_timeout().map(|due| due.saturating_duration_since(self.now));
        let digest = hash128(&content);
        View { content, wait, digest }
    }

    /// Whether the effect of this input may depend on a partner that is drawn.
    pub(super) fn draws(&self, input: &Input) -> bool {
        let Some(network) = self.replica.network(NET) else { return false };
        match *input {
            Input::Timer | Input::ReapTime => {
                let awaits = |held: &Attachment| matches!(held.visibility(), Visibility::AwaitsComparison);
                !network.is_synced() || network.store.attachments().any(|(_, held)| awaits(held))
            }
            Input::Frame { stream, .. }
            | Input::StreamClosed { stream }
            | Input::Unreachable { stream }
            | Input::Poll { stream } => {
                let is_pull = |session: &Session| matches!(session.role, Role::PullOpener(_));
                matches!(self.replica.streams.get(&StreamId(stream)), Some(Stream::Session(session)) if is_pull(session))
            }
            _ => false,
        }
    }
}
