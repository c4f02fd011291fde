//! The driver: passes events of the fabric to the machines, and requests of the machines to the
//! fabric.

use std::time::{Duration, Instant};

use networkdb::{NodeEvent, NodeMachine, NodeTransmit};
use wire::{FramePoll, StreamId};

use super::{Cluster, Peer};
use crate::fabric::rules::{GOSSIP, TABLES};
use crate::fabric::{Ending, EndpointId, FabricEvent};

/// A machine with this many requests after one call is in an endless loop.
const REQUESTS_PER_CALL: usize = 1_000_000;

impl Cluster {
    /// Handles the next event that is due at `until` or before. If there is none, returns false
    /// with the clock at `until`.
    pub(crate) fn step(&mut self, until: Duration) -> bool {
        if self.next_inspection <= until && self.fabric.next_at().is_none_or(|at| at > self.next_inspection) {
            // Nothing changes between two events, so a slightly late inspection sees the same.
            self.inspect_all();
        }
        let Some((endpoint, event)) = self.fabric.next(until) else { return false };
        self.report_connections();
        let Some(peer) = self.owners.get(&endpoint).copied() else { return true };
        self.dispatch(peer, event);
        true
    }

    fn dispatch(&mut self, peer: Peer, event: FabricEvent) {
        match event {
            FabricEvent::Datagram { from, bytes } => {
                self.deliveries.gossip += u64::from(bytes.starts_with(&GOSSIP));
                let (name, address) = self.sender(from);
                let result =
                    self.drive(peer, |machine, now| machine.handle_datagram(&name, address, &bytes, now));
                if let Err(error) = result {
                    self.instance_mut(peer).refused_datagrams += 1;
                    self.violation(peer, format!("an honest datagram from {name} was refused: {error}"));
                }
            }
            FabricEvent::StreamOpened { from, number } => {
                let (name, address) = self.sender(from);
                let now = self.read_clocks(peer);
                let stream = self.instance_mut(peer).machine.handle_stream_opened(&name, address, now);
                self.fabric.accept_stream(number, stream);
                self.after_call(peer, Some(stream));
            }
            FabricEvent::Frame { stream, first, bytes } => {
                self.deliveries.table_streams += u64::from(first && bytes.starts_with(&TABLES));
                let now = self.read_clocks(peer);
                let instance = self.instance_mut(peer);
                let (endpoint, result) =
                    (instance.endpoint, instance.machine.handle_frame(stream, &bytes, now));
                if let Err(error) = result {
                    // As in production, the exchange is given up.
                    self.instance_mut(peer).refused_frames += 1;
                    self.fabric.note(Some(endpoint), format!("refuses a frame of {stream:?}: {error}"));
                    self.fabric.reset_stream(endpoint, stream);
                }
                self.after_call(peer, Some(stream));
            }
            FabricEvent::StreamConnected { stream, peer: other } => {
                let name = self.fabric.name(other).clone();
                let now = self.read_clocks(peer);
                self.instance_mut(peer).machine.handle_stream_connected(stream, &name, now);
                self.after_call(peer, Some(stream));
            }
            FabricEvent::StreamWritable { stream } => self.after_call(peer, Some(stream)),
            FabricEvent::StreamFinished { stream } => {
                let now = self.read_clocks(peer);
                self.instance_mut(peer).machine.handle_stream_finished(stream, now);
                self.after_call(peer, Some(stream));
            }
            FabricEvent::StreamClosed { stream, .. } => {
                self.drive(peer, |machine, now| machine.handle_stream_closed(stream, now));
            }
            FabricEvent::ConnectionLost { peer: other } => {
                let name = self.fabric.name(other).clone();
                self.drive(peer, |machine, now| machine.handle_connection_lost(&name, now));
            }
            FabricEvent::Timer => {
                self.report_dial_time(peer);
                self.drive(peer, |machine, now| machine.handle_timeout(now));
            }
        }
    }

    /// Reports begun and ended connections to the machines, as the production driver does, unless
    /// every node may dial at any time.
    fn report_connections(&mut self) {
        for (endpoint, other, connected) in self.fabric.take_connection_changes() {
            let Some(peer) = self.owners.get(&endpoint).copied() else { continue };
            let name = self.fabric.name(other).clone();
            // The next process of the node may be connected already when the connection with the
            // former one ends.
            let connected = connected || self.fabric.is_connected(endpoint, &name);
            if self.settings.fabric.dialling.is_none() {
                continue;
            }
            self.report_dial_time(peer);
            let Some(instance) = self.nodes[peer.0].instance.as_mut() else { continue };
            if instance.endpoint == endpoint {
                instance.machine.handle_connection_changed(&name, connected);
            }
        }
    }

