//! Composes a node of its parts. Production, the simulator, fuzz targets and tests all call [`compose`], so
//! that all of them run the same composition.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use membership::{Membership, NodeRecord, RecordError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tabledb::{Origin, TableDb};
use wire::NodeId;

use crate::machine::{DATAGRAM_BUDGET, NodeMachine};

/// Settings of a [`NodeMachine`].
#[derive(Debug, Clone)]
// Exhaustive: a program that composes a machine decides on every part.
pub struct MachineSettings {
    /// The node's instance: its name and generation.
    pub id: NodeId,
    /// The address at which peers reach it.
    pub address: SocketAddr,
    /// Labels that the operator gives the node.
    pub labels: BTreeMap<String, String>,
    /// Timers and bounds of membership. `datagram_budget` is set by [`compose`]: it follows from
    /// [`DATAGRAM_BUDGET`].
    pub membership: membership::Config,
    /// Bounds of the tables.
    pub limits: tabledb::Limits,
    /// How long a tombstone of a delete is kept.
    pub reap_time: Duration,
    /// The interval of anti-entropy: how often a network is compared with a peer when no difference is known.
    pub anti_entropy_interval: Duration,
    /// The monotonic time.
    pub now: Instant,
    /// The wall time since 1970.
    pub wall_clock: Duration,
    /// The seed of all random choices. It differs for every instance, so that nodes started together do not
    /// choose alike.
    pub seed: u64,
}

/// Why a machine cannot be composed from its settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// The labels or the name are too long to be sent to peers.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A setting of membership is invalid.
    #[error(transparent)]
    Membership(#[from] membership::ConfigError),
    /// A setting of the tables is invalid.
    #[error(transparent)]
    Tables(#[from] tabledb::ConfigError),
}

impl MachineSettings {
    /// Settings with the defaults for everything that has one.
    pub fn new(id: NodeId, address: SocketAddr, now: Instant, wall_clock: Duration, seed: u64) -> Self {
        let tables = tabledb::Config::new(id.clone());
        Self {
            id,
            address,
            labels: BTreeMap::new(),
            membership: membership::Config::lan(),
            limits: tables.limits,
            reap_time: tables.reap_time,
            anti_entropy_interval: tables.anti_entropy_interval,
            now,
            wall_clock,
            seed,
        }
    }

    /// Validates all settings but the address, for a caller that does not know the address yet.
    ///
    /// # Errors
    /// The errors of [`compose`].
    pub fn validate_all_but_address(&self) -> Result<(), ComposeError> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        NodeRecord { address, ..self.record() }.check()?;
        self.membership_config().validate()?;
        self.tables_config().validate()?;
        Ok(())
    }

    fn record(&self) -> NodeRecord {
        NodeRecord { id: self.id.clone(), address: self.address, labels: self.labels.clone() }
    }

    fn membership_config(&self) -> membership::Config {
        membership::Config {
            datagram_budget: DATAGRAM_BUDGET - NodeMachine::MEMBERSHIP_OVERHEAD,
            ..self.membership.clone()
        }
    }

    fn tables_config(&self) -> tabledb::Config {
        tabledb::Config {
            node: self.id.clone(),
            limits: self.limits.clone(),
            reap_time: self.reap_time,
            anti_entropy_interval: self.anti_entropy_interval,
        }
    }
}

/// Composes a node's machine.
///
/// # Errors
/// If a setting is invalid.
pub fn compose(settings: MachineSettings) -> Result<NodeMachine, ComposeError> {
    let (now, wall_clock, seed) = (settings.now, settings.wall_clock, settings.seed);
    let tables = TableDb::starting_at(settings.tables_config(), Origin { now, wall_clock, seed })?;
    let rng = ChaCha8Rng::seed_from_u64(seed.rotate_left(32));
    let record = settings.record();
    record.check()?;
    let membership = Membership::new(settings.membership_config(), record, now, rng)?;
    let driver = tables.driver().expect("the database was made above");
    Ok(NodeMachine::new(membership, driver))
}
