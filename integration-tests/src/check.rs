//! The invariants of every run, checked during it and at its end.
//!
//! The [`Ledger`] knows all writes of all nodes. The checks compare with it what each node's
//! watcher receives ([`Follower`], after every call into the node's machine), what each node holds
//! ([`Watchdog`], at short intervals), and what all nodes show once the cluster is quiescent
//! ([`verdict`]).

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
