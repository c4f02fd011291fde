//! A node of chitchat over UDP, the one transport that it brings.

use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

use chitchat::transport::UdpTransport;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, ProtocolVersion,
    spawn_chitchat,
};
use tokio::runtime::Runtime;

use crate::clock::now;
use crate::entries::{Values, key};
use crate::participant::Failure;
use crate::store::{Store, StoreSettings};

pub(crate) struct ChitchatStore(ChitchatHandle);

impl Store for ChitchatStore {
    fn start(runtime: &Runtime, settings: &StoreSettings) -> Result<Self, Failure> {
        // It wants its port before it binds: the system chooses one, and keeps no other socket on this
        // participant's own address.
        let free = UdpSocket::bind((settings.bind, 0)).and_then(|socket| socket.local_addr());
        let address = free.map_err(|error| format!("no port: {error}"))?;
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(settings.name.as_str(), 0, address),
            cluster_id: "rivals".to_owned(),
            gossip_interval: settings.interval,
            listen_addr: address,
            seed_nodes: settings.seed.iter().map(SocketAddr::to_string).collect(),
            failure_detector_config: FailureDetectorConfig::default(),
            // What its own `Default` for tests has.
            marked_for_deletion_grace_period: Duration::from_secs(15 * 60),
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        };
        let handle = runtime.block_on(spawn_chitchat(config, Vec::new(), &UdpTransport));
        handle.map(Self).map_err(|error| error.to_string())
    }

    fn address(&self) -> SocketAddr {
        self.0.chitchat_id().gossip_advertise_addr
    }

    /// All nodes of a cluster share one keyspace.
    fn join_network(&self, _: &Runtime) -> Result<(), Failure> {
        Ok(())
    }

    fn members(&self) -> usize {
        self.0.chitchat().blocking_lock().live_nodes().count()
    }

    fn create(&self, numbers: Range<usize>, values: &Values) -> Result<(), Failure> {
        let chitchat = self.0.chitchat();
        for number in numbers {
            // Once each, as independent writers would.
            chitchat.blocking_lock().self_node_state().set(key(number), values.of(number));
        }
        Ok(())
    }

    /// Each set makes a version, and a node has everything up to the version that it knows of another. To count
    /// the keys would mean to visit each.
    fn count(&self) -> usize {
        let chitchat = self.0.chitchat();
        let chitchat = chitchat.blocking_lock();
        chitchat.node_states().values().map(NodeState::max_version).sum::<u64>() as usize
    }

    fn arrivals(&self) -> mpsc::Receiver<Duration> {
        let (sender, arrivals) = mpsc::channel();
        let chitchat = self.0.chitchat();
        let listener = chitchat.blocking_lock().subscribe_event("", move |_| {
            let _ = sender.send(now());
        });
        listener.forever();
        arrivals
    }
}
