//! A networkdb node: the cluster's membership and the networks' tables, composed and driven over QUIC.

pub mod cli;
pub mod config;
mod config_file;
pub mod config_values;
pub mod demo;
mod handle;
pub mod http;
mod machine;

pub use handle::{JoinClusterError, Node, NodeConfig, StartError};
pub use machine::{MachineError, NodeEvent, NodeMachine, NodeTransmit};
