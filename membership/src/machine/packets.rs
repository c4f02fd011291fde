//! Packets: dispatch of received messages, and assembly of messages into datagrams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use wire::codec::{self, DecodeError};
use wire::{Destination, NodeId, NodeName};

use crate::broadcast::Charge;
use crate::event::{Purpose, Transmit};
use crate::message::{Message, MessageError, PacketBuilder, split_packet};

use super::Membership;
use super::claims::Origin;

/// Number of datagrams whose updates can still be refunded.
const MAX_CHARGED_DATAGRAMS: usize = 1024;

impl Membership {
    /// Processes every message of a packet and appends the answers for its sender to `replies`.
    pub(super) fn process_packet(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        bytes: &[u8],
        now: Instant,
        replies: &mut Vec<Message>,
    ) -> Result<(), MessageError> {
        self.statistics.packets += 1;
        let mut result = Ok(());
        let messages = split_packet(bytes).map_err(|error| self.malformed(error))?;
        for message in messages {
            match codec::decode::<Message>(message) {
                Ok(message) => {
                    self.statistics.messages += 1;
                    self.process_message(from, source, message, now, replies);
                }
                Err(error) => result = Err(self.malformed(error)),
            }
        }
        result
    }

    pub(super) fn malformed(&mut self, error: DecodeError) -> MessageError {
        self.statistics.ignored_malformed += 1;
        MessageError::Malformed(error)
    }

    fn process_message(
        &mut self,
        from: &NodeName,
        source: SocketAddr,
        message: Message,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        if from == self.me.name() {
            return self.process_own_name(source, message, now, replies);
        }
        if self.needs_membership(from, &message) {
            self.statistics.ignored_not_member += 1;
            // If it considers itself a member, it introduces itself, and its claims arrive again.
            if !replies.contains(&Message::Introduce) {
                replies.push(Message::Introduce);
            }
            return;
        }
        let origin = Origin { from, source, list: false, relay: true, announce: false };
        match message {
            Message::Ping { sequence, target, generation, incarnation } => {
                let sender = NodeId::new(from.clone(), generation);
                self.answer_ping(&sender, incarnation, sequence, &target, now, replies);
            }
            Message::PingRequest { sequence, target, address } => {
                self.relay_ping(from, source, sequence, target, address, now);
            }
            Message::Ack { sequence, id, incarnation, digest } => {
                self.process_ack(from, source, sequence, &id, incarnation, digest, now, replies);
            }
            Message::Nack { sequence } => self.process_nack(from, sequence),
            Message::Alive { record, incarnation } => {
                let outcome = self.consider_alive(record, incarnation, origin, now);
                outcome.answer(replies);
            }
            Message::Suspect { id, incarnation, accuser } => {
                self.consider_suspect(&id, incarnation, &accuser, origin, now, replies);
            }
            Message::Failed { id, incarnation, accuser } => {
                self.consider_failed(&id, incarnation, &accuser, origin, now, replies);
            }
            Message::Left { id, incarnation } => {
                self.consider_left(&id, incarnation, origin, now, replies);
            }
            Message::Forgotten { id, incarnation } => self.forgotten_elsewhere(&id, incarnation, now),
            Message::Introduce => replies.push(self.own_claim()),
            Message::Outdated(outdated) => self.outdated(outdated, now),
            Message::NameInUse(in_use) => self.receive_conflict_report(in_use, now),
        }
    }

    /// Whether this message is accepted only from members, and its sender is not one: claims about
    /// third parties, and requests to probe them at an address the sender chooses. An authenticated
    /// peer that never joined may send claims about itself and about this node. A node that has no
    /// members yet accepts all messages.
    fn needs_membership(&self, from: &NodeName, message: &Message) -> bool {
        let about = match message {
            Message::Alive { record, .. } => &record.id.name,
            Message::Suspect { id, .. } | Message::Failed { id, .. } | Message::Left { id, .. } => &id.name,
            Message::PingRequest { target, .. } => &target.name,
            _ => return false,
        };
        about != from
            && about != self.me.name()
            && self.roster.get(from.as_str()).is_none()
            && self.roster.active().len() > 0
    }

    /// This node's claim about itself.
    pub(super) fn own_claim(&self) -> Message {
        Message::claim(&self.me, self.me.name())
    }

    pub(super) fn send_replies(&mut self, from: &NodeName, source: SocketAddr, replies: Vec<Message>) {
        let purpose = match replies.iter().any(|message| matches!(message, Message::Ack { .. })) {
            true => Purpose::Ack,
            false => Purpose::Gossip,
        };
        let to = Destination { name: Some(from.clone()), address: source };
        self.send_messages(to, replies, purpose);
    }

    /// Sends messages to one node in as many datagrams as they need and fills the last one with
    /// queued updates.
    pub(super) fn send_messages(&mut self, to: Destination, messages: Vec<Message>, purpose: Purpose) {
        let refusal = is_conflict_notice(&messages);
        let mut packet = PacketBuilder::new(self.probe_budget());
        for message in messages {
            let message = Arc::<[u8]>::from(codec::encode(&message));
            if !packet.add(message.clone()) {
                let full = std::mem::replace(&mut packet, PacketBuilder::new(self.probe_budget()));
                self.send_datagram(to.clone(), full.finish(), purpose, Vec::new());
                // Every single message fits into an empty packet: `Config::validate` ensures it.
                packet.add(message);
            }
        }
        let limit = self.retransmit_limit();
        let charges = match refusal {
            true => Vec::new(),
            false => self.broadcasts.fill(&mut packet, limit),
        };
        self.send_datagram(to, packet.finish(), purpose, charges);
    }

    /// Encodes the same as one packet for a stream.
    pub(super) fn packet_of(&mut self, messages: Vec<Message>) -> Vec<u8> {
        let mut packet = PacketBuilder::new(self.config.frame_budget);
        let refusal = is_conflict_notice(&messages);
        for message in messages {
            packet.add(codec::encode(&message).into());
        }
        if refusal {
            return packet.finish();
        }
        // The stream may fail: it carries no more updates than a datagram.
        packet.limit_remaining(self.config.datagram_budget);
        let limit = self.retransmit_limit();
        self.broadcasts.fill(&mut packet, limit);
        packet.finish()
    }

    fn probe_budget(&self) -> usize {
        self.config.datagram_budget - self.config.piggyback_reserve
    }

    pub(super) fn send_datagram(
        &mut self,
        to: Destination,
        bytes: Vec<u8>,
        purpose: Purpose,
        charges: Vec<Charge>,
    ) {
        if self.urgent.len() + self.ordinary.len() >= self.config.max_transmits {
            self.statistics.dropped_transmits += 1;
            charges.into_iter().for_each(|charge| self.broadcasts.refund(charge));
            return;
        }
        let id = self.next_transmit;
        self.next_transmit += 1;
        if !charges.is_empty() {
            self.charged.insert(id, charges);
            if self.charged.len() > MAX_CHARGED_DATAGRAMS {
                self.charged.pop_first();
            }
        }
        let queue = match purpose {
            Purpose::Gossip => &mut self.ordinary,
            Purpose::Probe | Purpose::Ack => &mut self.urgent,
        };
        queue.push_back(Transmit::Datagram { id, to, bytes, purpose });
    }
}

/// Whether these messages report a name conflict. Their receiver may not be a member: it would use
/// gossiped updates to contact members, and the updates would count as sent.
fn is_conflict_notice(messages: &[Message]) -> bool {
    messages.iter().any(|message| matches!(message, Message::NameInUse(_)))
}
