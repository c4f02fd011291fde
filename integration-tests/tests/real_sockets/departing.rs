//! How nodes leave a network or the cluster, fail, and come back.

use std::collections::BTreeMap;
use std::time::Duration;

use membership::State;
use networkdb::NodeConfig;

use crate::cluster::{Cluster, NET, TABLE, create, create_many, shown, table};
use crate::waiting::{TIMEOUT, becomes_true};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_a_network_takes_its_entries_along_and_gets_the_others_back() {
    let cluster = Cluster::on_network(&["a", "b", "c"]).await;
    for (name, node) in cluster.nodes() {
        create(node, name, "1");
    }
    for name in ["a", "b", "c"] {
        cluster.show(name, Some("1")).await;
    }
    let b = cluster.node("b");
    b.leave_network(NET).await.unwrap();
    assert_eq!(table(b), BTreeMap::new(), "nothing is left where the network was left\n{cluster}");
    let remaining = BTreeMap::from(["a", "c"].map(|name| (name.to_owned(), "1".to_owned())));
    for name in ["a", "c"] {
        let node = cluster.node(name);
        cluster.eventually(format!("{name} shows all but b's entry"), || table(node) == remaining).await;
        let peers = || node.tables().network_peers(NET).len();
        cluster.eventually(format!("{name} knows that b has left the network"), || peers() == 2).await;
    }
    b.join_network(NET).await.unwrap();
    assert_eq!(
        table(b),
        remaining,
        "a network that is joined again begins with what the others hold\n{cluster}"
    );
    create(b, "b", "2");
    cluster.show("b", Some("2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_and_changes_written_just_before_leaving_a_network_stand() {
    let cluster = Cluster::on_network(&["a", "b", "c"]).await;
    for key in ["deleted", "changed", "untouched"] {
        create(cluster.node("a"), key, "1");
        cluster.show(key, Some("1")).await;
    }
    let b = cluster.node("b");
    b.tables().delete(NET, TABLE, "deleted").unwrap();
    // The change makes it b's entry, which goes when b leaves.
    b.tables().update(NET, TABLE, "changed", *b"2").unwrap();
    b.leave_network(NET).await.unwrap();
    let remaining = BTreeMap::from([("untouched".to_owned(), "1".to_owned())]);
    for name in ["a", "c"] {
        let node = cluster.node(name);
        cluster.eventually(format!("{name} shows what b left as it was"), || table(node) == remaining).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_shuts_down_is_known_to_have_left_and_its_entries_are_gone() {
    let mut cluster = Cluster::on_network(&["a", "b", "c"]).await;
    create(cluster.node("a"), "stays", "1");
    create(cluster.node("c"), "goes", "1");
    cluster.show("stays", Some("1")).await;
    cluster.show("goes", Some("1")).await;
    let c = cluster.take("c");
    c.shutdown(Duration::from_secs(5)).await;
    for name in ["a", "b"] {
        cluster.holds(name, "c", State::Left).await;
    }
    cluster.show("goes", None).await;
    cluster.show("stays", Some("1")).await;
    // Another process may listen there at once.
    cluster.start(NodeConfig { bind: c.local_address(), ..cluster.config("d") }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_completes_though_nobody_is_left_to_hear_it() {
    let mut cluster = Cluster::on_network(&["a", "b", "c"]).await;
    create_many(cluster.node("c"), 100);
    cluster.crash("a");
    cluster.crash("b");
    let ended = tokio::time::timeout(TIMEOUT, cluster.node("c").shutdown(Duration::from_secs(2))).await;
    assert!(ended.is_ok(), "after {TIMEOUT:?} it has not completed\n{cluster}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_networks_that_cannot_be_synced_do_not_hold_up_the_farewell() {
    let cluster = Cluster::on_links(&["a", "b", "c"]).await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    for number in 0..200 {
        let network = format!("of a and b {number}");
        for node in [a, b] {
            node.join_network(&network).await.unwrap();
        }
        a.tables().create(&network, TABLE, "k", *b"v").unwrap();
    }
    cluster.part_two("a", "b");
    let (begin, limit) = (tokio::time::Instant::now(), Duration::from_secs(4));
    a.shutdown(limit).await;
    let taken = begin.elapsed();
    // A busy machine is late, but not by as much as two hundred final syncs would take.
    assert!(taken < limit * 3, "{taken:?}");
    cluster.holds("c", "a", State::Left).await;
    // Who still asks is shown what there was.
    assert_eq!(a.tables().get("of a and b 7", TABLE, "k").unwrap().value()[..], *b"v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_shut_down_may_be_told_so_again() {
    let cluster = Cluster::on_network(&["a", "b"]).await;
    cluster.node("b").shutdown(Duration::from_secs(5)).await;
    let day = Duration::from_secs(24 * 3600);
    let ended = tokio::time::timeout(TIMEOUT, cluster.node("b").shutdown(day)).await;
    assert!(ended.is_ok(), "after {TIMEOUT:?} the second call has not returned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_cluster_may_shut_down_at_once() {
    let cluster = Cluster::on_network(&["a", "b", "c", "d", "e"]).await;
    for (_, node) in cluster.nodes() {
        create_many(node, 20);
    }
    let nodes = cluster.nodes().map(|(_, node)| node.clone()).collect::<Vec<_>>();
    let mut ends = tokio::task::JoinSet::new();
    for node in nodes {
        ends.spawn(async move { node.shutdown(Duration::from_secs(5)).await });
    }
    let ended = tokio::time::timeout(TIMEOUT, ends.join_all()).await;
    assert!(ended.is_ok(), "after {TIMEOUT:?} not all have shut down\n{cluster}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_returns_with_its_entries_in_the_same_life() {
    let cluster = Cluster::on_links(&["a", "b", "c"]).await;
    let stays = BTreeMap::from([("stays".to_owned(), "1".to_owned())]);
    create(cluster.node("a"), "stays", "1");
    let of_c = create_many(cluster.node("c"), 200);
    let wanted = of_c.iter().chain(&stays).map(|(key, value)| (key.clone(), value.clone())).collect();
    cluster.show_all(&wanted).await;
    let instance = cluster.node("c").id();
    cluster.part(&["c"]);
    for name in ["a", "b"] {
        cluster.holds(name, "c", State::Failed).await;
        assert_eq!(table(cluster.node(name)), stays, "{cluster}");
    }
    for key in of_c.keys() {
        assert_eq!(shown(cluster.node("c"), key).as_ref(), of_c.get(key), "it shows its own\n{cluster}");
    }
    cluster.heal();
    cluster.show_all(&wanted).await;
    cluster.know_each_other().await;
    assert_eq!(cluster.node("c").id(), instance, "nothing made it start a new instance\n{cluster}");
}

/// Restarts c right after a crash, where `elsewhere` says.
async fn restart_under_the_same_name(elsewhere: bool) {
    let mut cluster = Cluster::on_network(&["a", "b", "c"]).await;
    for (name, node) in cluster.nodes() {
        create(node, &format!("of {name}"), "first boot");
    }
    for key in ["of a", "of b", "of c"] {
        cluster.show(key, Some("first boot")).await;
    }
    let first = cluster.node("c").id();
    let address = cluster.crash("c");
    let mut config = cluster.config("c");
    if !elsewhere {
        config.bind = address;
    }
    let second = cluster.start_joined(config).await;
    cluster.know_each_other().await;
    assert!(second.id().generation > first.generation, "{first} and then {}", second.id());
    second.join_network(NET).await.unwrap();
    cluster.show("of c", None).await;
    for key in ["of a", "of b"] {
        cluster.show(key, Some("first boot")).await;
    }
    create(&second, "of c", "second boot");
    cluster.show("of c", Some("second boot")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restarted_at_its_old_address_begins_a_new_life_without_its_old_entries() {
    restart_under_the_same_name(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restarted_at_another_address_begins_a_new_life_without_its_old_entries() {
    restart_under_the_same_name(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_left_may_come_back_under_its_name_at_once() {
    let mut cluster = Cluster::on_network(&["a", "b", "c"]).await;
    create(cluster.node("c"), "k", "first boot");
    cluster.show("k", Some("first boot")).await;
    cluster.take("c").shutdown(Duration::from_secs(5)).await;
    let second = cluster.start_joined(cluster.config("c")).await;
    cluster.know_each_other().await;
    second.join_network(NET).await.unwrap();
    assert_eq!(shown(&second, "k"), None, "{cluster}");
    create(&second, "k", "second boot");
    cluster.show("k", Some("second boot")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_while_nodes_come_and_go() {
    let mut cluster = Cluster::on_network(&["a", "b"]).await;
    let mut wanted = BTreeMap::new();
    for round in 0..3 {
        let guest = cluster.start_joined(cluster.config(&format!("guest-{round}"))).await;
        guest.join_network(NET).await.unwrap();
        let brought = create_many(&guest, 50);
        for name in ["a", "b"] {
            let key = format!("{name} in round {round}");
            create(cluster.node(name), &key, "1");
            wanted.insert(key, "1".to_owned());
        }
        for key in brought.keys() {
            cluster.show(key, Some(&brought[key])).await;
        }
        let guest = cluster.take(&format!("guest-{round}"));
        match round % 2 {
            0 => guest.shutdown(Duration::from_secs(5)).await,
            _ => guest.abort(),
        }
    }
    cluster.show_all(&wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_dropped_stops() {
    let mut cluster = Cluster::of(&["a", "b"]).await;
    let b = cluster.take("b");
    let address = b.local_address();
    drop(b);
    cluster.holds("a", "b", State::Failed).await;
    let free = || std::net::UdpSocket::bind(address).is_ok();
    assert!(becomes_true(free).await, "after {TIMEOUT:?} the port of a dropped node is still in use");
}
