//! A node's name, and the id of one instance of a node.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest node name, in bytes of UTF-8.
pub const MAX_NODE_NAME_BYTES: usize = 128;

/// The name that an operator gave a node: 1 to [`MAX_NODE_NAME_BYTES`] bytes of UTF-8 without control
/// characters.
///
/// Cloning copies a pointer. A name from the network is checked while it is decoded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct NodeName(Arc<str>);

/// Why a text is not a node name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeNameError {
    /// It is empty.
    #[error("a node name is empty; give it 1 to {MAX_NODE_NAME_BYTES} bytes")]
    Empty,
    /// It is longer than [`MAX_NODE_NAME_BYTES`].
    #[error("a node name of {0} bytes is too long; at most {MAX_NODE_NAME_BYTES} bytes are allowed")]
    TooLong(usize),
    /// It contains control characters, which would garble a terminal or a log line.
    #[error("the node name {0:?} contains a control character; use printable characters only")]
    ControlCharacter(String),
}

impl NodeName {
    /// Checks `name` and keeps a copy of it.
    pub fn new(name: &str) -> Result<Self, NodeNameError> {
        if name.is_empty() {
            return Err(NodeNameError::Empty);
        }
        if name.len() > MAX_NODE_NAME_BYTES {
            return Err(NodeNameError::TooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(NodeNameError::ControlCharacter(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl std::str::FromStr for NodeName {
    type Err = NodeNameError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// One instance of a node: its name, and a generation that is larger than that of every earlier instance
/// of the same name.
///
/// Instances are ordered by name, then generation. A later instance supersedes an earlier one
/// completely.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// The name of the node.
    pub name: NodeName,
    /// The generation of the instance: fixed at start-up, usually the wall time in microseconds.
    pub generation: u64,
}

impl NodeId {
    /// The instance `generation` of the node `name`.
    pub fn new(name: NodeName, generation: u64) -> Self {
        Self { name, generation }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.generation)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(NodeName::new(""), Err(NodeNameError::Empty));
        assert_eq!(NodeName::new(&"x".repeat(129)), Err(NodeNameError::TooLong(129)));
        assert!(NodeName::new(&"x".repeat(128)).is_ok());
        assert!(NodeName::new("a\nb").is_err());
        assert!(NodeName::new("żółw 1").is_ok());
    }

    #[test]
    fn a_name_from_the_network_is_checked_too() {
        let bytes = crate::codec::encode("a\u{7}b");
        assert!(crate::codec::decode::<NodeName>(&bytes).is_err());
        let bytes = crate::codec::encode("ab");
        assert_eq!(crate::codec::decode::<NodeName>(&bytes).unwrap().as_str(), "ab");
    }

    #[test]
    fn instances_are_ordered_by_name_then_generation() {
        let id = |name, generation| NodeId::new(NodeName::new(name).unwrap(), generation);
        assert!(id("a", 2) < id("b", 1));
        assert!(id("a", 1) < id("a", 2));
    }
}
