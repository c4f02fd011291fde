//! Entries, and how they come to be the same everywhere.

use std::collections::{BTreeMap, BTreeSet};

use tabledb::WriteError;
use tokio::task::JoinSet;

use crate::cluster::{Cluster, NET, TABLE, create, shown};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_creates_changes_and_deletes_and_all_see_it() {
    let names = ["a", "b", "c", "d", "e"];
    let cluster = Cluster::on_network(&names).await;
    for (name, node) in cluster.nodes() {
        create(node, name, "created");
    }
    for key in names {
        cluster.show(key, Some("created")).await;
    }
    // Each changes what its neighbour has created, and owns it from then on.
    for (name, key) in names.iter().zip(names.iter().cycle().skip(1)) {
        cluster.node(name).tables().update(NET, TABLE, key, format!("by {name}").as_bytes()).unwrap();
    }
    for (name, key) in names.iter().zip(names.iter().cycle().skip(1)) {
        cluster.show(key, Some(&format!("by {name}"))).await;
        for (_, node) in cluster.nodes() {
            let owner = node.tables().get(NET, TABLE, key).expect("just shown").owner().clone();
            assert_eq!(owner.as_str(), *name, "{cluster}");
        }
    }
    for (name, key) in names.iter().zip(names.iter().cycle().skip(2)) {
        cluster.node(name).tables().delete(NET, TABLE, key).unwrap();
    }
    cluster.show_all(&BTreeMap::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_did_counts_for_the_next_write() {
    let cluster = Cluster::on_network(&["a", "b", "c"]).await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    create(a, "k", "1");
    cluster.show("k", Some("1")).await;
    assert!(matches!(b.tables().create(NET, TABLE, "k", *b"2"), Err(WriteError::AlreadyExists { .. })));
    a.tables().delete(NET, TABLE, "k").unwrap();
    cluster.show("k", None).await;
    assert!(matches!(b.tables().update(NET, TABLE, "k", *b"2"), Err(WriteError::NotFound { .. })));
    assert!(matches!(b.tables().delete(NET, TABLE, "k"), Err(WriteError::NotFound { .. })));
    create(b, "k", "2");
    cluster.show("k", Some("2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_go_to_the_members_of_their_network_only() {
    let cluster = Cluster::of(&["a", "b", "c"]).await;
    for (network, members) in [("one", ["a", "b"]), ("two", ["b", "c"])] {
        for name in members {
            cluster.node(name).join_network(network).await.unwrap();
        }
    }
    for (network, writer) in [("one", "a"), ("two", "c")] {
        cluster.node(writer).tables().create(network, TABLE, "k", network.as_bytes()).unwrap();
    }
    let value = |name: &str, network: &str| {
        let entry = cluster.node(name).tables().get(network, TABLE, "k");
        entry.map(|entry| String::from_utf8_lossy(entry.value()).into_owned())
    };
    for network in ["one", "two"] {
        let arrived = || value("b", network).as_deref() == Some(network);
        cluster.eventually(format!("b shows the entry of {network}"), arrived).await;
    }
    assert_eq!((value("a", "two"), value("c", "one")), (None, None), "{cluster}");
    let peers = |name: &str| cluster.node(name).tables().network_peers("one").len();
    cluster.eventually("all know who is on a network", || ["a", "b", "c"].map(peers) == [2; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_size_up_to_the_limit_arrive_whole() {
    let cluster = Cluster::on_network(&["a", "b", "c"]).await;
    let value = |size: usize| (0..size).map(|i| (i * i % 251) as u8).collect::<Vec<u8>>();
    let limit = tabledb::Limits::default().value_bytes;
    // On both sides of what a datagram and a frame carry, and some at once.
    let sizes = [0, 1, 1_000, 1_150, 65_535, 65_536, 300_000, limit - 1, limit];
    for (size, (_, node)) in sizes.iter().zip(cluster.nodes().cycle()) {
        node.tables().create(NET, TABLE, &size.to_string(), value(*size)).unwrap();
    }
    for size in sizes {
        let (key, wanted) = (size.to_string(), value(size));
        let holds = |node: &networkdb::Node| {
            node.tables().get(NET, TABLE, &key).is_some_and(|entry| *entry.value() == wanted)
        };
        let all_hold = || cluster.nodes().all(|(_, node)| holds(node));
        cluster.eventually(format!("all hold the value of {size} bytes"), all_hold).await;
    }
    let refused = cluster.node("a").tables().create(NET, TABLE, "too large", vec![0; limit + 1]);
    let Err(WriteError::Length { what: "value", found, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(found, limit + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_writers_to_one_key_one_wins_everywhere() {
    let cluster = Cluster::on_network(&["a", "b", "c", "d", "e"]).await;
    create(cluster.node("a"), "k", "start");
    cluster.show("k", Some("start")).await;
    let mut writers = JoinSet::new();
    for (name, node) in cluster.nodes() {
        let (name, node) = (name.to_owned(), node.clone());
        writers.spawn(async move {
            for round in 0..50 {
                node.tables().update(NET, TABLE, "k", format!("{name} {round}").as_bytes()).unwrap();
                tokio::task::yield_now().await;
            }
        });
    }
    writers.join_all().await;
    let mut last = None;
    cluster
        .eventually("all show the same", || {
            let mut values = cluster.nodes().map(|(_, node)| shown(node, "k"));
            last = values.next().flatten();
            values.all(|value| value == last) && last.as_deref().is_some_and(|value| value.ends_with(" 49"))
        })
        .await;
    let last = last.expect("the condition held");
    let (winner, _) = last.split_once(' ').expect("as written above");
    for (_, node) in cluster.nodes() {
        let owner = node.tables().get(NET, TABLE, "k").expect("just shown").owner().clone();
        assert_eq!(owner.as_str(), winner, "{cluster}");
    }
    let digests = cluster.nodes().map(|(_, node)| node.tables().statistics(NET).unwrap().digest);
    assert_eq!(digests.collect::<BTreeSet<_>>().len(), 1, "{cluster}");
}
