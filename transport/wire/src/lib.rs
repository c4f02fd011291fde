//! The types that all crates of the workspace share: node names and instances, the encoding of messages,
//! and streams as a state machine without sockets sees them.
//!
//! `membership`, `tabledb` and `transport` do not depend on each other. They share this crate, and
//! `node` composes them.

pub mod codec;
mod counters;
mod identity;
mod stream;

pub use counters::{AtomicCounter, Count};
pub use identity::{MAX_NODE_NAME_BYTES, NodeId, NodeName, NodeNameError};
pub use stream::{Destination, FramePoll, StreamId};
