//! The handle of a running node, for programs and the HTTP endpoints.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use membership::{Member, SeedFailure};
use parking_lot::{Mutex, MutexGuard};
use tabledb::{FinalSyncs, JoinOutcome, TableDb};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use transport::Transport;
use wire::{NodeId, NodeName};

use crate::clock::{monotonic_now, wall_clock};
use crate::compose::{ComposeError, MachineSettings, compose};
use crate::driver::{Driver, Shared};
use crate::identity::IdentitySource;
use crate::node_config::NodeConfig;
use crate::seeds::{ResolveError, resolve};
use crate::subscription::Subscription;
use crate::watch_notifier;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The transport could not bind its address.
    #[error(transparent)]
    Bind(#[from] transport::BindError),
    /// A wildcard address cannot be announced to peers.
    #[error("{0} means every address of this host: an address to advertise to other nodes is needed")]
    NoAdvertise(SocketAddr),
    /// A setting is invalid.
    #[error(transparent)]
    Settings(#[from] ComposeError),
    /// A network of the settings cannot be joined.
    #[error(transparent)]
    Network(#[from] tabledb::JoinError),
}

/// Why joining a cluster failed. The node retries in the background, unless its name is in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinClusterError {
    /// No seed was given.
    #[error("no seed was given; name at least one node of the cluster, such as 10.0.0.1:7946")]
    NoSeeds,
    /// No seed could be resolved.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Another live node has this node's name.
    #[error(
        "the name {name} is in use by a live node at {owner}, so the cluster refuses this node at {own}; \
         start it under another name"
    )]
    NameInUse {
        /// The name.
        name: NodeName,
        /// The address of the node that has the name.
        owner: SocketAddr,
        /// The address of this node.
        own: SocketAddr,
    },
    /// No seed responded.
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
    /// Held during a change of the identity, so that concurrent changes do not overwrite each other.
    changing_identity: Mutex<()>,
    driver: Mutex<Option<JoinHandle<()>>>,
    watch_notifier: JoinHandle<()>,
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
        self.watch_notifier.abort();
    }
}

/// Timeout of a join for the responses of the seeds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a network's join for its initial sync, and of a leave for its final syncs. The syncs continue
/// after it.
const SYNC_TIMEOUT: Duration = Duration::from_secs(32);

