//! A networkdb node: the cluster's membership and the networks' tables, composed and driven over QUIC.

mod clock;
mod compose;
mod driver;
mod handle;
pub mod identity;
mod machine;
mod seeds;
mod streams;

pub use compose::{ComposeError, MachineSettings, compose};
pub use handle::{JoinClusterError, Node, NodeConfig, StartError};
pub use machine::{DATAGRAM_BUDGET, MachineError, NodeEvent, NodeMachine, NodeTransmit};
pub use seeds::ResolveError;
