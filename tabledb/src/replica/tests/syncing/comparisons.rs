//! Comparisons that find differences, under continuous writes too.

use super::*;
use crate::replica::session::Role;

fn fingerprint_syncs(cluster: &Cluster) -> u64 {
    cluster.replicas.iter().map(|replica| replica.counters().comparisons_fingerprint).sum()
}

#[test]
fn a_busy_network_agrees_on_what_does_not_change() {
    let mut cluster = Cluster::joined(5);
    for key in 0..10 {
        cluster.create(2, &format!("k{key}"), "v");
    }
    cluster.settle();
    // n4 overwrites entries of n2, which only n3 learns by its final sync, and leaves. The updates that n3
    // would relay are lost.
    for at in 0..3 {
        cluster.part(at, 4);
    }
    cluster.lose_datagrams = true;
    for key in 0..5 {
        cluster.update(4, &format!("k{key}"), "w");
    }
    let now = cluster.now;
    cluster.replicas[4].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_secs(3));
    let (leaver, now) = (cluster.replicas[4].node().clone(), cluster.now);
    for at in 0..4 {
        cluster.replicas[at].handle_owner_gone(&leaver, now);
    }
    let mut serial = 0;
    let mut write = |cluster: &mut Cluster| {
        serial += 1;
        let now = cluster.now;
        for at in 0..4 {
            let (key, value) = (format!("busy-{at}-{}", serial % 7), format!("{serial}"));
            let replica = &mut cluster.replicas[at];
            if replica.update(NET, TABLE, &key, value.as_bytes(), now).is_err() {
                replica.create(NET, TABLE, &key, value.as_bytes(), now).unwrap();
            }
        }
        cluster.run(Duration::from_millis(50));
    };
    // The network is never quiescent.
    for _ in 0..100 {
        write(&mut cluster);
    }
    cluster.heal();
    cluster.lose_datagrams = false;
    let (bytes, full) = (cluster.bytes, fingerprint_syncs(&cluster));
    for round in 0..100 {
        write(&mut cluster);
        if round % 20 == 0 {
            cluster.exchange_digests();
        }
    }
    for at in 0..4 {
        let held: Vec<String> = cluster.shown(at).into_keys().filter(|key| key.starts_with('k')).collect();
        assert_eq!(held, ["k5", "k6", "k7", "k8", "k9"], "n{at}");
    }
    // Five seconds of eighty writes a second to three others.
    assert!(cluster.bytes - bytes < 400_000, "{} bytes", cluster.bytes - bytes);
    assert!(fingerprint_syncs(&cluster) - full < 20, "{} syncs", fingerprint_syncs(&cluster) - full);
}

#[test]
fn a_sync_that_has_not_reached_the_peer_does_not_keep_the_peer_from_another() {
    let mut cluster = Cluster::joined(2);
    cluster.settle();
    cluster.lose_datagrams = true;
    cluster.create(1, "k", "v");
    let compare = |cluster: &mut Cluster, at: usize, with: usize| {
        for _ in 0..2 {
            cluster.run(Duration::from_millis(1100));
            let now = cluster.now;
            let digest = cluster.replicas[with].digest_for(&name(at), 500, now).unwrap();
            cluster.replicas[at].handle_digest(&name(with), &digest, now).unwrap();
        }
    };
    compare(&mut cluster, 0, 1);
    let now = cluster.now;
    // There is no connection yet.
    while cluster.replicas[0].poll_transmit(now).is_some() {}
    let at = cluster.replicas[0].by_name[NET];
    assert_eq!(cluster.replicas[0].networks[at].as_ref().unwrap().scheduler.full_syncs().len(), 1);
    compare(&mut cluster, 1, 0);
    cluster.exchange();
    assert_eq!(cluster.get(0, "k").as_deref(), Some("v"));
}

#[test]
fn a_comparison_without_a_response_does_not_keep_entries_hidden() {
    let mut cluster = Cluster::joined(2);
    cluster.create(0, "k", "v");
    cluster.run(Duration::from_secs(40));
    cluster.failed(1, 0);
    cluster.alive(1, 0);
    // The stream waits for a connection that is never established.
    let now = cluster.now;
    let mut opened = false;
    while let Some(transmit) = cluster.replicas[1].poll_transmit(now) {
        opened |= matches!(transmit, Transmit::OpenStream { .. });
    }
    assert!(opened);
    cluster.run(Duration::from_millis(600));
    assert_eq!(cluster.get(1, "k").as_deref(), Some("v"));
    assert_eq!(cluster.replicas[1].counters().shown_uncompared, 0);
}

#[test]
fn only_the_request_of_the_period_is_periodic() {
    let mut cluster = Cluster::joined(2);
    cluster.run(Duration::from_secs(20));
    // The period is over for a network without other members: nothing is requested.
    let now = cluster.now;
    cluster.replicas[0].join_network("alone", now).unwrap();
    for network in cluster.replicas[0].networks.iter_mut().flatten() {
        network.quiescent_fingerprint(now);
    }
    cluster.run(Duration::from_millis(1500));
    let now = cluster.now;
    let replica = &mut cluster.replicas[0];
    let alone = replica.by_name["alone"];
    let other = replica.by_name[NET];
    let whole = replica.networks[other].as_mut().unwrap();
    whole.note_fingerprint(&name(1), 1, &mut replica.node, now);
    assert_eq!(replica.node.requests.len(), 1);
    let network = replica.networks[alone].as_mut().unwrap();
    network.handle_timeout(&mut replica.node, now + Duration::from_secs(60));
    let Some(Transmit::OpenStream { stream, .. }) = replica.poll_transmit(now) else { panic!("no session") };
    let crate::replica::Stream::Session(session) = &replica.streams[&stream] else { panic!("no session") };
    let Role::FullOpener(sync) = &session.role else { panic!("no full sync") };
    assert!(!sync.periodic);
}