    fn report_dial_time(&mut self, peer: Peer) {
        let Some(instance) = self.nodes[peer.0].instance.as_mut() else { return };
        if self.settings.fabric.dialling.is_some() {
            instance.machine.set_handshake_time(self.fabric.dial_time(instance.endpoint));
        }
    }

    fn sender(&self, from: EndpointId) -> (wire::NodeName, std::net::SocketAddr) {
        (self.fabric.name(from).clone(), self.fabric.address(self.fabric.location(from)))
    }

    /// Calls into a machine, and handles its requests.
    pub(crate) fn drive<R>(&mut self, peer: Peer, call: impl FnOnce(&mut NodeMachine, Instant) -> R) -> R {
        let now = self.read_clocks(peer);
        let result = call(&mut self.instance_mut(peer).machine, now);
        self.after_call(peer, None);
        result
    }

    /// Polls the machine, as the production driver does after a write to its tables from outside.
    pub fn wake(&mut self, peer: Peer) {
        self.after_call(peer, None);
    }

    fn after_call(&mut self, peer: Peer, touched: Option<StreamId>) {
        let now = self.read_clocks(peer);
        let Some(instance) = self.nodes[peer.0].instance.as_mut() else { return };
        let endpoint = instance.endpoint;
        let mut requests = 0;
        let mut touched: Vec<StreamId> = touched.into_iter().collect();
        let mut became_ready = Vec::new();
        loop {
            let mut idle = true;
            for stream in std::mem::take(&mut touched) {
                while self.fabric.has_capacity(endpoint, stream) {
                    match instance.machine.poll_frame(stream, now) {
                        FramePoll::Frame(bytes) => {
                            idle = false;
                            self.fabric.send_frame(endpoint, stream, bytes);
                        }
                        FramePoll::Wait => break,
                        FramePoll::Finish => self.fabric.finish_stream(endpoint, stream),
                    }
                }
            }
            while let Some(transmit) = instance.machine.poll_transmit(now) {
                idle = false;
                requests += 1;
                match transmit {
                    NodeTransmit::Datagram { id, to, bytes } => {
                        let sent = self.fabric.send_datagram(endpoint, &to, bytes);
                        if let (Err(_), Some(id)) = (sent, id) {
                            instance.machine.handle_unsent(id, now);
                        }
                    }
                    NodeTransmit::OpenStream { stream, to } => self.fabric.open_stream(endpoint, stream, &to),
                    NodeTransmit::CloseStream { stream } => self.fabric.reset_stream(endpoint, stream),
                    NodeTransmit::WakeStream { stream } => touched.push(stream),
                }
            }
            while let Some(event) = instance.machine.poll_event() {
                idle = false;
                requests += 1;
                self.fabric.note(Some(endpoint), format!("{event:?}"));
                match &event {
                    NodeEvent::NetworkReady { network, .. } => {
                        instance.ready.insert(network.clone());
                        became_ready.push(network.clone());
                    }
                    NodeEvent::NetworkLeft { network, final_syncs } => {
                        let began = instance.departing.remove(network);
                        // A leave that reached no node reports that: writes that only the leaver
                        // knew may be lost. So they may if it reached one before the last fault,
                        // which may have ended that node.
                        let lasting = self.fault_free_since.is_some_and(|since| began >= Some(since));
                        let handed_on = lasting && final_syncs.completed > 0;
                        if handed_on && !instance.join_baseline.contains_key(network) {
                            self.ledger.handed_on(&instance.id, network);
                        }
                        self.watchdog.forget_network(peer, network, &self.ledger);
                    }
                    NodeEvent::Membership(membership::Event::Forgotten(owner)) => {
                        self.watchdog.forget_owner(peer, owner, &self.ledger);
                    }
                    NodeEvent::Membership(membership::Event::LeaveCompleted) => instance.left = true,
                    NodeEvent::Membership(membership::Event::Returned(record)) => {
                        instance.returned.insert(record.id.clone(), self.fabric.now());
                    }
                    _ => {}
                }
                if self.settings.record_events {
                    instance.events.push((self.fabric.now(), event));
                }
            }
            assert!(
                requests < REQUESTS_PER_CALL,
                "{} makes {requests} requests after one call",
                self.nodes[peer.0].name
            );
            if idle {
                break;
            }
        }
        self.plan_timer(peer);
        self.notice_renewal(peer);
        for network in became_ready {
            self.check_readiness(peer, &network);
        }
        self.follow(peer);
        self.inspect_if_changed(peer);
        self.end_if_left(peer);
    }

    /// Ends a process that has announced its leave.
    fn end_if_left(&mut self, peer: Peer) {
        let Some(instance) = self.nodes[peer.0].instance.as_ref() else { return };
        if instance.leaving && instance.left {
            self.end_instance(peer, Ending::Reset);
        }
    }
}
