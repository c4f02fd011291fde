//! Clocks that are wrong, are set, or stood still while their host slept.

use std::time::Duration;

use integration_tests::cluster::{Cluster, Peer, SECOND, Settings};

use super::{K, K1, NET, cluster};

const HOUR: Duration = Duration::from_secs(3600);
const HOURS: i64 = 3600 * 1_000_000;

#[test]
fn a_host_that_slept_two_hours_hears_everybody_and_is_heard() {
    let (mut cluster, [a, b, c]) = cluster(1101, ["a", "b", "c"]);
    cluster.create(a, K, "before");
    cluster.await_agreement(NET, SECOND);
    cluster.sleep_host(c);
    cluster.run_for(2 * HOUR);
    cluster.update(a, K, "while it slept");
    cluster.run_for(10 * SECOND);
    cluster.wake_host(c);
    cluster.await_members(&[a, b, c], 60 * SECOND);
    cluster.await_shown(&[a, b, c], K, "while it slept", 10 * SECOND);
    cluster.update(b, K, "of b");
    cluster.await_shown(&[a, b, c], K, "of b", 2 * SECOND);
    cluster.update(c, K, "of the one that slept");
    cluster.await_shown(&[a, b, c], K, "of the one that slept", 2 * SECOND);
    cluster.assert_promises();
}

#[test]
fn after_a_night_in_which_all_slept_a_newcomer_is_heard() {
    let (mut cluster, [a, b, c]) = cluster(1102, ["a", "b", "c"]);
    cluster.create(a, K, "of the evening");
    cluster.await_agreement(NET, SECOND);
    cluster.sleep_hosts_for(&[a, b, c], 8 * HOUR);
    let d = cluster.start_with_seeds("d", &[a, b, c]);
    cluster.join_network([d], NET);
    cluster.await_members(&[a, b, c, d], 60 * SECOND);
    cluster.await_shown(&[d], K, "of the evening", 10 * SECOND);
    cluster.update(d, K, "of the morning");
    cluster.create(d, K1, "new");
    cluster.await_shown(&[a, b, c, d], K, "of the morning", 5 * SECOND);
    cluster.await_shown(&[a, b, c, d], K1, "new", 5 * SECOND);
    cluster.assert_promises();
}

#[test]
fn a_clock_that_is_set_back_by_hours_takes_no_writes_away() {
    let (mut cluster, [a, b, c]) = cluster(1103, ["a", "b", "c"]);
    cluster.create(b, K, "of b");
    cluster.create(a, K1, "of a");
    cluster.await_agreement(NET, SECOND);
    cluster.set_clock_offset(a, -26 * HOURS);
    cluster.run_for(5 * SECOND);
    cluster.update(a, K, "of the one set back");
    cluster.await_shown(&[b, c], K, "of the one set back", SECOND);
    cluster.update(b, K, "of b again");
    cluster.await_shown(&[a, c], K, "of b again", SECOND);
    cluster.update(c, K1, "of c");
    cluster.await_shown(&[a, b], K1, "of c", SECOND);
    cluster.run_for(60 * SECOND);
    cluster.assert_promises();
}

#[test]
fn a_clock_that_is_put_right_by_hours_is_followed_at_once() {
    let (mut cluster, [a, b, c]) = cluster(1104, ["a", "b", "c"]);
    cluster.crash(a);
    cluster.set_clock_offset(a, -26 * HOURS);
    cluster.restart(a, &[b, c]);
    cluster.join_network([a], NET);
    cluster.set_clock_offset(a, 0);
    cluster.create(a, K, "of a");
    cluster.await_shown(&[b, c], K, "of a", 10 * SECOND);
    cluster.update(b, K, "of b");
    cluster.await_shown(&[a, c], K, "of b", 2 * SECOND);
    cluster.await_members(&[a, b, c], 60 * SECOND);
    cluster.assert_promises();
}

