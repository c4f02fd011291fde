//! The failure detector: direct probes, then indirect probes and a stream at the same time, then
//! suspicion.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt;
use wire::{Destination, NodeId, NodeName, StreamId};

use crate::event::Purpose;
use crate::member::State;
use crate::message::Message;
use crate::timers::Timer;

use super::Membership;
use super::claims::Origin;

/// How many doubtful members are excluded when helpers are chosen.
const MAX_EXCLUDED: usize = 64;

/// Time limit for second opinions after the start of a suspicion, in probe intervals. Twice this
/// time is still well within the shortest suspicion, so one round with too few opinions delays
/// nothing.
const SECOND_OPINIONS_WITHIN: f64 = 1.25;

/// Why a node is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Failure detection: it was its turn, or there is a hint that it may have failed.
    Detection,
    /// Another node at a different address claims its name.
    NameCheck,
}

/// A pending probe.
#[derive(Debug)]
pub(super) struct Probe {
    /// The probed instance: an answer of another instance does not count.
    target: NodeId,
    address: SocketAddr,
    reason: Reason,
    helpers: BTreeSet<NodeName>,
    nacks: BTreeSet<NodeName>,
    stream: Option<StreamId>,
    /// Whether the target is doubtful: its answer is late, or a hint caused the probe.
    doubtful: bool,
    started_at: Instant,
}

/// A pending indirect probe made for another node.
#[derive(Debug)]
pub(super) struct Relay {
    origin: NodeName,
    origin_address: SocketAddr,
    origin_sequence: u64,
    target: NodeId,
}

