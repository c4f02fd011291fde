//! The state machine: its state and its public interface. The modules below implement it by
//! subject.

mod accusations;
mod claims;
mod connections;
mod exchange;
mod explaining;
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

/// The membership of one node. Bytes, streams and time are its input; datagrams, streams, events
/// and the next deadline are its output. The crate documentation describes the protocol.
///
/// The methods come in four groups, in this order: getters; `handle_*` for input; requests of the
/// caller; `poll_*` for output. After any call of the second or third group, the caller must poll
/// everything: transmits until there is none, frames of all open streams, events until there is
/// none, and the timeout. Events and frames stay in the machine until they are polled, so their
/// memory is bounded only if the caller polls.
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
    /// When the roster's digest last changed.
    changed_at: Instant,
    /// Time of the caller's last call: at that time this process was not stalled.
    called_at: Instant,

    /// This node's generation at start and the time of the start: the reference for generations of
    /// peers.
    started: (u64, Instant),

    probe_round: ProbeRound,
    /// Whether the last probe was for the neighbour that this node monitors.
    neighbours_turn: bool,
    probes: BTreeMap<u64, Probe>,
    /// The pending probe of each member that is being probed.
    probing: BTreeMap<NodeName, u64>,
    relays: BTreeMap<u64, Relay>,
    next_sequence: u64,

    pending_joins: BTreeMap<NodeName, PendingJoin>,
    conflict_decisions: BTreeMap<NodeName, ConflictDecision>,
    /// When a conflict about this name was last reported.
    conflicts_reported: BTreeMap<NodeName, Instant>,

    broadcasts: Broadcasts,
    /// Messages that send a node the claim about itself.
    notices: VecDeque<(wire::Destination, Vec<u8>)>,
    flushed_at: Option<Instant>,
    /// Updates in the latest datagrams, to be refunded if a datagram could not be sent.
    charged: BTreeMap<u64, Vec<Charge>>,
    next_transmit: u64,

    exchanges: BTreeMap<StreamId, Exchange>,
    inbound_streams: usize,
    next_stream: u64,
    /// Pairs of digests compared since the last periodic comparison.
    compared: BTreeSet<(u64, u64)>,
    repaired_at: Option<Instant>,

    seeds: BTreeMap<SocketAddr, Seed>,
    leaving: Option<Leaving>,

    /// How long a handshake takes at present.
    handshake_time: Duration,
    allowance: Allowance,

    urgent: VecDeque<Transmit>,
    ordinary: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Membership {
    /// Creates a node that knows only itself. `me` is the record it announces; its generation must
    /// be greater than that of any earlier instance of the name. `rng` chooses probe targets,
    /// helpers and gossip targets.
    ///
    /// # Errors
    ///
    /// If the settings cannot work together, or `me` cannot be announced.
    pub fn new(
        config: Config,
        me: NodeRecord,
        now: Instant,
        mut rng: ChaCha8Rng,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        me.check()?;
        // Late answers to probes of an earlier instance must not match probes of this one.
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

    /// Starts every periodic timer at a random offset into its period, so that nodes started
    /// together do not act in step.
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

    /// This node as it announces itself: alive or left.
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// All members in order of name, including this node and departed members.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        let me = self.me.name();
        let before = self.roster.before(me).map(|entry| &entry.member);
        let after = self.roster.after(Some(me)).map(|entry| &entry.member);
        before.chain(std::iter::once(&self.me)).chain(after)
    }

    /// The member of this name, if it is known; this includes this node.
    pub fn member(&self, name: &str) -> Option<&Member> {
        if name == self.me.name().as_str() {
            return Some(&self.me);
        }
        self.roster.get(name).map(|entry| &entry.member)
    }

    /// Number of members that are alive or suspected, including this node unless it has left.
    pub fn alive_count(&self) -> usize {
        self.roster.active().len() + usize::from(self.me.state.is_active())
    }

    /// Number of recorded instances of removed members.
    pub fn remembered_count(&self) -> usize {
        self.forgotten.len()
    }

    /// Number of queued updates.
    pub fn broadcast_count(&self) -> usize {
        self.broadcasts.len()
    }

    /// Number of open streams.
    pub fn stream_count(&self) -> usize {
        self.exchanges.len()
    }

    /// The local health score. 0 is healthy; each point makes this node slower to suspect others.
    pub fn health_score(&self) -> u32 {
        self.health.score()
    }

    /// Digest of the names, instances and incarnations of all active and all failed members: equal
    /// on nodes that agree on both.
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

    // ---- Input

    /// Handles a received datagram. `from` is the name that the transport authenticated, `source`
    /// the address it came from.
    ///
    /// # Errors
    ///
    /// If a part of it did not decode. That part was dropped and counted; the rest was processed.
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

    /// Handles a stream opened by a peer. It is closed at once if the limit of open streams is
    /// reached.
    pub fn handle_stream_opened(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId {
        self.detect_stall(now);
        self.accept_stream(from, source, now)
    }

    /// Handles the establishment of a stream this machine requested; the transport authenticated
    /// the peer as `peer`.
    pub fn handle_stream_connected(&mut self, stream: StreamId, peer: &NodeName, now: Instant) {
        self.detect_stall(now);
        self.stream_connected(stream, peer, now);
        self.flush(now);
    }

    /// Handles a received frame. Frames of closed streams are ignored.
    ///
    /// # Errors
    ///
    /// If it did not decode or was not expected: it was counted, and the exchange was aborted.
    pub fn handle_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MessageError> {
        self.detect_stall(now);
        let result = self.process_frame(stream, bytes, now);
        self.flush(now);
        result
    }

    /// Handles the end of the peer's half of the stream: no more frames arrive. An exchange that
    /// still expects a frame has failed; pending frames are sent all the same.
    pub fn handle_stream_finished(&mut self, stream: StreamId, now: Instant) {
        self.detect_stall(now);
        self.stream_finished(stream, now);
        self.flush(now);
    }

    /// Handles a stream that closed in both directions, broke or could not be opened.
    pub fn handle_stream_closed(&mut self, stream: StreamId, now: Instant) {
        self.detect_stall(now);
        self.stream_closed(stream, now);
        self.flush(now);
    }

    /// Handles a lost connection: a reason to probe the node now, but no proof of failure. Not for
    /// connections closed on purpose, for example because they were idle: the probe would open them
    /// again.
    pub fn handle_connection_lost(&mut self, peer: &NodeName, now: Instant) {
        self.detect_stall(now);
        self.probe_hinted(peer, now);
        self.flush(now);
    }

    /// Reports that a connection to a node now exists or no longer exists, whichever side opened or
    /// closed it. A caller that never reports connections makes the machine treat every member as
    /// connected.
    pub fn handle_connection_changed(&mut self, peer: &NodeName, connected: bool) {
        self.roster.set_connected(peer, connected);
    }

    /// Discards all known connections; only those that [`Self::handle_connection_changed`] reports
    /// from now on exist.
    pub fn forget_connections(&mut self) {
        self.roster.forget_connections();
    }

    /// Sets the time within which nearly all handshakes complete at present. While it exceeds the
    /// time limit for an answer to a probe, members that can be probed without a handshake are
    /// probed first.
    pub fn set_handshake_time(&mut self, time: Duration) {
        self.handshake_time = time;
    }

    /// Handles a recent datagram that could not be sent locally: its updates are queued again. Do
    /// not call it for loss in the network; retransmission covers that.
    pub fn handle_unsent(&mut self, datagram: u64, now: Instant) {
        self.detect_stall(now);
        self.statistics.transmits_unsent += 1;
        for charge in self.charged.remove(&datagram).unwrap_or_default() {
            self.broadcasts.refund(charge);
        }
        self.flush(now);
    }

    /// Handles a deadline. Calling it early, late or twice is allowed.
    ///
    /// Pass received input to the other `handle_*` methods first, so that an answer that arrived in
    /// time does not count as late.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.detect_stall(now);
        self.detect_lag(now);
        while let Some(timer) = self.timers.pop(now) {
            self.fire(timer, now);
        }
        self.flush(now);
    }

    // ---- Requests of the caller

    /// Joins through these addresses, which replace all earlier ones. An event reports the outcome
    /// for each.
    ///
    /// After `leave`, the node joins as a later instance.
    pub fn join(&mut self, seeds: &[SocketAddr], now: Instant) {
        self.detect_stall(now);
        self.replace_seeds(seeds, now);
        self.flush(now);
    }

    /// Leaves the cluster. `LeaveCompleted` follows when enough members have acknowledged it, after
    /// `leave_timeout` at the latest, and at once if there are none.
    pub fn leave(&mut self, now: Instant) {
        self.detect_stall(now);
        self.start_leaving(now);
        self.flush(now);
    }

    /// Changes this node's labels and announces them.
    ///
    /// # Errors
    ///
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

    /// Starts an instance later than the current one and than `generation`, announces it and
    /// returns it. For a caller that finds data of its own name that it did not write.
    ///
    /// Returns the current instance unchanged if no generation is left; only a peer that claims
    /// extreme generations can cause that.
    pub fn renew(&mut self, generation: u64, now: Instant) -> NodeId {
        self.detect_stall(now);
        self.take_later_instance(generation, now);
        self.flush(now);
        self.me.record.id.clone()
    }

    // ---- Output

    /// The next thing to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.urgent.pop_front().or_else(|| self.ordinary.pop_front())
    }

    /// The next frame of a stream that can accept one. An unknown or closed stream has no more
    /// frames.
    pub fn poll_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        self.next_frame(stream, now)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` should be called next; `None` only after leaving.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    // ---- Time

    /// Detects a stall of this process. Answers and refutations of peers may be in buffers that
    /// were not read yet, so no failure timeout fires before there was time to read them, and the
    /// local health score rises.
    ///
    /// Every external call begins with this, so that operations started after the stall are not
    /// postponed by its length.
    fn detect_stall(&mut self, now: Instant) {
        let Some(due) = self.timers.next() else { return };
        let stalled_for = now.saturating_duration_since(due.max(self.called_at));
        self.called_at = self.called_at.max(now);
        if stalled_for >= self.config.stall_threshold {
            tracing::warn!(
                node = %self.me.record.id, ?stalled_for,
                "this process stalled; failure timeouts are postponed"
            );
            self.statistics.stalls += 1;
            self.health.worse(1);
            let by = stalled_for + self.config.probe_timeout;
            self.timers.postpone_failure_timeouts(by);
            for name in self.roster.active().names().to_vec() {
                self.prolong_suspicion(&name, by);
            }
        }
    }

    /// Detects a process that cannot keep up with its input. It is not stalled, but its failure
    /// timeouts fire late too, and refutations may still be in its buffers.
    fn detect_lag(&mut self, now: Instant) {
        let Some(horizon) = now.checked_sub(self.config.stall_threshold) else { return };
        let overdue = self.timers.overdue_failure_timeouts(horizon);
        let Some((longest_ago, _)) = overdue.first() else { return };
        let late = now.saturating_duration_since(*longest_ago);
        tracing::warn!(
            node = %self.me.record.id, ?late,
            "this process lags behind its input; failure timeouts are postponed"
        );
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
            Timer::SeedCheck => self.contact_missing_seed(now),
            Timer::SeedRetry(address) => self.contact_seed(address, now),
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

    /// Whether an instance can have this generation at present.
    fn is_plausible_generation(&self, generation: u64, now: Instant) -> bool {
        let (at_start, start) = self.started;
        let since = u64::try_from(now.saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX);
        let most = at_start.saturating_add(since).saturating_add(MAX_LEAD);
        generation <= most.min(MAX_GENERATION)
    }

    /// Schedules the removal of departed members when their retention expires rather than at the
    /// next check: members that learned of a failure together remove it together and keep the same
    /// entries meanwhile.
    fn schedule_reap(&mut self) {
        let Some((at, _)) = self.roster.next_departed() else { return };
        if self.timers.due(&Timer::Reap).is_none_or(|due| *at < due) {
            self.timers.set(Timer::Reap, *at);
        }
    }

    /// Removes a member from the roster and records its instance.
    fn forget(&mut self, name: &NodeName, now: Instant) {
        let Some(entry) = self.roster.remove(name.as_str()) else { return };
        self.cancel_suspicion(name);
        let until = now + self.config.memory_retention;
        self.forgotten.keep(name, entry.member.standing(), ClaimSource::ForgottenHere, until);
        self.changed_at = now;
        tracing::debug!(node = %self.me.record.id, member = %entry.member.record.id, "member removed");
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
