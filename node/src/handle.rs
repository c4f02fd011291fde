//! A running node, as programs and the HTTP endpoints hold it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use membership::{Member, SeedFailure};
use parking_lot::{Mutex, MutexGuard};
use tabledb::{FinalSyncs, TableDb};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use transport::{ClusterName, Identity, Transport};
use wire::{NodeId, NodeName};

use crate::clock::{monotonic_now, wall_clock};
use crate::compose::{ComposeError, MachineSettings, compose};
use crate::driver::{Driver, Shared};
use crate::identity::IdentitySource;
use crate::seeds::{ResolveError, resolve};
use crate::subscription::Subscription;

/// What a node needs to start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// What the node is called; unique among the living nodes of the cluster.
    pub name: NodeName,
    /// Nodes of different clusters refuse each other.
    pub cluster: ClusterName,
    /// Where to listen; port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What others are told; by default the bound address.
    pub advertise: Option<SocketAddr>,
    /// The secrets of the cluster, or certificates of an operator's own authority. The development secret is accepted on
    /// loopback addresses only.
    pub identity: Identity,
    /// Where that comes from: it is read again, and changes of secrets are written, there.
    pub identity_source: IdentitySource,
    /// Host or address, with or without a port; without one the node's own. Joined in the background, again and again
    /// as long as none of them is a member; names are resolved anew each time.
    pub seeds: Vec<String>,
    /// Networks to be on from the start.
    pub networks: Vec<String>,
    /// What the operator says about the node.
    pub labels: BTreeMap<String, String>,
    /// Timers and bounds of membership.
    pub membership: membership::Config,
    /// Bounds of the tables.
    pub limits: tabledb::Limits,
    /// How long a delete is remembered by tombstones.
    pub reap_time: Duration,
    /// How often a network is compared though nothing seems amiss.
    pub anti_entropy_interval: Duration,
    /// What peers may use up.
    pub transport: transport::Limits,
}