impl Membership {
    pub(super) fn take_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.wrapping_add(1);
        sequence
    }

    /// Probes alternately the neighbour that this node monitors and the next member of the round.
    ///
    /// With independent rounds alone, one of many failed nodes may be in no member's turn for
    /// several intervals. Because each member is also monitored by one neighbour, it is probed
    /// within two intervals.
    pub(super) fn probe_next(&mut self, now: Instant) {
        self.timers.set(Timer::Probe, now + self.health.scale(self.config.probe_interval));
        if self.leaving.is_some() {
            return;
        }
        self.neighbours_turn = !self.neighbours_turn;
        let slow_handshakes = self.handshakes_are_slow();
        if self.neighbours_turn
            && let Some(name) = self.roster.neighbour(self.me.name()).cloned()
            && !self.probing.contains_key(&name)
            && (!slow_handshakes || self.roster.reachable_without_handshake(&name))
        {
            return self.probe_member(&name, now);
        }
        // A member that is already being probed does not use up the turn.
        for _ in 0..=self.probing.len() {
            // No turn is deferred beyond the end of the round, and most members have a connection
            // by then.
            let next = match slow_handshakes {
                true => self.probe_round.next_connected(&self.roster, &mut self.rng),
                false => self.probe_round.next(&self.roster, &mut self.rng),
            };
            let Some(name) = next else { return };
            if !self.probing.contains_key(&name) {
                self.probe_member(&name, now);
                return;
            }
        }
    }

    /// Decides whether to probe a member that a peer suspects. The members that probed it for the
    /// accuser without an answer do, and a few random ones, independent of the cluster size. They
    /// confirm the suspicion, or the suspect refutes it. With probes in turn alone, confirmations
    /// would arrive one per interval.
    pub(super) fn give_second_opinion(&mut self, suspect: &NodeId, now: Instant) {
        let was_asked = self.relays.values().any(|relay| relay.target == *suspect);
        let others = self.roster.active().len().max(1);
        if was_asked || self.rng.random_range(0..others) < self.config.second_opinions {
            self.probe_hinted(&suspect.name, now);
        }
    }

    /// A second opinion takes the time of a probe and of its gossip. If too few have arrived by
    /// then, more members are needed: by chance, too few may have probed, or their suspicions were
    /// lost.
    pub(super) fn await_second_opinions(&mut self, suspect: &NodeName, now: Instant) {
        let at = now + self.config.probe_interval.mul_f64(SECOND_OPINIONS_WITHIN);
        self.timers.set(Timer::SecondOpinions(suspect.clone()), at);
    }

    /// The time limit for second opinions has passed. While some are missing, members that gave
    /// none decide again at random.
    pub(super) fn second_opinions_due(&mut self, suspect: &NodeName, now: Instant) {
        let Some(entry) = self.roster.get(suspect.as_str()) else { return };
        let Some(suspicion) = entry.suspicion.as_ref().filter(|suspicion| suspicion.missing() > 0) else {
            return;
        };
        let (id, given) = (entry.member.record.id.clone(), suspicion.is_by(self.me.name()));
        if !given {
            self.give_second_opinion(&id, now);
        }
        self.await_second_opinions(suspect, now);
    }

    /// Probes a node out of turn on a hint: its connection broke, it did not answer as a helper, or
    /// a peer suspects it. None of these proves a failure.
    pub(super) fn probe_hinted(&mut self, name: &NodeName, now: Instant) {
        if self.leaving.is_some() || !self.roster.is_active(name.as_str()) || self.probing.contains_key(name)
        {
            return;
        }
        if self.probing.len() >= self.config.max_hinted_probes {
            self.statistics.dropped_hints += 1;
            return;
        }
        self.probe_member(name, now);
        if let Some(sequence) = self.probing.get(name)
            && let Some(probe) = self.probes.get_mut(sequence)
        {
            probe.doubtful = true;
        }
    }

    /// Whether there is a reason to doubt this member at present.
    fn is_doubtful(&self, name: &NodeName) -> bool {
        let probe = self.probing.get(name).and_then(|sequence| self.probes.get(sequence));
        probe.is_some_and(|probe| probe.doubtful) || self.roster.suspects().contains(name)
    }

    fn probe_member(&mut self, name: &NodeName, now: Instant) {
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        let (target, address) = (entry.member.record.id.clone(), entry.member.record.address);
        let sequence = self.start_probe(target, address, Reason::Detection, now);
        self.probing.insert(name.clone(), sequence);
    }

    pub(super) fn start_probe(
        &mut self,
        target: NodeId,
        address: SocketAddr,
        reason: Reason,
        now: Instant,
    ) -> u64 {
        let sequence = self.take_sequence();
        tracing::debug!(node = %self.me.record.id, %target, %address, sequence, ?reason, "probing");
        self.statistics.probes += 1;
        let messages = self.probe_messages(&target, sequence);
        let to = Destination { name: Some(target.name.clone()), address };
        let handshake = self.handshake_with(&target.name);
        let (late, over) = (self.config.probe_timeout, self.config.probe_interval);
        self.timers.set(Timer::ProbeFallback(sequence), now + self.health.scale(late) + handshake);
        self.timers.set(Timer::ProbeDeadline(sequence), now + self.health.scale(over) + handshake);
        let (helpers, nacks) = Default::default();
        let (stream, doubtful, started_at) = (None, false, now);
        let probe = Probe { target, address, reason, helpers, nacks, stream, doubtful, started_at };
        self.probes.insert(sequence, probe);
        self.send_messages(to, messages, Purpose::Probe);
        sequence
    }

    /// A ping and the claim about its target, so that a suspect is the first to learn of the
    /// suspicion (Dadgar et al. 2018, section IV-C).
    pub(super) fn probe_messages(&self, target: &NodeId, sequence: u64) -> Vec<Message> {
        let mut messages = vec![Message::Ping {
            sequence,
            target: target.clone(),
            generation: self.me.record.id.generation,
            incarnation: self.me.incarnation,
        }];
        if let Some(entry) = self.roster.get(target.name.as_str())
            && entry.member.state != State::Alive
        {
            messages.push(Message::claim(&entry.member, self.me.name()));
        }
        messages
    }

    /// The direct answer is late: requests indirect probes and probes over a stream, which works on
    /// a path that loses datagrams.
    pub(super) fn probe_fallback(&mut self, sequence: u64, now: Instant) {
        let Some(probe) = self.probes.get_mut(&sequence) else { return };
        probe.doubtful = true;
        let (target, address) = (probe.target.clone(), probe.address);
        self.statistics.probe_fallbacks += 1;
        let helpers = self.choose_helpers(&target.name);
        let request = Message::PingRequest { sequence, target: target.clone(), address };
        for helper in &helpers {
            let Some(entry) = self.roster.get(helper.as_str()) else { continue };
            let to = Destination { name: Some(helper.clone()), address: entry.member.record.address };
            self.send_messages(to, vec![request.clone()], Purpose::Probe);
        }
        let messages = self.probe_messages(&target, sequence);
        let packet = self.packet_of(messages);
        let stream = self.open_packet(target.name, address, packet, now);
        if let Some(probe) = self.probes.get_mut(&sequence) {
            probe.helpers = helpers.into_iter().collect();
            probe.stream = Some(stream);
        }
    }

    /// Chooses helpers for indirect probes; doubtful members only if there are not enough others.
    fn choose_helpers(&mut self, target: &NodeName) -> Vec<NodeName> {
        let wanted = self.config.indirect_probes;
        // A whole rack may be doubtful; excluding some of its members is enough.
        let probed = self.probing.keys().filter(|name| self.is_doubtful(name));
        let doubtful = probed.chain(self.roster.suspects()).filter(|name| *name != target);
        let mut excluded = doubtful.take(MAX_EXCLUDED).collect::<Vec<_>>();
        excluded.push(target);
        excluded.sort_unstable();
        excluded.dedup();
        // Connected helpers first, because the request should not wait for a handshake.
        let connected = self.roster.connected_active();
        let connected = connected.map(|connected| connected.sample(wanted, &excluded, &mut self.rng));
        let mut helpers = connected.unwrap_or_default();
        excluded.extend(&helpers);
        let others = self.roster.active().sample(wanted - helpers.len(), &excluded, &mut self.rng);
        helpers.extend(others);
        if helpers.len() < wanted {
            let mut excluded = helpers.iter().collect::<Vec<_>>();
            excluded.push(target);
            let more = self.roster.active().sample(wanted - helpers.len(), &excluded, &mut self.rng);
            helpers.extend(more);
        }
        helpers
    }

    /// The probe timed out: neither the target nor a helper has reported an answer.
    pub(super) fn probe_unanswered(&mut self, sequence: u64, now: Instant) {
        let Some(probe) = self.end_probe(sequence) else { return };
        if probe.reason == Reason::NameCheck {
            return self.owner_unresponsive(&probe.target.name, now);
        }
        self.statistics.probes_failed += 1;
        let unresponsive = probe.helpers.difference(&probe.nacks).cloned().collect::<Vec<_>>();
        // Helpers that do not answer either indicate that this node is at fault rather than the
        // target, unless they are doubtful themselves: this node is not the cause if half a cluster
        // is lost.
        let blame = unresponsive.iter().filter(|helper| !self.is_doubtful(helper)).count();
        // The helpers may have failed for the same reason as the target. They are probed before the
        // score of this node rises and slows down its probes.
        for helper in &unresponsive {
            self.probe_hinted(helper, now);
        }
        self.health.worse(blame);
        let name = &probe.target.name;
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        if entry.member.record.id != probe.target || !entry.member.state.is_active() {
            return;
        }
        let incarnation = entry.member.incarnation;
        let me = self.me.name().clone();
        let source = self.me.record.address;
        let origin = Origin { from: &me, source, list: false, relay: true, announce: true };
        self.suspect(name, incarnation, &me, origin, now);
    }

    /// Removes a probe with its timers and its stream.
    pub(super) fn end_probe(&mut self, sequence: u64) -> Option<Probe> {
        let probe = self.probes.remove(&sequence)?;
        self.timers.cancel(&Timer::ProbeFallback(sequence));
        self.timers.cancel(&Timer::ProbeDeadline(sequence));
        if self.probing.get(&probe.target.name) == Some(&sequence) {
            self.probing.remove(&probe.target.name);
        }
        if let Some(stream) = probe.stream {
            self.drop_stream(stream);
        }
        Some(probe)
    }

    /// Answers a ping and checks whether the sender's instance and incarnation are known.
    pub(super) fn answer_ping(
        &mut self,
        sender: &NodeId,
        incarnation: u64,
        sequence: u64,
        target: &NodeId,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        let me = &self.me.record.id;
        if target.name != me.name {
            self.statistics.ignored_misdirected += 1;
            return;
        }
        if target.generation == me.generation {
            let (id, incarnation, digest) = (me.clone(), self.me.incarnation, Some(self.digest()));
            replies.push(Message::Ack { sequence, id, incarnation, digest });
        } else {
            // The ping is for an earlier instance, which is gone: answers with the current record.
            replies.push(self.own_claim());
        }
        if self.leaving.is_some() {
            return;
        }
        self.touch(sender, now);
        let Some(entry) = self.roster.get(sender.name.as_str()) else {
            return replies.push(Message::Introduce);
        };
        let known = &entry.member;
        if known.record.id != *sender || known.incarnation < incarnation {
            replies.push(Message::Introduce);
        } else if known.state != State::Alive || known.incarnation > incarnation {
            replies.push(Message::claim(known, self.me.name()));
        }
    }

    /// Processes the answer to a probe of this node, to an indirect probe, or to the leave message.
    #[expect(clippy::too_many_arguments, reason = "the fields of one message, and where it came from")]
    pub(super) fn process_ack(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        sequence: u64,
        id: &NodeId,
        incarnation: u64,
        digest: Option<u64>,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        let direct = *from == id.name;
        if direct {
            self.touch(id, now);
        }
        if let Some(relay) = self.relays.get(&sequence)
            && relay.target == *id
            && direct
        {
            let to = Destination { name: Some(relay.origin.clone()), address: relay.origin_address };
            let origin_sequence = relay.origin_sequence;
            self.end_relay(sequence);
            let passed_on =
                Message::Ack { sequence: origin_sequence, id: id.clone(), incarnation, digest: None };
            self.send_messages(to, vec![passed_on], Purpose::Ack);
            return;
        }
        if self.leave_acknowledged(from, sequence) {
            return;
        }
        let Some(probe) = self.probes.get(&sequence) else {
            self.statistics.late_responses += 1;
            return;
        };
        if probe.target != *id {
            self.statistics.late_responses += 1;
            return;
        }
        if !(direct || probe.helpers.contains(from)) {
            // This node did not ask the sender to probe the target.
            self.statistics.ignored_wrong_name += 1;
            return;
        }
        let reason = probe.reason;
        if reason == Reason::NameCheck {
            // If two nodes share even the generation, only the address identifies the one that
            // answered.
            if direct && source != probe.address {
                return;
            }
            self.end_probe(sequence);
            return self.owner_answered(&id.name, now);
        }
        let round_trip = now.saturating_duration_since(probe.started_at);
        self.end_probe(sequence);
        self.health.better();
        if direct {
            self.roster.note(id.name.as_str(), |entry| entry.acknowledged = Some((now, round_trip)));
            if self.roster.get(id.name.as_str()).is_some_and(|entry| entry.member.incarnation < incarnation) {
                replies.push(Message::Introduce);
            }
            if let Some(digest) = digest {
                self.compare_digest(from, digest, now);
            }
        }
    }

    pub(super) fn process_nack(&mut self, from: &NodeName, sequence: u64) {
        match self.probes.get_mut(&sequence) {
            Some(probe) if probe.helpers.contains(from) => drop(probe.nacks.insert(from.clone())),
            _ => self.statistics.late_responses += 1,
        }
    }

    /// Pings a node for another node.
    pub(super) fn relay_ping(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        sequence: u64,
        target: NodeId,
        address: SocketAddr,
        now: Instant,
    ) {
        if self.leaving.is_some() || target.name == *self.me.name() {
            self.statistics.ignored_misdirected += 1;
            return;
        }
        if self.relays.len() >= self.config.max_relayed_probes {
            self.statistics.dropped_relayed_probes += 1;
            return;
        }
        self.statistics.relayed_probes += 1;
        let own_sequence = self.take_sequence();
        let messages = self.probe_messages(&target, own_sequence);
        let to = Destination { name: Some(target.name.clone()), address };
        // The nack must arrive before the requester's probe times out, half an interval after its
        // request.
        let wait = self.config.probe_interval.saturating_sub(self.config.probe_timeout).mul_f64(0.6);
        self.timers.set(Timer::RelayNack(own_sequence), now + wait);
        self.timers.set(Timer::RelayEnd(own_sequence), now + self.config.probe_interval * 2);
        let relay = Relay { origin: from.clone(), origin_address: source, origin_sequence: sequence, target };
        self.relays.insert(own_sequence, relay);
        self.send_messages(to, messages, Purpose::Probe);
    }

    pub(super) fn relay_nack(&mut self, sequence: u64) {
        let Some(relay) = self.relays.get(&sequence) else { return };
        let to = Destination { name: Some(relay.origin.clone()), address: relay.origin_address };
        let nack = Message::Nack { sequence: relay.origin_sequence };
        self.send_messages(to, vec![nack], Purpose::Ack);
    }

    fn end_relay(&mut self, sequence: u64) {
        self.relays.remove(&sequence);
        self.timers.cancel(&Timer::RelayNack(sequence));
        self.timers.cancel(&Timer::RelayEnd(sequence));
    }
}
