//! The traffic of processes, and its fate.

use std::collections::BTreeMap;
use std::time::Duration;

use super::drop_reason::DropReason;

/// The traffic of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Datagrams, and frames of streams.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Load {
    pub(super) fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }
}

/// The traffic of an endpoint, or of all of them, and its fate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams handed to the network.
    pub datagrams: u64,
    /// Their bytes.
    pub datagram_bytes: u64,
    /// Streams opened.
    pub streams: u64,
    /// Frames handed to the network.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Of datagrams and frames, those about members: probes and their answers with the table
    /// digests piggybacked on them, updates and member lists.
    pub membership: Load,
    /// Of datagrams and frames, those about tables.
    pub tables: Load,
    /// Datagrams that were not delivered, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Datagrams delivered twice.
    pub duplicated: u64,
    /// Datagrams delayed.
    pub reordered: u64,
    /// Streams that broke or did not open.
    pub broken_streams: u64,
    /// Dials begun. Counted for all endpoints together only, like the next five.
    pub dials: u64,
    /// Dials that led to a connection.
    pub dials_connected: u64,
    /// Dials that were begun anew because other dials of the node had been answered meanwhile.
    pub dials_renewed: u64,
    /// Dials without an answer in time.
    pub dials_unanswered: u64,
    /// Handshakes that were processed after their dial had been given up.
    pub dials_in_vain: u64,
    /// Processor time spent on handshakes.
    pub handshake_work: Duration,
}

impl Traffic {
    pub(super) fn load(&mut self, for_tables: bool) -> &mut Load {
        match for_tables {
            true => &mut self.tables,
            false => &mut self.membership,
        }
    }

    /// Datagrams dropped for any reason.
    pub fn dropped_datagrams(&self) -> u64 {
        self.dropped.values().sum()
    }
}
