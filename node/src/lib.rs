//! Embeds a node of a cluster in a program: gossip membership and replicated tables over QUIC, without a
//! server.
//!
//! A [`Node`] finds the other nodes, keeps a full copy of the tables of each network that it has joined, and
//! sends its own writes to the other members. Reads are local memory reads. [`Node::tables`] gives the
//! [`TableDb`] with all reads, writes and watches; [`Node::subscribe`] gives membership's events.
//!
//! ```
//! use std::time::Duration;
//!
//! use networkdb::{KeySet, Node, NodeConfig, NodeName};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let loopback = "127.0.0.1:0".parse()?;
//! // Between hosts: KeySet::parse of a file that `networkdb keygen` made.
//! let config = NodeConfig::new(NodeName::new("proxy-1")?, loopback, KeySet::development());
//! let node = Node::start(config).await?;
//! node.join_network("blue").await?;
//! node.tables().create("blue", "services", "web", *b"10.0.0.7:80")?;
//! assert_eq!(node.tables().get("blue", "services", "web").unwrap().value(), b"10.0.0.7:80");
//! node.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! In `examples/two_nodes.rs` two nodes share a table; `examples/follow.rs` follows changes and members in one
//! loop. [`NodeMachine`] is the same node without sockets, clocks and threads, for programs that move its bytes
//! themselves, such as the simulator.

mod agreement;
mod clock;
mod compose;
mod driver;
mod handle;
mod health;
pub mod identity;
mod identity_changes;
mod inquire;
mod inquiries;
mod inquiry_report;
mod machine;
mod node_config;
mod seeds;
mod streams;
mod subscription;
mod watch_notifier;
mod watch_stream;

pub use compose::{ComposeError, MachineSettings, compose};
pub use handle::{JoinClusterError, Node, StartError};
pub use health::{Liveness, Readiness};
pub use inquiries::{InquiryFrameError, InquiryStatistics, MAX_WITHIN};
pub use inquiry_report::{
    AgreementReport, Difference, DifferenceReason, InquiryError, InquiryId, InquiryReport, KnownBy,
    KnownByError, MemberAnswer, Missing, NoAnswer, Receipt,
};
pub use machine::{DATAGRAM_BUDGET, MachineError, NodeEvent, NodeMachine, NodeTransmit};
pub use node_config::NodeConfig;
pub use seeds::ResolveError;
pub use subscription::{MembershipUpdate, Subscription};
pub use watch_stream::WatchStream;

// The types in the signatures above, so that an embedding program needs one dependency only.
pub use membership::{Event, Member, NodeRecord, RecordError, State};
pub use tabledb::{
    Change, ChangeKind, DeleteReason, Entry, FinalSyncs, JoinError, JoinOutcome, Key, LeaveError,
    ResetReason, ResumableEvent, ResumableWatch, ResumePoint, ResumePointError, TableDb, TableReader, Value,
    Version, Watch, WatchEvent, WatchFilter, WriteError,
};
pub use transport::{ClusterName, Identity, KeySet, Secret};
pub use wire::{NodeId, NodeName};
// The crates themselves: settings and statistics of each part.
pub use {membership, tabledb, transport};
