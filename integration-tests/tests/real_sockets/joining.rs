//! How nodes become a cluster, and find back to it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use membership::State;
use networkdb::{JoinOutcome, NodeConfig};

use crate::cluster::{Cluster, NET, TABLE, create, create_many, table};

/// A port that is kept until the node that is to listen there starts.
fn reserved_port() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Settings with which a node learns of others by gossip only: nothing repairs what gossip has missed.
fn without_repair(config: NodeConfig) -> NodeConfig {
    let day = Duration::from_secs(24 * 3600);
    let membership = membership::Config { sync_interval: day, repair_interval: day, ..config.membership };
    NodeConfig { membership, ..config }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_name_the_same_seed_all_know_each_other() {
    let mut cluster = Cluster::new();
    let seed = cluster.start(without_repair(cluster.config("a"))).await;
    for name in ["b", "c", "d", "e"] {
        let seeds = vec![seed.advertised_address().to_string()];
        cluster.start(NodeConfig { seeds, ..without_repair(cluster.config(name)) }).await;
    }
    cluster.know_each_other().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_tells_how_many_seeds_answered_and_knows_them_when_it_returns() {
    let mut cluster = Cluster::new();
    for name in ["a", "b", "c"] {
        cluster.start(cluster.config(name)).await;
    }
    let seeds = ["a", "b", "c"].map(|name| cluster.node(name).advertised_address().to_string());
    let answered = cluster.node("a").join(&seeds).await.expect("all are up");
    assert_eq!(answered, 2, "the node itself is not counted\n{cluster}");
    assert_eq!(cluster.node("a").members().len(), 3, "{cluster}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seeds_that_did_not_know_each_other_hear_of_each_other_from_the_one_that_joined_them() {
    let mut cluster = Cluster::new();
    for name in ["a", "b", "c", "d"] {
        cluster.start(without_repair(cluster.config(name))).await;
    }
    let seeds = ["b", "c", "d"].map(|name| cluster.node(name).advertised_address().to_string());
    cluster.node("a").join(&seeds).await.expect("all are up");
    cluster.know_each_other().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_may_be_a_host_name() {
    let mut cluster = Cluster::new();
    let port = cluster.start(cluster.config("a")).await.advertised_address().port();
    let seeds = vec![format!("localhost:{port}")];
    cluster.start(NodeConfig { seeds, ..cluster.config("b") }).await;
    cluster.know_each_other().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_is_not_up_yet_is_joined_when_it_comes() {
    let (reserved, address) = reserved_port();
    let mut cluster = Cluster::new();
    let eager = NodeConfig { seeds: vec![address.to_string()], ..cluster.config("eager") };
    let eager = cluster.start(eager).await;
    let called = || eager.transport().statistics().dials_failed_unanswered > 0;
    cluster.eventually("the seed was called in vain", called).await;
    drop(reserved);
    cluster.start(NodeConfig { bind: address, ..cluster.config("seed") }).await;
    cluster.know_each_other().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_to_join_at_the_start_are_joined_with_the_cluster() {
    let mut cluster = Cluster::new();
    for name in ["a", "b", "c"] {
        cluster.start_joined(NodeConfig { networks: vec![NET.to_owned()], ..cluster.config(name) }).await;
    }
    create(cluster.node("b"), "k", "v");
    cluster.show("k", Some("v")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_holds_ten_thousand_entries_when_its_join_returns() {
    let mut cluster = Cluster::on_network(&["a", "b", "c"]).await;
    let mut wanted = create_many(cluster.node("a"), 6_000);
    wanted.append(&mut create_many(cluster.node("b"), 3_000));
    wanted.append(&mut create_many(cluster.node("c"), 1_000));
    cluster.show_all(&wanted).await;
    let newcomer = cluster.start_joined(cluster.config("newcomer")).await;
    cluster.know_each_other().await;
    assert_eq!(newcomer.join_network(NET).await, Ok(JoinOutcome::Synchronised));
    let found = table(&newcomer);
    assert!(found == wanted, "{} of {} entries\n{cluster}", found.len(), wanted.len());
    cluster.show_all(&wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_is_one_again_after_all_its_seeds_restarted_at_once() {
    let mut cluster = Cluster::new();
    let mut configs = Vec::new();
    for name in ["seed-1", "seed-2", "other-1", "other-2"] {
        let config = cluster.config(name);
        let bind = cluster.start(config.clone()).await.local_address();
        configs.push(NodeConfig { bind, ..config });
    }
    let seeds = [&configs[0], &configs[1]].map(|config| config.bind.to_string()).to_vec();
    for config in &mut configs {
        config.seeds = seeds.clone();
        cluster.node(config.name.as_str()).join(&seeds).await.unwrap();
    }
    cluster.know_each_other().await;
    cluster.join_network(NET).await;
    create(cluster.node("other-1"), "k", "v");
    cluster.show("k", Some("v")).await;

    cluster.crash("seed-1");
    cluster.crash("seed-2");
    for other in ["other-1", "other-2"] {
        for seed in ["seed-1", "seed-2"] {
            cluster.holds(other, seed, State::Failed).await;
        }
    }
    for config in &configs[..2] {
        cluster.start(config.clone()).await;
    }
    cluster.know_each_other().await;
    for name in ["seed-1", "seed-2"] {
        cluster.node(name).join_network(NET).await.unwrap();
    }
    cluster.show("k", Some("v")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_halves_that_lost_each_other_find_back_and_agree() {
    let cluster = Cluster::on_links(&["a", "b", "c", "d"]).await;
    create(cluster.node("a"), "deleted beyond", "1");
    create(cluster.node("c"), "changed beyond", "1");
    cluster.show("deleted beyond", Some("1")).await;
    cluster.show("changed beyond", Some("1")).await;

    cluster.part(&["a", "b"]);
    for (one, other) in [("a", "c"), ("b", "d"), ("c", "a"), ("d", "b")] {
        cluster.holds(one, other, State::Failed).await;
    }
    // Each side sees no more than its own entries and goes on with them.
    cluster.node("b").tables().delete(NET, TABLE, "deleted beyond").unwrap();
    cluster.node("d").tables().update(NET, TABLE, "changed beyond", *b"2").unwrap();
    create(cluster.node("b"), "made here", "3");
    create(cluster.node("d"), "made there", "4");

    cluster.heal();
    let wanted = [("changed beyond", "2"), ("made here", "3"), ("made there", "4")];
    cluster.show_all(&wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into()).await;
    cluster.know_each_other().await;
}
