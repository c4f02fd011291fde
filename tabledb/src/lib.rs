//! Replicated per-network tables: an embeddable, thread-safe, synchronous store, and the pure state machine that keeps
//! it in agreement with others.
//!
//! A *network* is a group of nodes; a *table* holds opaque bytes under string keys; every node keeps a full copy of the
//! tables of the networks it is on. [`TableDb`] is the store that programs use. [`Replica`] behind it takes bytes and
//! time in, and gives bytes, events and deadlines out: the `node` crate moves them over QUIC, a simulator over a heap of
//! events, and anybody else as they like. ALGORITHM.md tells how tables converge and why nothing deleted comes back.

mod config;
mod database;
mod entry;
mod error;
mod final_syncs;
mod replica;
mod watch;

pub use config::{Config, ConfigError, Limits, MAX_VALUE_BYTES};
pub use database::{NetworkStatistics, ReplicaGuard, TableDb};
pub use entry::{Entry, Value};
pub use error::{JoinError, LeaveError, WriteError};
pub use final_syncs::FinalSyncs;
pub use replica::{
    ClockSkew, Counters, Event, InspectedAttachment, InspectedEntry, InspectedNetwork, MessageError, Origin,
    Ranges, Replica, Transmit,
};
pub use watch::{Change, ChangeKind, DeleteReason, Watch, WatchEvent, WatchFilter};
pub use wire::{FramePoll, NodeId, NodeName, StreamId};
