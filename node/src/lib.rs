//! A networkdb node: the cluster's membership and the networks' tables, composed and driven over QUIC.

pub mod cli;
mod clock;
mod compose;
pub mod config;
mod config_file;
pub mod config_http;
pub mod config_limits;
pub mod config_values;
pub mod demo;
mod driver;
mod handle;
pub mod http;
pub mod identity;
mod machine;
mod seeds;
mod streams;

pub use compose::{ComposeError, MachineSettings, compose};
pub use handle::{JoinClusterError, Node, NodeConfig, StartError};
pub use machine::{DATAGRAM_BUDGET, MachineError, NodeEvent, NodeMachine, NodeTransmit};
pub use seeds::ResolveError;
