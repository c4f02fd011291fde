//! A networkdb node: the cluster's membership and the networks' tables, composed and driven over QUIC.

mod handle;
pub mod http;
mod machine;

pub use handle::{JoinClusterError, Node, NodeConfig, StartError};
pub use machine::{MachineError, NodeEvent, NodeMachine, NodeTransmit};
