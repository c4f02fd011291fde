//! What went wrong with streams: their halves end one after the other, and a node that forgets one of them runs out of streams some day.

use integration_tests::cluster::{Cluster, Key, MILLISECOND, SECOND, Settings};
use integration_tests::fabric::{Latency, Link};

use super::NET;

#[test]
fn every_stream_ends_however_often_a_network_is_joined_and_left() {
    let mut settings = Settings::seeded(350);
    settings.fabric.link = Link { latency: Latency::Fixed(MILLISECOND), ..Link::default() };
    let (mut cluster, peers) = Cluster::settled(settings, ["a", "b", "c"], NET);
    for round in 0..1500usize {
        let peer = peers[round % 3];
        let key = cluster.name(peer).as_str().to_owned();
        if cluster.networks_of(peer).is_empty() {
            // Refused while it is still being left.
            let _ = cluster.try_join_network(peer, NET);
        } else {
            let key = Key::new(NET, "services", &key);
            if cluster.value(peer, key).is_none() {
                cluster.create(peer, key, round.to_string());
            }
            cluster.leave_network([peer], NET);
        }
        cluster.run_for(MILLISECOND * (round * 7 % 11) as u32);
    }
    cluster.run_for(3 * SECOND);
    for peer in peers {
        if cluster.networks_of(peer).is_empty() {
            cluster.join_network([peer], NET);
        }
    }
    cluster.await_agreement(NET, 5 * SECOND);
    cluster
        .run_until("no stream is open any more", 10 * SECOND, |cluster| cluster.fabric().open_streams() == 0);
    cluster.assert_promises();
}
