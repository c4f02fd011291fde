//! What must hold in every run, checked while it goes on and at its end.
//!
//! The [`Ledger`] knows every write that was ever made, wherever; no node does. Against it are checked what each node's
//! watcher is told ([`Follower`], after every call into the node's machine), what each node holds ([`Watchdog`], at
//! short intervals), and what all of them show once everything is quiet ([`verdict`]).

mod bounds;
mod follower;
mod knowledge;
mod ledger;
mod state;
pub mod verdict;
mod watchdog;

pub(crate) use bounds::{Relays, check_membership, check_queue};
pub use follower::Follower;
pub(crate) use follower::entry_key;
pub(crate) use knowledge::{VersionVector, contains_all, intersection, union};
pub(crate) use ledger::Origin;
pub use ledger::{Ledger, RecordedWrite, WriteId};
pub use state::{Dot, HeldEntry, NetworkState, Version};
pub use watchdog::Watchdog;
pub(crate) use watchdog::{Inspection, RefusalReasons};

#[cfg(test)]
mod tests;
