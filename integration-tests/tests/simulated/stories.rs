//! The ten hardest stories of systems of this kind, each as a trace, with its variants. What befell others must not
//! befall us.

mod clocks;
mod entries;
mod instances;
mod load;
mod refusals;

use integration_tests::cluster::{Cluster, Key, Peer, Settings};

const NET: &str = "blue";
const K: Key<'static> = Key::new(NET, "services", "k");
const K1: Key<'static> = Key::new(NET, "services", "k1");
const K2: Key<'static> = Key::new(NET, "services", "k2");

fn cluster<const N: usize>(seed: u64, names: [&str; N]) -> (Cluster, [Peer; N]) {
    Cluster::settled(Settings::seeded(seed), names, NET)
}
