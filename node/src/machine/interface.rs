//! What the machine requests of its driver, reports to the program, and refuses.

use tabledb::{FinalSyncs, JoinOutcome};
use wire::{Destination, StreamId};

use crate::inquiries::InquiryFrameError;
use crate::inquiry_report::{InquiryId, InquiryReport};

/// An action on the network that the machine requests.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: a driver that ignored one would break the protocol.
pub enum NodeTransmit {
    /// Send one datagram; it may be lost.
    Datagram {
        /// The argument of [`NodeMachine::handle_unsent`](super::NodeMachine::handle_unsent) if the datagram cannot be sent.
        id: Option<u64>,
        /// The destination.
        to: Destination,
        /// At most [`DATAGRAM_BUDGET`](super::DATAGRAM_BUDGET) bytes.
        bytes: Vec<u8>,
    },
    /// Open a bidirectional stream, report the peer by [`NodeMachine::handle_stream_connected`](super::NodeMachine::handle_stream_connected), then move
    /// frames.
    OpenStream {
        /// The machine's ID of the stream.
        stream: StreamId,
        /// The destination.
        to: Destination,
    },
    /// Reset the stream in both directions. The machine needs no report of it.
    CloseStream {
        /// The stream.
        stream: StreamId,
    },
    /// Poll the stream's frames although nothing has arrived on it: its exchange has ended.
    WakeStream {
        /// The stream.
        stream: StreamId,
    },
}

/// An event of the node, for the program that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// An event of membership.
    Membership(membership::Event),
    /// The initial sync of a joined network is complete, or is not waited for any longer.
    NetworkReady {
        /// The network.
        network: String,
        /// What this node holds of it.
        outcome: JoinOutcome,
    },
    /// The node has left a network and dropped its tables.
    NetworkLeft {
        /// The network.
        network: String,
        /// The final syncs, which show whether other members have what only this node had.
        final_syncs: FinalSyncs,
    },
    /// An inquiry has its answers, or its time is over.
    InquiryOver {
        /// Its number.
        inquiry: InquiryId,
        /// The answers.
        report: InquiryReport,
    },
}

/// Why a datagram or frame was dropped; it was counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The first byte names no part of the node.
    #[error("{0} bytes are for no part of the node")]
    Unaddressed(usize),
    /// Membership refused it.
    #[error(transparent)]
    Membership(#[from] membership::MessageError),
    /// The tables refused it.
    #[error(transparent)]
    Tables(#[from] tabledb::MessageError),
    /// It was a question or an answer.
    #[error(transparent)]
    Inquiry(#[from] InquiryFrameError),
    /// The stream is not open.
    #[error("stream {} is not open", .0.0)]
    UnknownStream(StreamId),
}
