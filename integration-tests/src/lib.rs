//! Everything that needs more than one node.
//!
//! The simulator drives the production state machines on virtual time: [`fabric`] is the network, a heap of timed
//! events that carries real bytes and loses, delays, cuts and breaks them on request, all from one seed.

pub mod fabric;
mod trace;

pub use trace::{Describe, Trace};