/// Two processes of A, one after the other, each where only one of the others hears it, who knows of no more than what was there
/// before. Both write as much.
fn live_on_each_side(cluster: &mut Cluster, [a, b, c]: [Peer; 3], begin: impl Fn(&mut Cluster, Peer)) {
    for (here, there, value) in [(b, c, "first"), (c, b, "second")] {
        cluster.heal();
        cluster.partition(&[&[a, here], &[there]]);
        begin(cluster, here);
        cluster.join_network([a], NET);
        cluster.await_members(&[a, here], 60 * SECOND);
        cluster.create(a, K, value);
        cluster.await_shown(&[here], K, value, 5 * SECOND);
        if value == "first" {
            cluster.crash(a);
        }
    }
}

/// All meet: only what the process wrote that still runs is there.
fn all_agree_on_the_second(cluster: &mut Cluster, peers: [Peer; 3]) {
    cluster.heal();
    cluster.await_members(&peers, 60 * SECOND);
    cluster.await_shown(&peers, K, "second", 10 * SECOND);
    cluster.await_agreement(NET, 10 * SECOND);
}

#[test]
fn two_processes_that_start_with_a_clock_set_back_among_different_peers_take_different_lives() {
    let (mut cluster, [a, b, c]) = cluster(1105, ["a", "b", "c"]);
    cluster.crash(a);
    cluster.set_clock_offset(a, -HOURS);
    live_on_each_side(&mut cluster, [a, b, c], |cluster, here| cluster.restart(a, &[here]));
    all_agree_on_the_second(&mut cluster, [a, b, c]);
    cluster.assert_promises();
}

#[test]
fn one_life_that_two_processes_bore_is_noticed_though_both_wrote_as_much() {
    // The machine was set back to an earlier time, and the same instance goes on from there. The ledger knows one write a dot: it is
    // not asked.
    let settings = Settings { watched: false, inspection: None, ..Settings::seeded(1106) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.crash(a);
    let generation = cluster.wall(a);
    let begin = |cluster: &mut Cluster, here| cluster.start_instance_as(a, generation, &[here]);
    live_on_each_side(&mut cluster, [a, b, c], begin);
    assert_eq!(cluster.id(a).generation, generation, "nobody has noticed yet");
    all_agree_on_the_second(&mut cluster, [a, b, c]);
    assert!(cluster.id(a).generation > generation);
}

#[test]
fn a_node_that_starts_two_hours_ahead_makes_nothing_vanish() {
    let (mut cluster, [a, b, c]) = cluster(1107, ["a", "b", "c"]);
    cluster.create(a, K, "of a");
    cluster.create(b, K1, "of b");
    cluster.await_agreement(NET, SECOND);
    let x = cluster.add("x");
    cluster.set_clock_offset(x, 2 * HOURS);
    cluster.start_instance(x, &[a, b, c]);
    cluster.join_network([x], NET);
    cluster.await_members(&[a, b, c, x], 10 * SECOND);
    cluster.await_shown(&[x], K, "of a", 10 * SECOND);
    cluster.update(x, K, "of x");
    cluster.run_for(60 * SECOND);
    // Those whose clocks are right do not believe it, and keep what they have.
    cluster.update(a, K, "of a again");
    cluster.delete(b, K1);
    cluster.create(b, K1, "of b again");
    cluster.run_for(120 * SECOND);
    for peer in [a, b, c] {
        assert!(cluster.shows(peer, K, "of a again"), "{}", cluster.name(peer));
        assert!(cluster.shows(peer, K1, "of b again"), "{}", cluster.name(peer));
        let shown = cluster.shown_so_far(peer, K);
        assert_eq!(shown, ["of a", "of a again"].map(|value| Some(value.to_owned())), "nothing vanished");
    }
    // Everybody can say whose clock it is.
    let skew = |peer| cluster.machine(peer).replica().clock_skew();
    assert!([a, b, c].map(skew).iter().any(|skew| skew.peers_beyond == 1), "a node has noticed");
    assert!(skew(x).largest > HOUR && skew(x).largest < 3 * HOUR);
    // What it wrote is believed when it is not in the future any more; when its clock has been put right, so is all it writes.
    cluster.run_for(2 * HOUR + 300 * SECOND);
    cluster.set_clock_offset(x, 0);
    cluster.update(x, K, "of x, believed");
    cluster.await_shown(&[a, b, c, x], K, "of x, believed", 60 * SECOND);
}
