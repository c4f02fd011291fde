//! What went wrong in other systems of this kind, where a simulated cluster can show that it does not here.
//!
//! `n` stands for NetworkDB, `l` for memberlist and serf, `r` for the systems written in Rust; the numbers are those of
//! the catalogue that the README of this crate maps to tests.

mod members;
mod networks;
mod spreading;
mod streams;
mod tables;

use integration_tests::cluster::{Cluster, Key, Peer, SECOND, Settings};

const NET: &str = "blue";
const K: Key<'static> = Key::new(NET, "services", "k");

fn cluster<const N: usize>(seed: u64, names: [&str; N]) -> (Cluster, [Peer; N]) {
    Cluster::settled(Settings::seeded(seed), names, NET)
}

fn many(settings: Settings, count: usize) -> (Cluster, Vec<Peer>) {
    let mut cluster = Cluster::new(settings);
    let peers = cluster.start_many(count);
    cluster.join_network(peers.iter().copied(), NET);
    cluster.settle();
    cluster.run_for(6 * SECOND);
    (cluster, peers)
}

/// What a watcher receives about a key, one value after the other; an empty text stands for nothing.
fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| (!value.is_empty()).then(|| (*value).to_owned())).collect()
}
