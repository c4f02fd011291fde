//! The state machine: what it holds, and its public interface. What it does is in the modules below, by subject.

mod claims;
mod connections;
mod exchange;
mod gossip;
mod leave;
mod list_sync;
mod name_conflict;
mod packets;
mod probe;
mod refutation;
mod seeds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use wire::{FramePoll, NodeId, NodeName, StreamId};

use crate::broadcast::{Broadcasts, Charge};
use crate::config::{Config, ConfigError};
use crate::event::{Event, Statistics, Transmit};
use crate::forgotten::{ClaimSource, ForgottenInstances};
use crate::health::Health;
use crate::member::{MAX_GENERATION, MAX_LEAD, Member, NodeRecord, RecordError, State};
use crate::message::MessageError;
use crate::probe_round::ProbeRound;
use crate::roster::{Roster, active_fingerprint};
use crate::timers::{Timer, Timers};

use connections::Allowance;
use exchange::Exchange;
use leave::Leaving;
use name_conflict::{ConflictDecision, PendingJoin};
use probe::{Probe, Relay};
use seeds::Seed;

/// The membership of one node: bytes, streams and time go in; datagrams, streams, events and the next deadline come
/// out. See the crate's documentation for the protocol.
///
/// The methods come in four groups, in this order: getters; `handle_*` for what happens to it; what its owner asks of
/// it; `poll_*` for what it wants. After any call of the second or third group poll everything: transmits until there
/// is none, frames of all open streams, events until there is none, and the timeout. Events and frames wait in the
/// machine until they are polled; what they take is bounded only if they are.
#[derive(Debug)]
pub struct Membership {
    config: Config,
    me: Member,
    rng: ChaCha8Rng,
    statistics: Statistics,
    health: Health,
    timers: Timers,

    roster: Roster,
    forgotten: ForgottenInstances,
    /// When the roster's fingerprint last changed.
    changed_at: Instant,
    /// When the owner last called: that long ago this process did not stand still.
    called_at: Instant,

    /// Our generation at the start, and when that was: what generations of others are measured by.
    started: (u64, Instant),

    probe_round: ProbeRound,
    /// Whether the last probe was for the member that is ours to look after.
    neighbours_turn: bool,
    probes: BTreeMap<u64, Probe>,
    /// Which members are being probed, and by which probe.
    probing: BTreeMap<NodeName, u64>,
    relays: BTreeMap<u64, Relay>,
    next_sequence: u64,

    pending_joins: BTreeMap<NodeName, PendingJoin>,
    conflict_decisions: BTreeMap<NodeName, ConflictDecision>,
    /// When a conflict over this name was last reported.
    conflicts_reported: BTreeMap<NodeName, Instant>,

    broadcasts: Broadcasts,
    /// Messages for single nodes that tell them what is held against them.
    notices: VecDeque<(wire::Destination, Vec<u8>)>,
    flushed_at: Option<Instant>,
    /// The news in the latest datagrams, in case they could not be sent.
    charged: BTreeMap<u64, Vec<Charge>>,
    next_transmit: u64,

    exchanges: BTreeMap<StreamId, Exchange>,
    inbound_streams: usize,
    next_stream: u64,
    /// Pairs of fingerprints compared since the last periodic comparison.
    compared: BTreeSet<(u64, u64)>,
    repaired_at: Option<Instant>,

    seeds: BTreeMap<SocketAddr, Seed>,
    leaving: Option<Leaving>,

    /// How long handshakes take at the moment.
    handshake_time: Duration,
    allowance: Allowance,

