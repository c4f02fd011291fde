//! The types that all crates of the workspace share: node names and instances, the encoding of messages,
//! streams as a state machine without sockets sees them, and what counts events and times.
//!
//! `membership`, `tabledb` and `transport` do not depend on each other. They share this crate, and
//! `node` composes them.

pub mod codec;
mod counters;
mod histogram;
mod identity;
mod stream;

pub use counters::{AtomicCounter, Count, CountFamily};
pub use histogram::Histogram;
pub use identity::{MAX_NODE_NAME_BYTES, NodeId, NodeName, NodeNameError};
pub use stream::{Destination, FramePoll, StreamId};
