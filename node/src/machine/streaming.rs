//! The streams of the parts of a node: which of them a frame is for, and when a half ends.

use std::net::SocketAddr;
use std::time::Instant;

use wire::{FramePoll, NodeName, StreamId};

use super::{FOR_INQUIRIES, FOR_MEMBERSHIP, FOR_TABLES, MachineError, NodeMachine};
use crate::streams::Owner;

impl NodeMachine {
    /// A peer opened a stream. Returns the machine's ID of it.
    pub fn handle_stream_opened(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId {
        self.streams.accept(from.clone(), source, now)
    }

    /// A stream that this machine requested is open to `peer`.
    pub fn handle_stream_connected(&mut self, stream: StreamId, peer: &NodeName, now: Instant) {
        if let Some(Owner::Membership(inner)) = self.owner(stream) {
            self.membership.handle_stream_connected(inner, peer, now);
            self.settle(now);
        }
    }

    /// A frame of a stream arrived. After an error the machine has closed the stream, and the caller has to
    /// reset it.
    pub fn handle_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MachineError> {
        let result = self.dispatch_frame(stream, bytes, now);
        if result.is_err() {
            self.drop_stream(stream, now);
        }
        self.settle(now);
        result
    }

    fn dispatch_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MachineError> {
        let known = self.streams.get(stream).ok_or(MachineError::UnknownStream(stream))?;
        let has_sent_all = known.has_sent_all();
        let (owner, bytes) = match (known.owner.clone(), bytes) {
            (Owner::Unknown { from, source }, [FOR_MEMBERSHIP, first @ ..]) => {
                let inner = self.membership.handle_stream_opened(&from, source, now);
                (Owner::Membership(inner), first)
            }
            (Owner::Unknown { from, .. }, [FOR_TABLES, first @ ..]) => {
                (Owner::Tables(self.driver.replica().handle_stream_opened(&from, now)), first)
            }
            (Owner::Unknown { from, .. }, [FOR_INQUIRIES, question @ ..]) => {
                (Owner::Inquiry(self.inquiries.accept(&from)), question)
            }
            (Owner::Unknown { .. }, _) => return Err(MachineError::Unaddressed(bytes.len())),
            (owner, bytes) => (owner, bytes),
        };
        if self.owner(stream).as_ref() != Some(&owner) {
            self.streams.assign(stream, owner.clone());
        }
        match owner {
            Owner::Membership(inner) => {
                self.streams.note_frame(stream, now);
                Ok(self.membership.handle_frame(inner, bytes, now)?)
            }
            // The peer sent it before it saw the end of the exchange.
            Owner::Tables(_) if has_sent_all => Ok(()),
            Owner::Tables(inner) => Ok(self.driver.replica().handle_frame(inner, bytes, now)?),
            Owner::Inquiry(inner) => Ok(self.handle_inquiry_frame(inner, bytes, now)?),
            Owner::Unknown { .. } => Ok(()),
        }
    }

    /// The peer has closed its half of a stream. Poll the stream's frames afterwards: this node closes its
    /// half when it has sent everything.
    pub fn handle_stream_finished(&mut self, stream: StreamId, now: Instant) {
        match self.owner(stream) {
            Some(Owner::Membership(inner)) => self.membership.handle_stream_finished(inner, now),
            Some(Owner::Tables(inner)) => self.driver.replica().handle_stream_finished(inner, now),
            Some(Owner::Inquiry(inner)) => self.inquiries.handle_finished(inner),
            Some(Owner::Unknown { .. }) | None => {}
        }
        self.streams.finish_receiving(stream);
        self.settle(now);
    }

    /// A stream is closed in both directions, broke, or could not be opened. Has no effect on a stream that
    /// is closed already.
    pub fn handle_stream_closed(&mut self, stream: StreamId, now: Instant) {
        self.drop_stream(stream, now);
        self.settle(now);
    }

    /// The next frame of a stream. Poll it whenever the stream can take a frame: after it was opened, after a
    /// frame was handled or sent, after the peer closed its half, and on [`NodeTransmit::WakeStream`](super::NodeTransmit::WakeStream).
    pub fn poll_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        let Some(known) = self.streams.get(stream) else { return FramePoll::Finish };
        if known.has_sent_all() {
            return FramePoll::Finish;
        }
        let has_received_all = known.has_received_all();
        let (poll, kind) = match known.owner {
            Owner::Unknown { .. } if has_received_all => (FramePoll::Finish, FOR_TABLES),
            Owner::Unknown { .. } => return FramePoll::Wait,
            Owner::Membership(inner) => (self.membership.poll_frame(inner, now), FOR_MEMBERSHIP),
            Owner::Tables(inner) => (self.driver.replica().poll_frame(inner, now), FOR_TABLES),
            Owner::Inquiry(inner) => (self.inquiries.poll_frame(inner), FOR_INQUIRIES),
        };
        let poll = match poll {
            FramePoll::Frame(frame) if self.streams.take_announce(stream) => {
                let mut first = Vec::with_capacity(frame.len() + 1);
                first.push(kind);
                first.extend_from_slice(&frame);
                FramePoll::Frame(first)
            }
            other => other,
        };
        if poll == FramePoll::Finish {
            self.streams.finish_sending(stream, now);
        }
        self.settle(now);
        poll
    }

    /// Removes a stream and notifies its owner.
    pub(super) fn drop_stream(&mut self, stream: StreamId, now: Instant) {
        match self.streams.remove(stream) {
            Some(Owner::Membership(inner)) => self.membership.handle_stream_closed(inner, now),
            Some(Owner::Tables(inner)) => self.driver.replica().handle_stream_closed(inner, now),
            Some(Owner::Inquiry(inner)) => self.inquiries.handle_closed(inner),
            Some(Owner::Unknown { .. }) | None => {}
        }
    }

    fn owner(&self, stream: StreamId) -> Option<Owner> {
        self.streams.get(stream).map(|known| known.owner.clone())
    }
}