    urgent: VecDeque<Transmit>,
    ordinary: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Membership {
    /// A node that knows only itself. `me` is what others will be told; its generation must be greater than that of
    /// any earlier life of the name. `rng` decides whom to probe, ask and tell.
    ///
    /// # Errors
    /// If the settings cannot work together, or `me` cannot be told to others.
    pub fn new(
        config: Config,
        me: NodeRecord,
        now: Instant,
        mut rng: ChaCha8Rng,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        me.check()?;
        // Probes of an earlier life of this process must not be mistaken for ours when their answers come late.
        let next_sequence = u64::from(rng.random::<u32>());
        let generation = me.id.generation;
        let mut machine = Self {
            me: Member { record: me, incarnation: 0, state: State::Alive, since: now, last_seen: Some(now) },
            rng,
            statistics: Statistics::default(),
            health: Health::new(config.health_max),
            timers: Timers::default(),
            roster: Roster::default(),
            forgotten: ForgottenInstances::new(config.max_remembered),
            changed_at: now,
            called_at: now,
            started: (generation, now),
            probe_round: ProbeRound::default(),
            neighbours_turn: false,
            probes: BTreeMap::new(),
            probing: BTreeMap::new(),
            relays: BTreeMap::new(),
            next_sequence,
            pending_joins: BTreeMap::new(),
            conflict_decisions: BTreeMap::new(),
            conflicts_reported: BTreeMap::new(),
            broadcasts: Broadcasts::new(config.max_broadcasts),
            notices: VecDeque::new(),
            flushed_at: None,
            charged: BTreeMap::new(),
            next_transmit: 0,
            exchanges: BTreeMap::new(),
            inbound_streams: 0,
            next_stream: 0,
            compared: BTreeSet::new(),
            repaired_at: None,
            seeds: BTreeMap::new(),
            leaving: None,
            handshake_time: Duration::ZERO,
            allowance: Allowance::new(now),
            urgent: VecDeque::new(),
            ordinary: VecDeque::new(),
            events: VecDeque::new(),
            config,
        };
        machine.start_timers(now);
        Ok(machine)
    }

    /// Every periodic timer starts at a random offset into its period: nodes started together must not act together.
    fn start_timers(&mut self, now: Instant) {
        for (timer, period) in [
            (Timer::Probe, self.config.probe_interval),
            (Timer::Sync, self.config.sync_interval),
            (Timer::Reconnect, self.config.reconnect_interval),
            (Timer::SeedCheck, self.config.seed_interval),
        ] {
            let offset = self.random_part(period);
            self.timers.set(timer, now + offset);
        }
        self.timers.set(Timer::Reap, now + self.config.reap_interval);
        self.timers.set(Timer::Rejoin, now + self.config.rejoin_interval);
    }

    // ---- Getters

    /// This node as it presents itself: always alive, or left.
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// All members in order of name, this node and the departed included.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        let me = self.me.name();
        let before = self.roster.before(me).map(|entry| &entry.member);
        let after = self.roster.after(Some(me)).map(|entry| &entry.member);
        before.chain(std::iter::once(&self.me)).chain(after)
    }

    /// The member of this name, if it is known; this node included.
    pub fn member(&self, name: &str) -> Option<&Member> {
        if name == self.me.name().as_str() {
            return Some(&self.me);
        }
        self.roster.get(name).map(|entry| &entry.member)
    }

    /// How many members are alive or suspected, this node included unless it has left.
    pub fn alive_count(&self) -> usize {
        self.roster.active().len() + usize::from(self.me.state.is_active())
    }

    /// How many lives of forgotten members are remembered.
    pub fn remembered_count(&self) -> usize {
        self.forgotten.len()
    }

    /// How many pieces of news are queued.
    pub fn broadcast_count(&self) -> usize {
        self.broadcasts.len()
    }

    /// How many streams are open.
    pub fn stream_count(&self) -> usize {
        self.exchanges.len()
    }

    /// 0 is healthy; with each point this node takes its own observations less seriously.
    pub fn health_score(&self) -> u32 {
        self.health.score()
    }

    /// A fingerprint of the names, instances and incarnations of all active and all failed members: equal on nodes that
    /// agree on both.
    pub fn digest(&self) -> u64 {
        let (me, incarnation) = (&self.me, self.me.incarnation);
        let own = match me.state.is_active() {
            true => active_fingerprint(&me.record.id, incarnation, incarnation),
            false => 0,
        };
        self.roster.digest().wrapping_add(own)
    }

    /// Counters.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether `leave` has been called, and `join` not since.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    // ---- What happens to it

    /// A datagram arrived. `from` is the name the transport vouches for, `source` where it came from.
    ///
    /// # Errors
    /// If something in it was not understood. It was dropped and counted, and the rest has been acted on.
    pub fn handle_datagram(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), MessageError> {
        self.detect_stall(now);
        let mut replies = Vec::new();
        let result = self.process_packet(from, source, bytes, now, &mut replies);
        if !replies.is_empty() {
            self.send_replies(from, source, replies);
        }
        self.flush(now);
        result
    }

