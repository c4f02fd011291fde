//! What the program that runs a node offers beside it over HTTP.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::LogTail;

/// What the program that runs a node offers beside it over HTTP, to callers with the right admin. The default offers
/// nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Program {
    /// Notified when a caller wants the node to leave the cluster and the program to end.
    pub leave: Option<Arc<Notify>>,
    /// The log.
    pub log: Option<LogTail>,
}
