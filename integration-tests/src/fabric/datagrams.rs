//! Datagrams: sent once, over a connection, and perhaps received.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use wire::Destination;

use super::link::draw_between;
use super::rules::TABLES;
use super::{
    Activity, DropReason, EndpointId, Fabric, FabricEvent, HeldDatagram, MessageKind, Pending, Verdict,
};
use crate::trace::TraceEvent;

impl Fabric {
    /// Sends a datagram, which may be lost in many ways.
    ///
    /// # Errors
    ///
    /// If the sender's own transport knows that it cannot be sent: it is too large, there is no
    /// connection yet and another datagram waits for it, or the link's queue is full.
    pub fn send_datagram(
        &mut self,
        from: EndpointId,
        to: &Destination,
        bytes: Vec<u8>,
    ) -> Result<(), DropReason> {
        let bytes: Arc<[u8]> = bytes.into();
        let for_tables = bytes.starts_with(&TABLES);
        for traffic in [&mut self.traffic, &mut self.endpoints[from.0 as usize].traffic] {
            traffic.datagrams += 1;
            traffic.datagram_bytes += bytes.len() as u64;
            traffic.load(for_tables).count(bytes.len());
        }
        let Some(receiver) = self.listeners.get(&to.address).copied() else {
            self.note_sent_to_nobody(from, to.address);
            self.drop_datagram(from, None, DropReason::NoListener, bytes);
            return Ok(());
        };
        if self.notice_given_up(from, receiver) {
            self.drop_datagram(from, Some(receiver), DropReason::NotConnected, bytes);
            return Ok(());
        }
        let mut delay = Duration::ZERO;
        match self.decide(from, receiver, MessageKind::Datagram, false, &bytes) {
            Verdict::Pass => {}
            Verdict::Drop => {
                self.drop_datagram(from, Some(receiver), DropReason::Rule, bytes);
                return Ok(());
            }
            Verdict::Delay(by) => delay = by,
            Verdict::Hold => {
                self.held.push(HeldDatagram { from, to: receiver, bytes });
                return Ok(());
            }
        }
        if bytes.len() > self.link(self.location(from), self.location(receiver)).datagram_limit {
            self.drop_datagram(from, Some(receiver), DropReason::TooLarge, bytes);
            return Err(DropReason::TooLarge);
        }
        if to.name.as_ref().is_some_and(|name| name != self.name(receiver)) {
            self.drop_datagram(from, Some(receiver), DropReason::WrongName, bytes);
            return Ok(());
        }
        if self.endpoints[from.0 as usize].connections.contains_key(&receiver) {
            return self.transmit_datagram(from, receiver, bytes, delay);
        }
        let Some(bytes) = self.keep_for_dial(from, to, bytes) else { return Ok(()) };
        self.drop_datagram(from, Some(receiver), DropReason::NotConnected, bytes);
        Err(DropReason::NotConnected)
    }

    /// Puts a datagram on the link; the connection exists.
    pub(super) fn transmit_datagram(
        &mut self,
        from: EndpointId,
        to: EndpointId,
        bytes: Arc<[u8]>,
        delay: Duration,
    ) -> Result<(), DropReason> {
        let (here, there) = (self.location(from), self.location(to));
        if let Some(id) = self.connection_between(from, to) {
            self.note_sent(id, from);
        }
        if self.is_cut(here, there) {
            self.drop_datagram(from, Some(to), DropReason::Cut, bytes);
            return Ok(());
        }
        let link = self.link(here, there).clone();
        if link.loss > 0.0 && self.rng.random_bool(link.loss.min(1.0)) {
            self.drop_datagram(from, Some(to), DropReason::Lost, bytes);
            return Ok(());
        }
        let Some(departure) = self.occupy_for_datagram(from, to, &link, bytes.len()) else {
            self.drop_datagram(from, Some(to), DropReason::Congested, bytes);
            return Err(DropReason::Congested);
        };
        let copies =
            if link.duplication > 0.0 && self.rng.random_bool(link.duplication.min(1.0)) { 2 } else { 1 };
        if copies > 1 {
            self.traffic.duplicated += 1;
        }
        let (here, there) = (self.positions[here.0 as usize], self.positions[there.0 as usize]);
        for _ in 0..copies {
            let mut arrival = departure + delay + link.latency.draw(here, there, &mut self.rng);
            if link.reordering > 0.0 && self.rng.random_bool(link.reordering.min(1.0)) {
                self.traffic.reordered += 1;
                arrival += draw_between(Duration::ZERO, link.reordering_delay, &mut self.rng);
            }
            self.schedule.push(arrival, Pending::Datagram { from, to, sent: self.now, bytes: bytes.clone() });
        }
        Ok(())
    }

    pub(super) fn deliver_datagram(
        &mut self,
        from: EndpointId,
        to: EndpointId,
        sent: Duration,
        bytes: Arc<[u8]>,
    ) -> Option<(EndpointId, FabricEvent)> {
        let limit = self.config.receive_buffer;
        let here = self.endpoint(to);
        match here.activity {
            Activity::Ended => {
                self.drop_datagram(from, Some(to), DropReason::NoListener, bytes);
                None
            }
            Activity::Asleep => {
                self.drop_datagram(from, Some(to), DropReason::Asleep, bytes);
                None
            }
            Activity::Paused if here.inbox_bytes + bytes.len() > limit => {
                self.drop_datagram(from, Some(to), DropReason::BufferFull, bytes);
                None
            }
            Activity::Paused => {
                here.inbox_bytes += bytes.len();
                here.inbox.push_back(Pending::Datagram { from, to, sent, bytes });
                None
            }
            Activity::Running => {
                let now = self.now;
                if let Some(policy) = &mut self.endpoint(to).dialling {
                    policy.hear(now);
                }
                self.trace.record(self.now, TraceEvent::Datagram { from, to, sent, bytes: bytes.clone() });
                Some((to, FabricEvent::Datagram { from, bytes }))
            }
        }
    }

    pub(super) fn drop_datagram(
        &mut self,
        from: EndpointId,
        to: Option<EndpointId>,
        reason: DropReason,
        bytes: Arc<[u8]>,
    ) {
        for traffic in [&mut self.traffic, &mut self.endpoints[from.0 as usize].traffic] {
            *traffic.dropped.entry(reason).or_default() += 1;
        }
        self.trace.record(self.now, TraceEvent::DatagramDropped { from, to, reason, bytes });
    }
}