impl Node {
    /// Starts a node on the current tokio runtime. It joins through its seeds in the background.
    ///
    /// # Errors
    /// If it cannot listen, or a setting is invalid. Nothing is left running then.
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        let (now, wall) = (monotonic_now(), wall_clock());
        // The wall time in microseconds is greater than the generation of any earlier instance, unless the
        // clock was set back. In that case peers report the greater generation.
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
        // The address is not known before the port is bound. All other settings are checked first.
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
        shared.machine.lock().set_waker(move || waker.notify_one());
        let watch_notifier = watch_notifier::start(&shared.machine.lock());
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
            watch_notifier,
        };
        Ok(Node { running: Arc::new(running) })
    }

    /// This node's instance: its name and current generation.
    pub fn id(&self) -> NodeId {
        self.shared().machine.lock().membership().me().record.id.clone()
    }

    /// The address at which peers reach this node.
    pub fn advertised_address(&self) -> SocketAddr {
        self.running.advertised
    }

    /// The address on which this node listens.
    pub fn local_address(&self) -> SocketAddr {
        self.shared().transport.local_address()
    }

    /// The tables, with all reads, writes and watches.
    pub fn tables(&self) -> &TableDb {
        &self.shared().tables
    }

    /// The transport, with its statistics and connections.
    pub fn transport(&self) -> &Transport {
        &self.shared().transport
    }

    /// All known members sorted by name, this node included.
    pub fn members(&self) -> Vec<Member> {
        self.shared().machine.lock().membership().members().cloned().collect()
    }

    /// Membership's events from now on. Read [`Node::members`] after this call to miss nothing.
    pub fn subscribe(&self) -> Subscription {
        self.shared().publisher.subscribe()
    }

    /// The counters of membership.
    pub fn membership_statistics(&self) -> membership::Statistics {
        self.shared().machine.lock().membership().statistics()
    }

    /// Replaces the seeds and joins through them. Returns the number of seeds that responded, this node not
    /// counted, when all have responded or after five seconds. The node keeps trying the seeds that did not
    /// respond.
    ///
    /// # Errors
    /// If no seed responded, or another node has this node's name.
    pub async fn join(&self, seeds: &[String]) -> Result<usize, JoinClusterError> {
        if seeds.is_empty() {
            return Err(JoinClusterError::NoSeeds);
        }
        let shared = self.shared();
        let deadline = Instant::now() + JOIN_TIMEOUT;
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
                    return Err(JoinClusterError::NameInUse { name: self.id().name, owner: holder, own });
                }
                Err(reason) => {
                    waiting.entry(address).and_modify(|seen| *seen = Some(reason));
                }
            }
        }
        match answered {
            0 if ourselves == 0 || !waiting.is_empty() => {
                let failures = waiting.into_iter().map(|(address, reason)| {
                    // The transport's error is more precise than membership's reason.
                    let transport_error = shared.unreached.lock().get(&address).cloned();
                    let reason = reason.map(|reason| reason.to_string());
                    (address, transport_error.or(reason).unwrap_or_else(|| "no answer in time".to_owned()))
                });
                Err(JoinClusterError::NoAnswer(failures.collect()))
            }
            _ => Ok(answered),
        }
    }

    /// Changes this node's labels. All nodes learn of it ([`Event::Updated`](membership::Event::Updated)).
    ///
    /// # Errors
    /// If they are too long; nothing has changed.
    pub fn update_labels(&self, labels: BTreeMap<String, String>) -> Result<(), membership::RecordError> {
        let shared = self.shared();
        shared.with_machine(|machine, now| machine.update_labels(labels, now))?;
        shared.wake.notify_one();
        Ok(())
    }

    /// Joins a network. Returns after the initial sync with another member, at once if no other member is
    /// known, or after thirty seconds.
    ///
    /// # Errors
    /// If it is joined already, its name is too long, or the limit of networks is reached.
    pub async fn join_network(&self, network: &str) -> Result<JoinOutcome, tabledb::JoinError> {
        let shared = self.shared();
        let ready = {
            let (mut machine, now) = shared.machine_now();
            machine.join_network(network, now)?;
            shared.waiters.lock().ready(network)
        };
        shared.wake.notify_one();
        Ok(wait(ready).await.unwrap_or(JoinOutcome::Unsynchronised))
    }

    /// How the join of a network went: `None` if the network is not joined, or its initial sync is still being
    /// waited for. Members that appear after [`JoinOutcome::Alone`] or [`JoinOutcome::Unsynchronised`] are synchronised
    /// with in the background, which [`TableDb::statistics`] shows.
    pub fn join_outcome(&self, network: &str) -> Option<JoinOutcome> {
        self.shared().waiters.lock().join_outcome(network)
    }

    /// Leaves a network. Returns when the final syncs have sent other members what only this node had, or
    /// some seconds later; the result shows whether they completed.
    ///
    /// # Errors
    /// If it is not joined.
    pub async fn leave_network(&self, network: &str) -> Result<FinalSyncs, tabledb::LeaveError> {
        let shared = self.shared();
        let left = {
            let (mut machine, now) = shared.machine_now();
            machine.leave_network(network, now)?;
            // The driver reports events under the machine's lock, so that this registration misses none.
            shared.waiters.lock().left(network)
        };
        shared.wake.notify_one();
        // After the timeout, nothing is known to be saved.
        Ok(wait(left).await.unwrap_or(FinalSyncs { wanted: 1, completed: 0 }))
    }

    /// Leaves the cluster gracefully and stops, within `limit`. The final syncs get half of it, and the leave
    /// messages the rest. Always completes; a second call returns at once.
    pub async fn shutdown(&self, limit: Duration) {
        if self.running.driver.lock().is_none() {
            // Without the driver, no event would report that the leave is complete.
            return;
        }
        let deadline = Instant::now() + limit;
        let shared = self.shared();
        let mut left = shared.waiters.lock().cluster_left();
        shared.with_machine(|machine, now| machine.leave(now));
        shared.wake.notify_one();
        if timeout_at(deadline - limit / 2, &mut left).await.is_err() {
            tracing::warn!("final syncs timed out: leaving without them");
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

    /// Stops at once without leaving the cluster, like a crash.
    pub fn abort(&self) {
        self.running.stop_now();
    }

    pub(crate) fn source(&self) -> &IdentitySource {
        &self.running.source
    }

    pub(crate) fn changing_identity(&self) -> MutexGuard<'_, ()> {
        self.running.changing_identity.lock()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.running.shared
    }

    /// Whether the driver's task has not ended.
    pub(crate) fn is_driven(&self) -> bool {
        self.running.driver.lock().as_ref().is_some_and(|driver| !driver.is_finished())
    }
}

async fn wait<T>(event: oneshot::Receiver<T>) -> Option<T> {
    timeout_at(Instant::now() + SYNC_TIMEOUT, event).await.ok()?.ok()
}

/// A seed that differs for every instance, so that nodes started together do not make the same random
/// choices.
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
    async fn a_refused_join_or_leave_registers_no_waiter() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let name = NodeName::new("waits").unwrap();
        let node = Node::start(NodeConfig::new(name, loopback, KeySet::development())).await.unwrap();
        assert_eq!(node.join_network("net").await, Ok(JoinOutcome::Alone));
        for index in 0..10 {
            assert!(node.leave_network(&format!("random-{index}")).await.is_err());
            assert!(node.join_network("net").await.is_err());
        }
        assert_eq!(node.shared().waiters.lock().networks(), 0);
        node.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_else_drives_the_tables_of_a_running_node() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let name = NodeName::new("driven").unwrap();
        let node = Node::start(NodeConfig::new(name, loopback, KeySet::development())).await.unwrap();
        assert!(node.tables().driver().is_none());
    }
}
