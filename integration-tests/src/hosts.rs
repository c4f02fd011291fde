//! Real hosts: network namespaces on a bridge, the real binary in each, and faults of links and
//! processes.
//!
//! A [`Lab`] is the network: a bridge in a namespace of its own and one namespace for each host, so
//! that the machine's own network is not affected. A [`Cluster`] runs `networkdb` on the hosts of a
//! lab, sends it HTTP requests, and keeps a [`Ledger`](ledger::Ledger) of every write that a node
//! acknowledged. [`scenarios`] use both.

mod api;
mod clocks;
mod cluster;
mod command;
mod faults;
mod follower;
mod lab;
pub mod ledger;
mod namespace;
mod process;
mod program;
mod report;
mod runs;
pub mod scenarios;
mod waiting;
mod writing;

pub use api::{Answer, Metrics};
pub use cluster::{Cluster, Plan, binary};
pub use command::{Unavailable, require};
pub use faults::{Faults, Rate};
pub use lab::Lab;
pub use namespace::{Inside, Namespace, sweep};
pub use program::{Flags, run_scenarios};
pub use report::{Outcome, Report, table};
pub use runs::{Run, run_all};
pub use writing::Load;

/// A failure, described for the person who runs the scenario.
pub type Failure = String;
