//! A few nodes, and what anybody would try first.

use integration_tests::cluster::{Cluster, Key, SECOND, Settings};

const NET: &str = "blue";
const K: Key<'static> = Key::new(NET, "services", "web");

#[test]
fn nodes_find_each_other_and_share_an_entry() {
    let mut cluster = Cluster::new(Settings::seeded(1));
    let [a, b, c] = cluster.start(["a", "b", "c"]);
    cluster.join_network([a, b, c], NET);
    cluster.settle();
    cluster.create(a, K, "one");
    cluster.await_shown(&[b, c], K, "one", SECOND);
    cluster.update(b, K, "two");
    cluster.await_shown(&[a, c], K, "two", SECOND);
    cluster.delete(c, K);
    cluster.await_absent(&[a, b], K, SECOND);
    cluster.assert_promises();
}
