//! Nodes that are not let in, and how both sides come to know.

use membership::State;
use networkdb::{JoinClusterError, Node, NodeConfig};
use transport::{ClusterName, KeySet, Secret, Statistics, generate_secret};
use wire::Destination;

use crate::cluster::{Cluster, NET, TABLE, create, shown};

/// A try of `stranger` to join through a, which must fail.
async fn refused(cluster: &Cluster, stranger: &Node) -> JoinClusterError {
    let seed = cluster.node("a").advertised_address().to_string();
    match stranger.join(&[seed]).await {
        Err(error) => error,
        Ok(answered) => panic!("{answered} seeds took the stranger in\n{cluster}"),
    }
}

/// Waits until one of them has counted the refusal: who checks first depends on the handshake.
async fn count_the_refusal(cluster: &Cluster, stranger: &Node, count: fn(&Statistics) -> u64) {
    let nodes = [cluster.node("a"), stranger];
    cluster
        .eventually("both sides have counted a refusal", || {
            let [ours, theirs] = nodes.map(|node| node.transport().statistics());
            let sees = |node: &Statistics| count(node) > 0 || node.refused_by_peer > 0;
            sees(&ours) && sees(&theirs) && count(&ours) + count(&theirs) > 0
        })
        .await;
    for node in nodes {
        assert!(node.transport().connections().is_empty() || !std::ptr::eq(node, stranger), "{cluster}");
    }
}

/// Whether a and b are by themselves as they were before.
async fn are_undisturbed(cluster: &Cluster) {
    cluster.know_each_other().await;
    for (_, node) in cluster.nodes() {
        assert_eq!(node.members().len(), 2, "{cluster}");
        assert_eq!(node.membership_statistics().suspicions, 0, "{cluster}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_secret_is_not_let_in() {
    let cluster = Cluster::of(&["a", "b"]).await;
    let keys = KeySet::new(Secret::parse(&generate_secret()).unwrap());
    let stranger =
        Node::start(NodeConfig { identity: keys.into(), ..cluster.config("stranger") }).await.unwrap();
    let error = refused(&cluster, &stranger).await;
    assert!(matches!(error, JoinClusterError::NoAnswer(_)), "{error}");
    assert!(error.to_string().contains("secret"), "it says what is wrong: {error}");
    count_the_refusal(&cluster, &stranger, |counted| counted.refused_unknown_secret).await;
    are_undisturbed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_not_let_in() {
    let cluster = Cluster::of(&["a", "b"]).await;
    let other = ClusterName::new("another").unwrap();
    let stranger = Node::start(NodeConfig { cluster: other, ..cluster.config("stranger") }).await.unwrap();
    let error = refused(&cluster, &stranger).await;
    assert!(matches!(error, JoinClusterError::NoAnswer(_)), "{error}");
    assert!(error.to_string().contains("cluster"), "it says what is wrong: {error}");
    count_the_refusal(&cluster, &stranger, |counted| counted.refused_cluster).await;
    are_undisturbed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_name_is_taken_is_refused_and_the_holder_is_not_disturbed() {
    let cluster = Cluster::on_network(&["a", "b", "c"]).await;
    let owner = cluster.node("b");
    create(owner, "k", "the owner's");
    cluster.show("k", Some("the owner's")).await;
    let second = Node::start(cluster.config("b")).await.unwrap();

    let error = refused(&cluster, &second).await;
    let text = error.to_string();
    let JoinClusterError::NameInUse { name, owner: at, own } = error else { panic!("{text}\n{cluster}") };
    assert_eq!((name, at, own), (owner.id().name, owner.advertised_address(), second.advertised_address()));
    for address in [at, own] {
        assert!(text.contains(&address.to_string()), "{address} is not in {text:?}");
    }
    let reported = || cluster.nodes().any(|(_, node)| node.membership_statistics().name_conflicts > 0);
    cluster.eventually("the cluster's side is notified too", reported).await;

    cluster.know_each_other().await;
    for (_, node) in cluster.nodes() {
        let members = node.members();
        let member = members.iter().find(|member| member.name().as_str() == "b").expect("just seen");
        assert_eq!((member.state, member.record.address), (State::Alive, at), "{cluster}");
    }
    cluster.show("k", Some("the owner's")).await;
    assert_eq!(second.members().len(), 1, "the second is by itself: {:?}", second.members());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_the_cluster_that_is_not_on_a_network_gets_nothing_of_it_by_asking() {
    let mut cluster = Cluster::on_network(&["a", "b"]).await;
    create(cluster.node("a"), "the-key", "the-value");
    cluster.show("the-key", Some("the-value")).await;
    let modified = cluster.start_joined(cluster.config("modified")).await;
    cluster.know_each_other().await;
    // Before its list has come it would be taken at its word.
    modified.tables().join_network("elsewhere").unwrap();
    let listed = || cluster.node("a").tables().network_peers("elsewhere").len() == 1;
    cluster.eventually("its list is known", listed).await;
    let victim = cluster.node("a");
    let to = Destination { name: Some(victim.id().name), address: victim.local_address() };
    // It speaks the protocol by hand: "let us compare the network, I am on it since this epoch". Its list says otherwise.
    for epoch in [0u64, 1] {
        let before = victim.tables().counters().refused_not_member;
        let (mut sender, mut receiver, _) = modified.transport().open_stream(&to).await.unwrap();
        let (for_tables, open, full) = (1u8, 0u32, 0u32);
        let generation = modified.id().generation;
        let (periodic, synchronised) = (false, 0u32);
        let asks = wire::codec::encode(&(
            for_tables,
            open,
            full,
            NET,
            0u64,
            generation,
            epoch,
            7u64,
            periodic,
            0u64,
            synchronised,
        ));
        sender.send(asks).await.unwrap();
        let mut said = Vec::new();
        while let Ok(Some(frame)) = receiver.next().await {
            said.extend_from_slice(&frame);
        }
        for word in ["the-key", "the-value", TABLE] {
            assert!(
                !said.windows(word.len()).any(|part| part == word.as_bytes()),
                "{word} is reported: {said:?}"
            );
        }
        assert!(!said.is_empty() && said.len() < 5, "it is refused in a word: {said:?}");
        assert_eq!(victim.tables().counters().refused_not_member, before + 1, "{cluster}");
    }
    assert_eq!(victim.tables().network_peers(NET).len(), 2);
    // Nor does gossip go there.
    create(victim, "another-key", "another-value");
    cluster.eventually("b has it", || shown(cluster.node("b"), "another-key").is_some()).await;
    assert_eq!(modified.tables().counters().refused_not_member, 0, "nothing of it arrived");
}
