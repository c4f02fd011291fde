//! The tests and measurements that need more than one node.
//!
//! The simulator drives the production state machines on virtual time: [`fabric`] is the network, a
//! heap of timed events that carries real bytes and loses, delays, cuts and breaks them on request,
//! all from one seed. [`cluster`] is the driver and the operations of scenarios, [`check`] the
//! invariants of every run.

pub mod check;
pub mod churn;
pub mod cluster;
pub mod convergence;
pub mod detection;
pub mod fabric;
pub mod formation;
pub mod growth;
pub mod history;
pub mod hostile;
pub mod hosts;
pub mod http_siege;
pub mod jobs;
mod trace;
pub mod waiting;
pub mod watch_moves;

pub use trace::{Describe, Trace};