impl NodeConfig {
    /// A node called `name` that listens on `bind`, with everything else at its default: alone, on no network.
    pub fn new(name: NodeName, bind: SocketAddr, identity: impl Into<Identity>) -> Self {
        let tables = tabledb::Config::new(NodeId::new(name.clone(), 1));
        Self {
            name,
            cluster: ClusterName::default(),
            bind,
            advertise: None,
            identity: identity.into(),
            identity_source: IdentitySource::Program,
            seeds: Vec::new(),
            networks: Vec::new(),
            labels: BTreeMap::new(),
            membership: membership::Config::lan(),
            limits: tables.limits,
            reap_time: tables.reap_time,
            anti_entropy_interval: tables.anti_entropy_interval,
            transport: transport::Limits::default(),
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The endpoint could not be made.
    #[error(transparent)]
    Bind(#[from] transport::BindError),
    /// A wildcard address cannot be told to others.
    #[error("{0} means every address of this host: an address to advertise to other nodes is needed")]
    NoAdvertise(SocketAddr),
    /// A setting makes no sense, or the labels or the name cannot be told to others.
    #[error(transparent)]
    Settings(#[from] ComposeError),
    /// A network to be joined at the start cannot be.
    #[error(transparent)]
    Network(#[from] tabledb::JoinError),
}

/// Why joining a cluster failed. The node goes on trying all the same, unless its name is in use.
#[derive(Debug, thiserror::Error)]
pub enum JoinClusterError {
    /// No seed was given.
    #[error("no seed was given; name at least one node of the cluster, such as 10.0.0.1:7946")]
    NoSeeds,
    /// None could be made an address of.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Another living node has this node's name.
    #[error(
        "the name {name} is in use by a living node at {holder}, so this node at {own} is refused; start it under another name"
    )]
    NameInUse {
        /// The name.
        name: NodeName,
        /// Where the other node is.
        holder: SocketAddr,
        /// Where this node is.
        own: SocketAddr,
    },
    /// None answered.
    #[error("none of the seeds answered: {}", list(.0))]
    NoAnswer(Vec<(SocketAddr, String)>),
    /// The node has been stopped.
    #[error("this node has been stopped")]
    Stopped,
}

fn list(seeds: &[(SocketAddr, String)]) -> String {
    seeds.iter().map(|(address, reason)| format!("{address}: {reason}")).collect::<Vec<_>>().join("; ")
}

/// A running node. Cloning copies a pointer; when the last copy is dropped the node stops at once, as by
/// [`Node::abort`].
#[derive(Debug, Clone)]
pub struct Node {
    running: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    advertised: SocketAddr,
    source: IdentitySource,
    /// Held while the identity is being changed: two changes at once would be one.
    changing_identity: Mutex<()>,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_now();
    }
}

impl Running {
    fn stop_now(&self) {
        self.shared.tables.end_watches();
        self.shared.publisher.close();
        self.shared.transport.abort();
        if let Some(driver) = self.driver.lock().take() {
            driver.abort();
        }
    }
}

/// How long a join of a cluster waits for answers.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// How long a join or leave of a network waits for the tables to be exchanged. They are exchanged all the same later.
const SYNC_PATIENCE: Duration = Duration::from_secs(32);

impl Node {
    /// Starts a node on the present tokio runtime. Its seeds are joined in the background.
    ///
    /// # Errors
    /// If it cannot listen, or a setting makes no sense; nothing is left running then.
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        let (now, wall) = (monotonic_now(), wall_clock());
        // The wall time in microseconds is greater than that of any earlier life, unless the clock was set back; then
        // the others tell.
        let id = NodeId::new(config.name.clone(), wall.as_micros() as u64);
        if config.advertise.is_none()
            && config.bind.ip().is_unspecified()
            && !config.identity.is_development()
        {
            return Err(StartError::NoAdvertise(config.bind));
        }
        let seed = seed(&id);
        let mut settings = MachineSettings {
            labels: config.labels,
            membership: config.membership,
            limits: config.limits,
            reap_time: config.reap_time,
            anti_entropy_interval: config.anti_entropy_interval,
            ..MachineSettings::new(id, config.bind, now, wall, seed)
        };
        // The address is known when the port is; everything else is checked before one is taken.
        settings.validate_all_but_address()?;
        let (transport, incoming) = Transport::bind(transport::Config {
            cluster: config.cluster,
            advertise: config.advertise,
            limits: config.transport,
            ..transport::Config::new(config.name, config.bind, config.identity)
        })?;
        let local = transport.local_address();
        let mut advertised = config.advertise.unwrap_or(local);
        if advertised.port() == 0 {
            advertised.set_port(local.port());
        }
        settings.address = advertised;
        let mut machine = compose(settings)?;
        let tables = machine.tables().clone();
        for network in &config.networks {
            machine.join_network(network, now)?;
        }
        let shared = Shared::new(machine, tables, transport, local.port());
        let waker = shared.wake.clone();
        shared.tables.set_waker(move || waker.notify_one());
        let driver = tokio::spawn(Driver::new(shared.clone(), incoming).run());
        if !config.seeds.is_empty() {
            shared.set_seeds(config.seeds);
        }
        let running = Running {
            shared,
            advertised,
            source: config.identity_source,
            changing_identity: Mutex::default(),
            driver: Mutex::new(Some(driver)),
        };
        Ok(Node { running: Arc::new(running) })
    }

    /// This node's present life.
    pub fn id(&self) -> NodeId {
        self.shared().machine.lock().membership().me().record.id.clone()
    }

    /// Where others reach this node.
    pub fn advertised_address(&self) -> SocketAddr {
        self.running.advertised
    }

    /// Where this node listens.
    pub fn local_address(&self) -> SocketAddr {
        self.shared().transport.local_address()
    }

    /// The tables: reads, writes and watches go there.
    pub fn tables(&self) -> &TableDb {
        &self.shared().tables
    }

    /// The transport: its statistics and connections.
    pub fn transport(&self) -> &Transport {
        &self.shared().transport
    }

    /// Every node that is known, in order of name, this one included.
    pub fn members(&self) -> Vec<Member> {
        self.shared().machine.lock().membership().members().cloned().collect()
    }

    /// Membership's events from now on. Read [`Node::members`] after this call to miss nothing.
    pub fn subscribe(&self) -> Subscription {
        self.shared().publisher.subscribe()
    }

    /// Counts of membership.
    pub fn membership_statistics(&self) -> membership::Statistics {
        self.shared().machine.lock().membership().statistics()
    }

    /// Replaces the seeds and joins through them. Returns how many answered, this node itself not counted, once all
    /// have or five seconds have passed. Seeds that did not answer go on being tried.
    ///
    /// # Errors
    /// If none answered, or this node's name is in use by another.
    pub async fn join(&self, seeds: &[String]) -> Result<usize, JoinClusterError> {
        if seeds.is_empty() {
            return Err(JoinClusterError::NoSeeds);
        }
        let shared = self.shared();
        let deadline = Instant::now() + JOIN_PATIENCE;
        shared.remember_seeds(seeds.to_vec());
        let addresses = resolve(seeds, shared.default_port).await?;
        let mut outcomes = shared.expect_seeds(&addresses);
        shared.with_machine(|machine, now| machine.join(&addresses, now));
        shared.wake.notify_one();
        let mut waiting: BTreeMap<SocketAddr, Option<SeedFailure>> =
            addresses.iter().map(|&a| (a, None)).collect();
        let mut answered = 0;
        let mut ourselves = 0;
        while waiting.values().any(Option::is_none) {
            let Ok(outcome) = timeout_at(deadline, outcomes.recv()).await else { break };
            let (address, outcome) = outcome.ok_or(JoinClusterError::Stopped)?;
            match outcome {
                Ok(()) => {
                    answered += 1;
                    waiting.remove(&address);
                }
                Err(SeedFailure::Ourselves) => {
                    ourselves += 1;
                    waiting.remove(&address);
                }
                Err(SeedFailure::NameInUse { owner: holder }) => {
                    let own = self.running.advertised;
                    return Err(JoinClusterError::NameInUse { name: self.id().name, holder, own });
                }
                Err(reason) => {
                    waiting.entry(address).and_modify(|seen| *seen = Some(reason));
                }
            }
        }
        match answered {
            0 if ourselves == 0 || !waiting.is_empty() => {
                let failures = waiting.into_iter().map(|(address, reason)| {
                    // What the transport met says more than that there was no connection.
                    let met = shared.unreached.lock().get(&address).cloned();
                    let told = reason.map(|reason| reason.to_string());
                    (address, met.or(told).unwrap_or_else(|| "no answer in time".to_owned()))
                });
                Err(JoinClusterError::NoAnswer(failures.collect()))
            }
            _ => Ok(answered),
        }
    }

    /// Joins a network, and returns once its tables have been exchanged with another member, or nobody reachable is on
    /// it, or thirty seconds have passed.
    ///
    /// # Errors
    /// If it is joined already, or its name or number is beyond the limits.
    pub async fn join_network(&self, network: &str) -> Result<(), tabledb::JoinError> {
        let shared = self.shared();
        let ready = {
            let (mut machine, now) = shared.machine_now();
            machine.join_network(network, now)?;
            shared.waiters.lock().ready(network)
        };
        shared.wake.notify_one();
        wait(ready).await;
        Ok(())
    }

    /// Leaves a network, and returns once what only this node knew has reached others, some seconds later at the
    /// latest; and whether it has.
    ///
    /// # Errors
    /// If it is not joined.
    pub async fn leave_network(&self, network: &str) -> Result<FinalSyncs, tabledb::LeaveError> {
        let shared = self.shared();
        let left = {
            let (mut machine, now) = shared.machine_now();
            machine.leave_network(network, now)?;
            // The driver reports under the machine's lock: nothing is missed.
            shared.waiters.lock().left(network)
        };
        shared.wake.notify_one();
        // One that has not come to its end by now has saved nothing as far as anybody knows.
        Ok(wait(left).await.unwrap_or(FinalSyncs { wanted: 1, completed: 0 }))
    }

    /// Leaves the cluster gracefully and stops, within `limit`. Half of that is for what only this node knows to reach others;
    /// the rest is kept for the others to hear that it leaves. Always completes; a second call returns at once.
    pub async fn shutdown(&self, limit: Duration) {
        if self.running.driver.lock().is_none() {
            // Nobody would tell that the cluster has been left.
            return;
        }
        let deadline = Instant::now() + limit;
        let shared = self.shared();
        let mut left = shared.waiters.lock().cluster_left();
        shared.with_machine(|machine, now| machine.leave(now));
        shared.wake.notify_one();
        if timeout_at(deadline - limit / 2, &mut left).await.is_err() {
            tracing::warn!("final syncs take too long: leaving without them");
            shared.with_machine(|machine, now| machine.leave_at_once(now));
            shared.wake.notify_one();
            let _ = timeout_at(deadline - limit / 4, left).await;
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        shared.transport.shutdown(remaining).await;
        let driver = self.running.driver.lock().take();
        if let Some(driver) = driver {
            driver.abort();
            let _ = driver.await;
        }
        shared.publisher.close();
    }

    /// Stops at once without a word, as a crash would.
    pub fn abort(&self) {
        self.running.stop_now();
    }

    pub(crate) fn source(&self) -> &IdentitySource {
        &self.running.source
    }

    pub(crate) fn changing_identity(&self) -> MutexGuard<'_, ()> {
        self.running.changing_identity.lock()
    }

    fn shared(&self) -> &Shared {
        &self.running.shared
    }
}

async fn wait<T>(event: oneshot::Receiver<T>) -> Option<T> {
    timeout_at(Instant::now() + SYNC_PATIENCE, event).await.ok()?.ok()
}

/// Different for every life, so that nodes started together do not make the same random choices.
fn seed(id: &NodeId) -> u64 {
    let name =
        id.name.as_str().bytes().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    name.rotate_left(17) ^ id.generation
}

#[cfg(test)]
mod tests {
    use transport::KeySet;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_waits_for_what_was_refused() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let name = NodeName::new("waits").unwrap();
        let node = Node::start(NodeConfig::new(name, loopback, KeySet::development())).await.unwrap();
        node.join_network("net").await.unwrap();
        for index in 0..10 {
            assert!(node.leave_network(&format!("random-{index}")).await.is_err());
            assert!(node.join_network("net").await.is_err());
        }
        assert_eq!(node.shared().waiters.lock().networks(), 0);
        node.abort();
    }
}
