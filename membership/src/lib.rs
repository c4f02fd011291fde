//! Who is in the cluster.

mod broadcast;
mod config;
mod event;
mod health;
mod machine;
mod member;
mod memory;
mod message;
mod ring;
mod roster;
mod sample_set;
mod suspicion;
mod timers;

pub use config::{Config, ConfigError};
pub use event::{ConflictRole, Event, NameConflict, Purpose, SeedFailure, Statistics, Transmit};
pub use machine::Membership;
pub use member::{MAX_LABEL_BYTES, Member, NodeRecord, RecordError, State};
pub use message::MessageError;

#[cfg(test)]
mod tests;
