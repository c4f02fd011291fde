//! Reading and writing tables on nodes of the cluster, and joining and leaving networks.

use std::collections::BTreeMap;

use tabledb::{JoinError, LeaveError, Value, WriteError};

use super::{Cluster, Peer};
use crate::check::{HeldEntry, NetworkState};

/// The path of an entry: network, table, key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key<'a> {
    /// The network.
    pub network: &'a str,
    /// The table.
    pub table: &'a str,
    /// The key.
    pub key: &'a str,
}

impl<'a> Key<'a> {
    /// `key` in `table` of `network`.
    pub const fn new(network: &'a str, table: &'a str, key: &'a str) -> Self {
        Self { network, table, key }
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.table, self.key)
    }
}

#[derive(Debug, Clone, Copy)]
enum Operation<'a> {
    Create(&'a [u8]),
    Update(&'a [u8]),
    Delete,
}

/// What is visible of a network: (table, key) to (value, owner).
pub type Visible = BTreeMap<(String, String), (Vec<u8>, String)>;

impl Cluster {
    /// Joins a network on each of the nodes.
    pub fn join_network(&mut self, peers: impl IntoIterator<Item = Peer>, network: &str) {
        for peer in peers {
            if let Err(error) = self.try_join_network(peer, network) {
                panic!("{} could not join {network}: {error}", self.name(peer));
            }
        }
    }

    /// Joins a network on one node.
    pub fn try_join_network(&mut self, peer: Peer, network: &str) -> Result<(), JoinError> {
        self.note_on(peer, format!("joins network {network}"));
        // Before it reports that it is ready, which may be at once.
        self.record_join_baseline(peer, network);
        self.drive(peer, |machine, now| machine.join_network(network, now))?;
        let instance = self.instance_mut(peer);
        instance.joined.insert(network.to_owned());
        let id = instance.tables.node();
        self.ledger.joined(&id, network);
        Ok(())
    }

    /// Starts leaving a network on each of the nodes.
    pub fn leave_network(&mut self, peers: impl IntoIterator<Item = Peer>, network: &str) {
        for peer in peers {
            if let Err(error) = self.try_leave_network(peer, network) {
                panic!("{} could not leave {network}: {error}", self.name(peer));
            }
        }
    }

    /// Starts leaving a network on one node.
    pub fn try_leave_network(&mut self, peer: Peer, network: &str) -> Result<(), LeaveError> {
        self.note_on(peer, format!("leaves network {network}"));
        self.learn_before_end(peer, Some(network));
        // From here on its entries may vanish on this node.
        let now = self.now();
        let instance = self.instance_mut(peer);
        let was_joined = instance.joined.remove(network);
        // Without other members, it is off the network before the call returns.
        let began = !instance.departing.contains_key(network);
        instance.departing.entry(network.to_owned()).or_insert(now);
        if let Err(error) = self.drive(peer, |machine, now| machine.leave_network(network, now)) {
            let instance = self.instance_mut(peer);
            if was_joined {
                instance.joined.insert(network.to_owned());
            }
            if began {
                instance.departing.remove(network);
            }
            return Err(error);
        }
        let instance = self.instance_mut(peer);
        instance.ready.remove(network);
        let id = instance.tables.node();
        self.ledger.left(&id, network);
        Ok(())
    }

    /// Whether the node has joined the network and completed the initial sync.
    pub fn is_ready(&self, peer: Peer, network: &str) -> bool {
        self.instance(peer).ready.contains(network)
    }

    /// Whether the node is on no network, not even one that it is leaving.
    pub fn is_off_networks(&self, peer: Peer) -> bool {
        let instance = self.instance(peer);
        instance.joined.is_empty() && instance.departing.is_empty()
    }

    /// The running nodes that joined the network and did not begin to leave it.
    pub fn members_of(&self, network: &str) -> Vec<Peer> {
        let mut running = self.running();
        running.retain(|peer| self.instance(*peer).joined.contains(network) && !self.instance(*peer).leaving);
        running
    }

    /// Creates an entry on a node; panics if it is refused.
    #[track_caller]
    pub fn create(&mut self, peer: Peer, key: Key<'_>, value: impl AsRef<[u8]>) {
        let result = self.write(peer, key, Operation::Create(value.as_ref()));
        self.must(peer, "create", key, result);
    }

    /// Updates an entry on a node; panics if it is refused.
    #[track_caller]
    pub fn update(&mut self, peer: Peer, key: Key<'_>, value: impl AsRef<[u8]>) {
        let result = self.write(peer, key, Operation::Update(value.as_ref()));
        self.must(peer, "update", key, result);
    }

    /// Deletes an entry on a node; panics if it is refused.
    #[track_caller]
    pub fn delete(&mut self, peer: Peer, key: Key<'_>) {
        let result = self.write(peer, key, Operation::Delete);
        self.must(peer, "delete", key, result);
    }

    /// Creates an entry on a node.
    pub fn try_create(
        &mut self,
        peer: Peer,
        key: Key<'_>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), WriteError> {
        self.write(peer, key, Operation::Create(value.as_ref()))
    }

    /// Updates an entry on a node.
    pub fn try_update(
        &mut self,
        peer: Peer,
        key: Key<'_>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), WriteError> {
        self.write(peer, key, Operation::Update(value.as_ref()))
    }

    /// Deletes an entry on a node.
    pub fn try_delete(&mut self, peer: Peer, key: Key<'_>) -> Result<(), WriteError> {
        self.write(peer, key, Operation::Delete)
    }

    #[track_caller]
    fn must(&self, peer: Peer, what: &str, key: Key<'_>, result: Result<(), WriteError>) {
        if let Err(error) = result {
            panic!("{} could not {what} {key}: {error}", self.name(peer));
        }
    }

    fn write(&mut self, peer: Peer, key: Key<'_>, operation: Operation<'_>) -> Result<(), WriteError> {
        let now = self.read_clocks(peer);
        let Key { network, table, key: name } = key;
        let before = self.held(peer, key);
        let instance = self.instance(peer);
        let joined = instance.joined.contains(network);
        let mut replica = instance.machine.replica();
        match operation {
            Operation::Create(value) => drop(replica.create(network, table, name, value, now)?),
            Operation::Update(value) => drop(replica.update(network, table, name, value, now)?),
            Operation::Delete => drop(replica.delete(network, table, name, now)?),
        }
        drop(replica);
        assert!(joined, "{} accepted a write to {network}, which it has left", self.name(peer));
        let after = self.held(peer, key);
        let text = match operation {
            Operation::Create(value) => format!("creates {key} = {}", brief(value)),
            Operation::Update(value) => format!("updates {key} = {}", brief(value)),
            Operation::Delete => format!("deletes {key}"),
        };
        self.note_on(peer, text);
        if let Some(after) = after {
            self.ledger.record(self.fabric.now(), key, before.as_ref(), &after);
        }
        self.drive(peer, |_, _| ());
        Ok(())
    }

    /// Everything a node holds of a network, visible or not; `None` if it has not joined it.
    pub fn inspect(&self, peer: Peer, network: &str) -> Option<NetworkState> {
        NetworkState::of(&self.instance(peer).machine.replica(), network, self.instant(peer))
    }

    /// What a node holds under a key, visible or not.
    pub fn held(&self, peer: Peer, key: Key<'_>) -> Option<HeldEntry> {
        let table_key = (key.table.to_owned(), key.key.to_owned());
        self.inspect(peer, key.network)?.entries.remove(&table_key)
    }

    /// The number of open watches on a node.
    pub fn watches(&self, peer: Peer) -> usize {
        self.instance(peer).tables.watch_statistics().watches
    }

    /// The visible value under a key.
    pub fn value(&self, peer: Peer, key: Key<'_>) -> Option<Value> {
        self.instance(peer).tables.get(key.network, key.table, key.key).map(|entry| entry.value().into())
    }

    /// Whether a node shows this value under the key.
    pub fn shows(&self, peer: Peer, key: Key<'_>, value: impl AsRef<[u8]>) -> bool {
        self.value(peer, key).as_deref() == Some(value.as_ref())
    }

    /// The values that a node's present process has shown under a key, in order; `None` for none.
    pub fn shown_so_far(&self, peer: Peer, key: Key<'_>) -> Vec<Option<String>> {
        let changes = self.follower(peer).received().iter();
        changes
            .filter(|change| {
                (&*change.network, &*change.table, &*change.key) == (key.network, key.table, key.key)
            })
            .map(|change| change.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned()))
            .collect()
    }

    /// Creates many entries on a node, under `prefix` and a number, without recording each: for
    /// loads that only have to be large.
    pub fn load(&mut self, peer: Peer, network: &str, table: &str, prefix: &str, count: usize, value: &[u8]) {
        let now = self.read_clocks(peer);
        for number in 0..count {
            let key = format!("{prefix}{number}");
            let mut own = value.to_vec();
            own.extend_from_slice(format!(" {prefix}{number}").as_bytes());
            let created = self.instance(peer).machine.replica().create(network, table, &key, own, now);
            if let Err(error) = created {
                panic!("{} could not create {network}/{table}/{key}: {error}", self.name(peer));
            }
        }
        self.note_on(peer, format!("creates {count} entries in {network}/{table}"));
        let id = self.instance(peer).tables.node();
        let state = self.inspect(peer, network).expect("it took the writes, so it is on the network");
        for ((table, name), held) in state.entries.iter().filter(|(_, held)| held.version.dot.owner == id) {
            if self.ledger.by_dot(network, &held.version.dot).is_none() {
                self.ledger.record(self.fabric.now(), Key::new(network, table, name), None, held);
            }
        }
        self.drive(peer, |_, _| ());
    }

    /// Everything that is visible of a network on a node.
    pub fn visible(&self, peer: Peer, network: &str) -> Visible {
        let tables = &self.instance(peer).tables;
        let mut visible = Visible::new();
        for table in tables.tables(network) {
            for entry in tables.entries(network, &table) {
                let shown = (entry.value().to_vec(), entry.owner().to_string());
                visible.insert((table.clone(), entry.key().to_string()), shown);
            }
        }
        visible
    }

    /// Writes a line into the trace.
    pub fn note(&mut self, text: &str) {
        self.fabric.note(None, text.to_owned());
    }

    /// Writes a line about a node into the trace.
    pub fn note_on(&mut self, peer: Peer, text: String) {
        let endpoint = self.nodes[peer.0].instance.as_ref().map(|instance| instance.endpoint);
        self.fabric.note(endpoint, text);
    }
}

fn brief(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(&value[..value.len().min(40)]);
    if value.len() > 40 { format!("{text:?}… ({} B)", value.len()) } else { format!("{text:?}") }
}
