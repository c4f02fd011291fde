//! The name of a cluster.

use std::fmt;
use std::sync::Arc;

/// The longest cluster name, in bytes of UTF-8.
pub const MAX_CLUSTER_NAME_BYTES: usize = 128;

/// The name of a cluster: nodes of different clusters refuse each other, even with the same secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

/// Why a text is not a cluster name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterNameError {
    /// It is empty.
    #[error("a cluster name is empty; give it 1 to {MAX_CLUSTER_NAME_BYTES} bytes")]
    Empty,
    /// It is longer than [`MAX_CLUSTER_NAME_BYTES`].
    #[error("a cluster name of {0} bytes is too long; at most {MAX_CLUSTER_NAME_BYTES} bytes are allowed")]
    TooLong(usize),
    /// It contains control characters, which would garble a terminal or a log line.
    #[error("the cluster name {0:?} contains a control character; use printable characters only")]
    ControlCharacter(String),
}

impl ClusterName {
    /// Checks `name` and keeps a copy of it.
    pub fn new(name: &str) -> Result<Self, ClusterNameError> {
        if name.is_empty() {
            return Err(ClusterNameError::Empty);
        }
        if name.len() > MAX_CLUSTER_NAME_BYTES {
            return Err(ClusterNameError::TooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(ClusterNameError::ControlCharacter(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl std::str::FromStr for ClusterName {
    type Err = ClusterNameError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
