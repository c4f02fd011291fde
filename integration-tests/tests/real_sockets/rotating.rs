//! Secrets are exchanged node by node while everybody writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use membership::State;
use networkdb::identity::{IdentitySource, KeyChange};
use networkdb::{JoinClusterError, Node, NodeConfig};
use transport::{KeySet, Secret, generate_secret};

use crate::cluster::{Cluster, NET, TABLE};

fn secret() -> Secret {
    Secret::parse(&generate_secret()).unwrap()
}

fn text_of(secrets: &[&Secret]) -> String {
    secrets.iter().map(|secret| format!("{}\n", *secret.to_text())).collect()
}

fn set_of(secrets: &[&Secret]) -> KeySet {
    KeySet::parse(&text_of(secrets)).unwrap()
}

/// A node whose secrets are in a file of its own.
fn with_file(config: NodeConfig, folder: &Path, secrets: &[&Secret]) -> NodeConfig {
    let path = file_of(folder, config.name.as_str());
    std::fs::write(&path, text_of(secrets)).unwrap();
    NodeConfig {
        identity: set_of(secrets).into(),
        identity_source: IdentitySource::SecretFile(path),
        ..config
    }
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// Writes one entry after the other until the signal to end, and returns what it wrote.
fn keep_writing(node: Node, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<BTreeMap<String, String>> {
    tokio::spawn(async move {
        let (name, mut written) = (node.id().name, BTreeMap::new());
        while !stop.load(Ordering::Relaxed) {
            let (key, value) = (format!("{name}-{:06}", written.len()), format!("of {name}"));
            node.tables().create(NET, TABLE, &key, value.as_bytes()).expect("the key is free");
            written.insert(key, value);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        written
    })
}

/// Every node is asked to reach every other, so that nothing rests on a connection made before.
async fn all_talk_by(cluster: &Cluster, secret: &Secret) {
    let wanted = secret.fingerprint();
    cluster
        .eventually(format!("all connections are proved by {wanted}"), || {
            cluster.nodes().all(|(_, node)| {
                let connections = node.transport().connections();
                !connections.is_empty() && connections.iter().all(|found| found.authority == wanted)
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_from_one_secret_to_another_node_by_node_and_no_write_is_lost() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (secret(), secret());
    let mut cluster = Cluster::new();
    for name in NAMES {
        let config = with_file(cluster.config(name), folder.path(), &[&old]);
        cluster.start_joined(config).await;
    }
    cluster.know_each_other().await;
    cluster.join_network(NET).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = cluster.nodes().map(|(_, node)| keep_writing(node.clone(), stop.clone()));
    let writers = writers.collect::<Vec<_>>();
    let instances = cluster.nodes().map(|(_, node)| node.id()).collect::<Vec<_>>();

    let change = |name: &'static str, change: KeyChange| {
        let node = cluster.node(name).clone();
        async move {
            let changed = tokio::task::spawn_blocking(move || node.change_keys(&change)).await.unwrap();
            changed.unwrap()
        }
    };
    // One step on all nodes, then the next: at every moment some are a step ahead of the others. Each node's newest write is
    // seen by all before the next node is changed.
    for step in [
        KeyChange::Add(set_of(&[&new])),
        KeyChange::Use(new.fingerprint()),
        KeyChange::Remove(old.fingerprint()),
    ] {
        for name in NAMES {
            change(name, step.clone()).await;
            for (_, node) in cluster.nodes() {
                let latest = node.tables().entries(NET, TABLE).into_iter().rev();
                let own = node.id().name;
                let Some(latest) = latest.into_iter().find(|entry| *entry.owner() == own) else { continue };
                cluster.show(latest.key(), Some(&format!("of {own}"))).await;
            }
        }
    }
    all_talk_by(&cluster, &new).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = BTreeMap::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    assert!(written.len() > 100, "they wrote meanwhile: {}", written.len());
    cluster.show_all(&written).await;

    for (name, node) in cluster.nodes() {
        let counts = node.membership_statistics();
        assert_eq!(counts.failures_declared, 0, "{cluster}");
        assert_eq!(counts.generations_raised, 0, "{cluster}");
        assert_eq!(node.transport().statistics().connections_closed_lost, 0, "{cluster}");
        assert!(node.members().iter().all(|member| member.state == State::Alive), "{cluster}");
        let kept = std::fs::read_to_string(file_of(folder.path(), name)).unwrap();
        assert_eq!(kept, text_of(&[&new]), "a restart finds the new one");
    }
    assert_eq!(cluster.nodes().map(|(_, node)| node.id()).collect::<Vec<_>>(), instances);

    // Who has the old one only is out.
    let config = with_file(cluster.config("late"), folder.path(), &[&old]);
    let late = Node::start(config).await.unwrap();
    let seed = cluster.node("a").advertised_address().to_string();
    let error = late.join(std::slice::from_ref(&seed)).await.unwrap_err();
    assert!(
        matches!(error, JoinClusterError::NoAnswer(_)) && error.to_string().contains("secret"),
        "{error}"
    );
    // It gets the whole set at once, and has missed nothing that matters.
    std::fs::write(file_of(folder.path(), "late"), text_of(&[&new, &old])).unwrap();
    late.reread_identity().unwrap();
    assert_eq!(late.join(&[seed]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_sets_are_applied_whatever_steps_were_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (secret(), secret());
    let mut cluster = Cluster::new();
    for name in ["a", "b", "c"] {
        let config = with_file(cluster.config(name), folder.path(), &[&old]);
        cluster.start_joined(config).await;
    }
    cluster.know_each_other().await;
    cluster.join_network(NET).await;
    let apply = |name: &str, secrets: &[&Secret]| {
        std::fs::write(file_of(folder.path(), name), text_of(secrets)).unwrap();
        cluster.node(name).reread_identity().unwrap();
        // Twice is once.
        cluster.node(name).reread_identity().unwrap();
    };
    // The third never hears of the step in between; the second hears of it twice, and late.
    apply("a", &[&old, &new]);
    apply("b", &[&old, &new]);
    apply("a", &[&new, &old]);
    apply("c", &[&new, &old]);
    apply("b", &[&old, &new]);
    apply("b", &[&new]);
    apply("a", &[&new]);
    apply("c", &[&new]);
    all_talk_by(&cluster, &new).await;
    let mut written = BTreeMap::new();
    for (_, node) in cluster.nodes() {
        written.extend(crate::cluster::create_many(node, 10));
    }
    cluster.show_all(&written).await;
    for (_, node) in cluster.nodes() {
        assert_eq!(node.transport().statistics().certificates_minted, expected_mints(node), "{cluster}");
        assert_eq!(node.membership_statistics().failures_declared, 0, "{cluster}");
    }
}

/// One at the start, and one for each set that was another than the one before.
fn expected_mints(node: &Node) -> u64 {
    match node.id().name.as_str() {
        "a" => 1 + 3,
        "b" => 1 + 2,
        _ => 1 + 2,
    }
}