    /// Another node opened a stream. If as many are open as may, it is closed at once.
    pub fn handle_stream_opened(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId {
        self.detect_stall(now);
        self.accept_stream(from, source, now)
    }

    /// A stream that this machine asked for is open, and `peer` answered, as the transport vouches.
    pub fn handle_stream_connected(&mut self, stream: StreamId, peer: &NodeName, now: Instant) {
        self.detect_stall(now);
        self.stream_connected(stream, peer, now);
        self.flush(now);
    }

    /// A frame arrived. Frames of streams that are over are ignored.
    ///
    /// # Errors
    /// If it was not understood or out of place: it was counted, and the exchange has been broken off.
    pub fn handle_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MessageError> {
        self.detect_stall(now);
        let result = self.process_frame(stream, bytes, now);
        self.flush(now);
        result
    }

    /// The peer has finished its half of the stream: no more frames come. An exchange that still awaits one has failed; what
    /// remains to be sent is sent all the same.
    pub fn handle_stream_finished(&mut self, stream: StreamId, now: Instant) {
        self.detect_stall(now);
        self.stream_finished(stream, now);
        self.flush(now);
    }

    /// The stream is over in both directions, or broke, or could not be opened.
    pub fn handle_stream_closed(&mut self, stream: StreamId, now: Instant) {
        self.detect_stall(now);
        self.stream_closed(stream, now);
        self.flush(now);
    }

    /// The connection to a node broke: a hint to probe it now, never a verdict. Not for connections that were closed
    /// on purpose, because they were idle say: probing the node would open them again.
    pub fn handle_connection_lost(&mut self, peer: &NodeName, now: Instant) {
        self.detect_stall(now);
        self.probe_hinted(peer, now);
        self.flush(now);
    }

    /// There has come to be a connection with a node, or is none any more, whoever made or ended it. Whoever never tells
    /// this has every member written to as if there were one.
    pub fn handle_connection_changed(&mut self, peer: &NodeName, connected: bool) {
        self.roster.set_connected(peer, connected);
    }

    /// There are no connections but those that [`Self::handle_connection_changed`] tells of from now on.
    pub fn forget_connections(&mut self) {
        self.roster.forget_connections();
    }

    /// How long nearly all handshakes take now. As long as it is more than an answer to a probe may take, probes go first
    /// to those whom they reach without one.
    pub fn set_handshake_time(&mut self, time: Duration) {
        self.handshake_time = time;
    }

    /// A datagram polled lately could not be sent: its news is queued again. Only for what is known here and now;
    /// what got lost on the way is covered by repetition.
    pub fn handle_unsent(&mut self, datagram: u64, now: Instant) {
        self.detect_stall(now);
        self.statistics.transmits_unsent += 1;
        for charge in self.charged.remove(&datagram).unwrap_or_default() {
            self.broadcasts.refund(charge);
        }
        self.flush(now);
    }

    /// A deadline may have passed. Early, late or twice is legal.
    ///
    /// Give what has arrived to the other `handle_*` methods first, so that an answer that came in time does not count
    /// as late.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.detect_stall(now);
        self.detect_lag(now);
        while let Some(timer) = self.timers.pop(now) {
            self.fire(timer, now);
        }
        self.flush(now);
    }

    // ---- What its owner asks of it

    /// Joins through these addresses, which replace all earlier ones. An event tells the outcome for each.
    ///
    /// After `leave` it joins as a later life.
    pub fn join(&mut self, seeds: &[SocketAddr], now: Instant) {
        self.detect_stall(now);
        self.replace_seeds(seeds, now);
        self.flush(now);
    }

    /// Says good-bye. `LeaveCompleted` follows when enough members know, after `leave_timeout` at the latest, and at
    /// once if there are none.
    pub fn leave(&mut self, now: Instant) {
        self.detect_stall(now);
        self.start_leaving(now);
        self.flush(now);
    }

    /// Changes this node's labels, and tells the others.
    ///
    /// # Errors
    /// If they are too long; nothing has changed.
    pub fn update_labels(
        &mut self,
        labels: BTreeMap<String, String>,
        now: Instant,
    ) -> Result<(), RecordError> {
        let record = NodeRecord { labels, ..self.me.record.clone() };
        record.check()?;
        if record != self.me.record {
            self.detect_stall(now);
            self.me.record = record;
            self.raise_incarnation(self.me.incarnation, now);
            self.flush(now);
        }
        Ok(())
    }

    /// Takes a life later than the present one and than `generation`, tells the others and returns it. For an owner
    /// that meets traces of its own name which it did not leave.
    ///
    /// Returns the present life unchanged if the generations are used up, which takes a peer that claims absurd ones.
    pub fn renew(&mut self, generation: u64, now: Instant) -> NodeId {
        self.detect_stall(now);
        self.take_later_instance(generation, now);
        self.flush(now);
        self.me.record.id.clone()
    }

