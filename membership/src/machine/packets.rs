//! Packets: what to do with the messages in them, and how messages become datagrams.

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

/// How many datagrams are remembered in case they turn out not to have been sent.
const MAX_CHARGED_DATAGRAMS: usize = 1024;

impl Membership {
    /// Acts on every message of a packet. What is to be answered to the sender is added to `replies`.
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
        self.statistics.malformed += 1;
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
            self.statistics.refused_not_member += 1;
            // If it takes itself for a member, it introduces itself, and its claims come again.
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
                let verdict = self.consider_alive(record, incarnation, origin, now);
                verdict.answer(replies);
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

    /// Whether a message is for members to send, and its sender is none: what it claims of third parties, and whom it would have
    /// probed at an address of its choice. A peer that has proved a certificate and never joined may speak of itself, and tell this
    /// node what is held against it. A node that knows nobody yet listens to all.
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

    /// What this node says about itself.
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

    /// Sends messages to one node, in as many datagrams as they need, filled up with queued news.
    pub(super) fn send_messages(&mut self, to: Destination, messages: Vec<Message>, purpose: Purpose) {
        let refusal = is_conflict_notice(&messages);
        let mut packet = PacketBuilder::new(self.probe_budget());
        for message in messages {
            let message = Arc::<[u8]>::from(codec::encode(&message));
            if !packet.add(message.clone()) {
                let full = std::mem::replace(&mut packet, PacketBuilder::new(self.probe_budget()));
                self.send_datagram(to.clone(), full.finish(), purpose, Vec::new());
                // Every single message fits an empty packet: the settings are checked for it.
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

    /// The same as the bytes of one packet, for a stream.
    pub(super) fn packet_of(&mut self, messages: Vec<Message>) -> Vec<u8> {
        let mut packet = PacketBuilder::new(self.config.frame_budget);
        let refusal = is_conflict_notice(&messages);
        for message in messages {
            packet.add(codec::encode(&message).into());
        }
        if refusal {
            return packet.finish();
        }
        // A stream may never get through: no more news is staked on it than on a datagram.
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
            self.statistics.transmits_dropped += 1;
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

/// Whether the packet may go to a node that is no member: it would take news of the members for an invitation, and what
/// it is told would count as told.
fn is_conflict_notice(messages: &[Message]) -> bool {
    messages.iter().any(|message| matches!(message, Message::NameInUse(_)))
}
