//! The few small things that every crate of the workspace must agree on: what a node is called, how a value becomes
//! bytes, and what a byte stream looks like to a state machine that owns no socket.
//!
//! `membership`, `tabledb` and `transport` do not know each other; they meet here, and in `node`.

pub mod codec;
mod identity;
mod stream;

pub use identity::{MAX_NODE_NAME_BYTES, NodeId, NodeName, NodeNameError};
pub use stream::{Destination, FramePoll, StreamId};