    // ---- What it wants

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.urgent.pop_front().or_else(|| self.ordinary.pop_front())
    }

    /// What to send on a stream, when it can take another frame. A stream that is not known (any more) has nothing
    /// more to say.
    pub fn poll_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        self.next_frame(stream, now)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` should be called next; `None` only after having left.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    // ---- Time

    /// If this process stood still, others' answers and objections are in its buffers, not yet read: nobody is judged
    /// before there was time to read them, and this node's own health is in doubt.
    ///
    /// Every call from outside begins with this: what is begun after the standstill must not be put off by its length.
    fn detect_stall(&mut self, now: Instant) {
        let Some(due) = self.timers.next() else { return };
        let stalled_for = now.saturating_duration_since(due.max(self.called_at));
        self.called_at = self.called_at.max(now);
        if stalled_for >= self.config.stall_threshold {
            tracing::warn!(node = %self.me.record.id, ?stalled_for, "this process stood still; judgements are postponed");
            self.statistics.stalls += 1;
            self.health.worse(1);
            let by = stalled_for + self.config.probe_timeout;
            self.timers.postpone_failure_timeouts(by);
            for name in self.roster.active().names().to_vec() {
                self.prolong_suspicion(&name, by);
            }
        }
    }

    /// A process that has more to read than it can manage does not stand still, but its verdicts are late too, and what
    /// speaks against them may still be in its buffers.
    fn detect_lag(&mut self, now: Instant) {
        let Some(horizon) = now.checked_sub(self.config.stall_threshold) else { return };
        let overdue = self.timers.overdue_failure_timeouts(horizon);
        let Some((longest_ago, _)) = overdue.first() else { return };
        let late = now.saturating_duration_since(*longest_ago);
        tracing::warn!(node = %self.me.record.id, ?late, "this process lags behind; judgements are postponed");
        self.statistics.stalls += 1;
        self.health.worse(1);
        for (at, timer) in overdue {
            if let Timer::Suspicion(name) = &timer {
                let by = now.saturating_duration_since(at) + self.config.probe_timeout;
                self.prolong_suspicion(&name.clone(), by);
            }
            self.timers.set(timer, now + self.config.probe_timeout);
        }
    }

    fn prolong_suspicion(&mut self, name: &NodeName, by: Duration) {
        self.roster.note(name.as_str(), |entry| {
            if let Some(suspicion) = &mut entry.suspicion {
                suspicion.prolong(by);
            }
        });
    }

    fn fire(&mut self, timer: Timer, now: Instant) {
        match timer {
            Timer::Probe => self.probe_next(now),
            Timer::ProbeFallback(sequence) => self.probe_fallback(sequence, now),
            Timer::ProbeDeadline(sequence) => self.probe_unanswered(sequence, now),
            Timer::RelayNack(sequence) => self.relay_nack(sequence),
            Timer::RelayEnd(sequence) => drop(self.relays.remove(&sequence)),
            Timer::Suspicion(name) => self.suspicion_over(&name, now),
            Timer::SecondOpinions(name) => self.second_opinions_due(&name, now),
            Timer::Gossip => self.gossip_tick(now),
            Timer::Flush => {}
            Timer::Sync => self.sync_next(now),
            Timer::Reconnect => self.reconnect_next(now),
            Timer::Reap => self.reap(now),
            Timer::Rejoin => self.rejoin(now),
            Timer::SeedCheck => self.call_missing_seed(now),
            Timer::SeedRetry(address) => self.call_seed(address, now),
            Timer::Exchange(stream) => self.exchange_timed_out(stream, now),
            Timer::LeaveRepeat => self.resend_leave(now),
            Timer::LeaveEnd => self.finish_leaving(),
        }
    }

    fn reap(&mut self, now: Instant) {
        while let Some((at, name)) = self.roster.next_departed().cloned()
            && at <= now
        {
            self.forget(&name, now);
        }
        self.timers.set(Timer::Reap, now + self.config.reap_interval);
        self.schedule_reap();
        self.forgotten.expire(now);
        self.conflict_decisions.retain(|_, decision| decision.until > now);
        let interval = self.config.conflict_report_interval;
        self.conflicts_reported.retain(|_, at| *at + interval > now);
    }

    /// Whether there can be a life of this generation now.
    fn is_plausible_generation(&self, generation: u64, now: Instant) -> bool {
        let (at_start, start) = self.started;
        let since = u64::try_from(now.saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX);
        let most = at_start.saturating_add(since).saturating_add(MAX_LEAD);
        generation <= most.min(MAX_GENERATION)
    }

    /// The departed are forgotten when their time is over, not when somebody looks: members that learned of a failure
    /// together forget it together, and hold the same meanwhile.
    fn schedule_reap(&mut self) {
        let Some((at, _)) = self.roster.next_departed() else { return };
        if self.timers.due(&Timer::Reap).is_none_or(|due| *at < due) {
            self.timers.set(Timer::Reap, *at);
        }
    }

    /// Takes a member out of the roster, but not out of memory.
    fn forget(&mut self, name: &NodeName, now: Instant) {
        let Some(entry) = self.roster.remove(name.as_str()) else { return };
        self.cancel_suspicion(name);
        let until = now + self.config.memory_retention;
        self.forgotten.keep(name, entry.member.standing(), ClaimSource::ForgottenHere, until);
        self.changed_at = now;
        tracing::debug!(node = %self.me.record.id, member = %entry.member.record.id, "member forgotten");
        if entry.announced {
            self.events.push_back(Event::Forgotten(entry.member.record.id));
        }
    }

    fn random_part(&mut self, of: Duration) -> Duration {
        of.mul_f64(self.rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests;
