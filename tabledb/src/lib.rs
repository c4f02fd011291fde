//! Replicated per-network tables.

mod config;
mod database;
mod entry;
mod error;
mod watch;

pub use config::{Config, ConfigError, Limits};
pub use database::{NetworkStatistics, TableDb};
pub use entry::{Entry, Value};
pub use error::{JoinError, LeaveError, WriteError};
pub use watch::{Change, ChangeKind, Watch, WatchEvent, WatchFilter};
