//! Replicated per-network tables: an embeddable, thread-safe, synchronous store, and the state machine
//! without I/O that keeps replicas of it in agreement.
//!
//! A *network* is a group of nodes. A *table* holds opaque bytes under string keys. Every node keeps a full
//! copy of the tables of its networks. Programs use [`TableDb`]. The [`Replica`] behind it takes bytes and
//! time as input, and returns bytes, events and deadlines: the `node` crate moves the bytes over QUIC, a
//! simulator over a heap of events. ALGORITHM.md explains how tables converge and why a deleted entry does
//! not come back.

mod batch;
mod change;
mod config;
mod database;
mod digest;
mod entry;
mod error;
mod explanation;
mod final_syncs;
mod host_clock;
pub mod inquiry;
mod join_outcome;
mod latencies;
mod listing;
mod network_statistics;
mod record;
mod replica;
mod reset_reason;
mod resumable_watch;
mod shared;
mod sleeping_watches;
mod sync_progress;
mod table_reader;
mod version;
mod watch;
mod watch_statistics;

pub use batch::{BatchError, MAX_BATCH_WRITES, Operation, Write};
pub use change::{Change, ChangeKind, DeleteReason, WatchFilter};
pub use config::{Config, ConfigError, Limits, MAX_VALUE_BYTES};
pub use database::{Driver, TableDb};
pub use entry::{Entry, Key, Value};
pub use error::{JoinError, LeaveError, WriteError};
pub use explanation::{
    Arrival, ArrivalPath, EntryExplanation, EntryState, HeldWrite, RefusedBecause, RefusedWrite,
};
pub use final_syncs::FinalSyncs;
pub use join_outcome::JoinOutcome;
pub use latencies::Latencies;
pub use listing::{HiddenReason, Listed, Listing};
pub use network_statistics::NetworkStatistics;
pub use replica::{
    ClockSkew, Counters, Event, InspectedAttachment, InspectedEntry, InspectedNetwork, MessageError, Origin,
    Ranges, Replica, ResumePoint, ResumePointError, Transmit,
};
pub use reset_reason::ResetReason;
pub use resumable_watch::{ResumableEvent, ResumableWatch};
pub use shared::ReplicaGuard;
pub use sleeping_watches::SleepingWatches;
pub use sync_progress::SyncProgress;
pub use table_reader::TableReader;
pub use version::{Version, VersionError};
pub use watch::{Watch, WatchEvent};
pub use watch_statistics::WatchStatistics;
pub use wire::{FramePoll, NodeId, NodeName, StreamId};
