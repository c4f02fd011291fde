//! The seventeen ways in which a first draft of the replication rules failed. Each number is one of them.

use integration_tests::cluster::{Cluster, Key, MILLISECOND, Peer, SECOND, Settings};
use integration_tests::fabric::{Latency, Link, MessageKind, Verdict};
use membership::State;

const NET: &str = "blue";
const K: Key<'static> = Key::new(NET, "services", "k");

fn cluster<const N: usize>(seed: u64, names: [&str; N]) -> (Cluster, [Peer; N]) {
    Cluster::settled(Settings::seeded(seed), names, NET)
}

/// Tombstones are kept for ten seconds only.
fn short_memory(seed: u64) -> Settings {
    Settings { reap_time: 10 * SECOND, ..Settings::seeded(seed) }
}

fn some(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| (!value.is_empty()).then(|| (*value).to_owned())).collect()
}

#[test]
fn f01_what_is_forgotten_with_its_owner_is_not_believed_again() {
    let mut settings = Settings::seeded(201);
    settings.membership.departed_retention = 30 * SECOND;
    settings.membership.memory_retention = 600 * SECOND;
    settings.membership.reap_interval = 5 * SECOND;
    let (mut cluster, [a, b, c, d]) = Cluster::settled(settings, ["a", "b", "c", "d"], NET);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[&[a, c], &[b, d]]);
    cluster.delete(b, K);
    // Long enough that B and D forget A, with everything of it.
    cluster.run_until("B has forgotten A", 120 * SECOND, |cluster| cluster.state_of(b, a).is_none());
    cluster.run_for(10 * SECOND);
    cluster.heal();
    cluster.await_members(&[a, b, c, d], 120 * SECOND);
    cluster.await_absent(&[a, b, c, d], K, 10 * SECOND);
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.shown_so_far(d, K), some(&["v", ""]), "it never comes back");
    cluster.assert_promises();
}

#[test]
fn f02_f03_a_sync_beside_writes_kills_nothing_that_lives() {
    let settings = Settings { inspection: Some(20 * MILLISECOND), ..Settings::seeded(202) };
    let (mut cluster, [a, b]) = Cluster::settled(settings, ["a", "b"], NET);
    cluster.load(a, NET, "hosts", "key ", 600, &[b'x'; 100]);
    cluster.await_agreement(NET, 5 * SECOND);
    // The newcomer's syncs take seconds, and meanwhile entries are overwritten and deleted.
    cluster.set_links(Link { bandwidth: Some(30_000), ..Link::with_latency(20 * MILLISECOND) });
    let c = cluster.start_with_seeds("c", &[a, b]);
    cluster.join_network([c], NET);
    for number in 0..150 {
        let key = format!("key {}", number * 7 % 600);
        let key = Key::new(NET, "hosts", &key);
        let writer = [a, b][number % 2];
        if cluster.value(writer, key).is_some() {
            match number % 3 {
                0 => cluster.delete(writer, key),
                _ => cluster.update(writer, key, format!("overwritten {number}")),
            }
        }
        cluster.run_for(20 * MILLISECOND);
    }
    cluster.set_links(Link::default());
    cluster.await_members(&[a, b, c], 60 * SECOND);
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.assert_promises();
}

#[test]
fn f04_an_owner_believes_that_its_own_entry_is_dead() {
    let (mut cluster, [a, b, c]) = Cluster::settled(short_memory(204), ["a", "b", "c"], NET);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    let rules = cluster.isolate_tables(a, &[b, c]);
    cluster.delete(b, K);
    cluster.run_for(15 * SECOND);
    assert_eq!(cluster.held(c, K), None, "the tombstone is reaped");
    cluster.remove_rules(rules);
    cluster.await_absent(&[a], K, 10 * SECOND);
    assert_eq!(cluster.shown_so_far(a, K), some(&["v", ""]), "its watchers are notified");
    cluster.assert_promises();
}

#[test]
fn f05_a_late_write_of_an_ended_epoch_replaces_nothing() {
    let (mut cluster, [a, b]) = cluster(205, ["a", "b"]);
    let hold = cluster.on_tables(a, b, Verdict::Hold);
    cluster.create(a, K, "first epoch");
    cluster.run_for(10 * MILLISECOND);
    let late = cluster.take_held();
    cluster.remove_rule(hold);
    cluster.leave_network([a], NET);
    cluster.run_until("A has left", 5 * SECOND, |cluster| cluster.inspect(a, NET).is_none());
    cluster.join_network([a], NET);
    cluster.create(a, K, "second epoch");
    cluster.await_shown(&[b], K, "second epoch", SECOND);
    for datagram in &late {
        cluster.deliver(datagram);
    }
    cluster.run_for(SECOND);
    assert!(cluster.shows(b, K, "second epoch"));
    assert_eq!(cluster.shown_so_far(b, K).last(), Some(&Some("second epoch".to_owned())));
    cluster.assert_promises();
}

#[test]
fn f06_a_lost_leave_is_noticed_though_no_other_network_is_shared() {
    let (mut cluster, [a, b]) = cluster(206, ["a", "b"]);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b], K, "v", SECOND);
    let rules = cluster.isolate_tables(a, &[b]);
    cluster.leave_network([a], NET);
    cluster.run_for(5 * SECOND);
    assert!(cluster.shows(b, K, "v"), "B has not heard of it");
    cluster.remove_rules(rules);
    cluster.await_absent(&[b], K, 5 * SECOND);
    cluster.assert_promises();
}

#[test]
fn f07_an_idle_cluster_with_failed_and_silent_members_does_not_sync_without_end() {
    let (mut cluster, [a, b, c, d, e]) = cluster(207, ["a", "b", "c", "d", "e"]);
    cluster.create(a, K, "v");
    cluster.create(d, Key::new(NET, "services", "of d"), "v");
    cluster.await_agreement(NET, SECOND);
    // E never writes; D fails.
    cluster.crash(d);
    cluster.await_members(&[a, b, c, e], 60 * SECOND);
    assert_no_more_syncs(&mut cluster, &[a, b, c, e]);
}

#[test]
fn f07_newcomers_hold_as_much_of_the_failed_as_those_who_saw_them_fail() {
    let (mut cluster, [a, b, c]) = cluster(207, ["a", "b", "c"]);
    cluster.create(c, K, "v");
    cluster.await_agreement(NET, SECOND);
    cluster.crash(c);
    cluster.await_members(&[a, b], 60 * SECOND);
    let d = cluster.start_with_seeds("d", &[a]);
    cluster.join_network([d], NET);
    cluster.await_members(&[a, b, d], 10 * SECOND);
    assert_no_more_syncs(&mut cluster, &[a, b, d]);
    assert!(cluster.held(d, K).is_some_and(|held| !held.shown), "for C may return");
    assert_eq!(cluster.shown_so_far(d, K), [], "but it was never shown");
}

/// Over several anti-entropy periods no fingerprints differ.
fn assert_no_more_syncs(cluster: &mut Cluster, peers: &[Peer]) {
    cluster.run_for(40 * SECOND);
    let syncs = |cluster: &Cluster| -> u64 {
        peers.iter().map(|peer| cluster.machine(*peer).replica().counters().comparisons_fingerprint).sum()
    };
    let before = syncs(cluster);
    cluster.run_for(200 * SECOND);
    assert_eq!(syncs(cluster), before, "no fingerprints differ");
    cluster.assert_promises();
}

#[test]
fn f08_of_a_returned_owner_nothing_stale_is_shown_for_a_moment() {
    let (mut cluster, [a, b, c]) = cluster(208, ["a", "b", "c"]);
    let key = |number: usize| format!("key {number}");
    for number in 0..20 {
        cluster.create(a, Key::new(NET, "hosts", &key(number)), "old");
    }
    cluster.await_agreement(NET, SECOND);
    cluster.partition(&[&[a, c], &[b]]);
    cluster.run_until("B hides all of A", 60 * SECOND, |cluster| cluster.visible(b, NET).is_empty());
    // Meanwhile half of it is deleted or changed.
    for number in 0..10 {
        match number % 2 {
            0 => cluster.delete(c, Key::new(NET, "hosts", &key(number))),
            _ => cluster.update(a, Key::new(NET, "hosts", &key(number)), "new"),
        }
    }
    cluster.run_for(SECOND);
    cluster.heal();
    cluster.await_members(&[a, b, c], 30 * SECOND);
    cluster.await_agreement(NET, 10 * SECOND);
    for number in 0..20 {
        let shown = cluster.shown_so_far(b, Key::new(NET, "hosts", &key(number)));
        let expected = match number {
            0..10 if number % 2 == 0 => some(&["old", ""]),
            0..10 => some(&["old", "", "new"]),
            _ => some(&["old", "", "old"]),
        };
        assert_eq!(shown, expected, "{}", key(number));
    }
    cluster.assert_promises();
}

#[test]
fn f09_a_tombstone_reaped_before_it_met_the_put_lets_nothing_rise() {
    let (mut cluster, [a, b, c]) = Cluster::settled(short_memory(209), ["a", "b", "c"], NET);
    let hold = cluster.on_tables(a, c, Verdict::Hold);
    cluster.create(a, K, "v");
    cluster.await_shown(&[b], K, "v", SECOND);
    let put = cluster.take_held();
    assert!(!put.is_empty());
    cluster.remove_rule(hold);
    let rules = cluster.isolate_tables(c, &[a, b]);
    cluster.delete(b, K);
    cluster.run_for(15 * SECOND);
    assert_eq!((cluster.held(a, K), cluster.held(b, K)), (None, None), "the tombstone is reaped");
    for datagram in &put {
        cluster.deliver(datagram);
    }
    cluster.run_for(10 * MILLISECOND);
    assert!(cluster.shows(c, K, "v"), "C cannot know better yet");
    cluster.remove_rules(rules);
    cluster.await_absent(&[c], K, 10 * SECOND);
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.shown_so_far(b, K), some(&["v", ""]));
    cluster.assert_promises();
}

#[test]
fn f10_what_a_newcomer_writes_is_not_born_old() {
    let mut cluster = Cluster::new(Settings::seeded(210));
    let [a, b] = ["a", "b"].map(|name| cluster.add(name));
    // Half an hour ahead of the rest.
    cluster.set_clock_offset(a, 1_800_000_000);
    cluster.start_instance(a, &[]);
    cluster.start_instance(b, &[a]);
    cluster.join_network([a, b], NET);
    cluster.settle();
    cluster.create(a, K, "of the one ahead");
    cluster.await_shown(&[b], K, "of the one ahead", SECOND);
    let d = cluster.start_with_seeds("d", &[a, b]);
    cluster.join_network([d], NET);
    cluster.await_shown(&[d], K, "of the one ahead", 5 * SECOND);
    cluster.update(d, K, "of the newcomer");
    cluster.await_shown(&[a, b], K, "of the newcomer", SECOND);
    cluster.assert_promises();
}

#[test]
fn f11_what_one_of_many_missed_is_noticed_soon_though_the_network_is_busy() {
    let mut cluster = Cluster::new(Settings { inspection: None, ..Settings::seeded(211) });
    let peers = cluster.start_many(40);
    cluster.join_network(peers.iter().copied(), NET);
    cluster.settle();
    let missed = cluster.location(peers[39]);
    let rule = cluster.rule(move |message| match message.is_gossip() && message.to == missed {
        true => Verdict::Drop,
        false => Verdict::Pass,
    });
    cluster.create(peers[0], K, "v");
    cluster.run_for(30 * MILLISECOND);
    assert_eq!(cluster.value(peers[39], K), None);
    cluster.remove_rule(rule);
    // Others go on writing all the time.
    for number in 0..50 {
        cluster.create(peers[number % 39], Key::new(NET, "busy", &format!("key {number}")), "v");
        cluster.run_for(20 * MILLISECOND);
    }
    assert!(cluster.shows(peers[39], K, "v"));
    cluster.await_agreement(NET, 5 * SECOND);
    cluster.assert_promises();
}

#[test]
fn f12_coalesced_writes_do_not_look_like_holes() {
    let (mut cluster, [a, b, c]) = cluster(212, ["a", "b", "c"]);
    let pulls = |cluster: &Cluster| {
        [a, b, c].iter().map(|peer| cluster.machine(*peer).replica().counters().pulls).sum::<u64>()
    };
    let before = pulls(&cluster);
    cluster.create(a, K, "0");
    for number in 1..200 {
        cluster.update(a, K, number.to_string());
    }
    cluster.await_shown(&[b, c], K, "199", 100 * MILLISECOND);
    cluster.run_for(10 * SECOND);
    assert_eq!(pulls(&cluster), before, "nothing was missing");
    cluster.assert_promises();
}

#[test]
fn f13_an_overwritten_value_stays_away_though_the_overwriter_left_at_once() {
    let (mut cluster, [a, b, c]) = cluster(213, ["a", "b", "c"]);
    let hold = cluster.on_tables(a, c, Verdict::Hold);
    cluster.create(a, K, "overwritten");
    cluster.await_shown(&[b], K, "overwritten", SECOND);
    let late = cluster.take_held();
    cluster.remove_rule(hold);
    let rules = cluster.isolate_tables(c, &[a]);
    cluster.update(b, K, "overwrites");
    cluster.await_shown(&[a, c], K, "overwrites", SECOND);
    // C has the overwriting write only; its final sync, which would bring more, does not reach it.
    let place = cluster.location(c);
    let no_streams = cluster.rule(move |message| {
        let of_c = message.from == place || message.to == place;
        match of_c && message.kind == MessageKind::Frame && message.is_for_tables() {
            true => Verdict::Drop,
            false => Verdict::Pass,
        }
    });
    cluster.leave_network([b], NET);
    cluster.await_absent(&[a, c], K, 5 * SECOND);
    for datagram in &late {
        cluster.deliver(datagram);
    }
    cluster.run_for(SECOND);
    assert_eq!(cluster.value(c, K), None, "the overwritten value is dead");
    cluster.remove_rule(no_streams);
    cluster.remove_rules(rules);
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.shown_so_far(c, K), some(&["overwrites", ""]));
    cluster.assert_promises();
}

#[test]
fn f14_a_generation_used_twice_is_replaced_by_a_higher_one() {
    // The two instances use the same dots, which the ledger cannot distinguish: the state is not checked.
    let settings = Settings { inspection: None, ..Settings::seeded(214) };
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    let generation = cluster.id(a).generation;
    let first = Key::new(NET, "services", "of the first boot");
    cluster.create(a, first, "v");
    cluster.create(a, Key::new(NET, "services", "another"), "v");
    cluster.await_agreement(NET, SECOND);
    cluster.crash(a);
    // The clock was set back, and the same microsecond comes again.
    cluster.start_instance_as(a, generation, &[b, c]);
    cluster.join_network([a], NET);
    cluster.create(a, K, "of the second boot");
    cluster.await_shown(&[b, c], K, "of the second boot", 15 * SECOND);
    cluster.await_absent(&[a, b, c], first, 15 * SECOND);
    assert!(cluster.id(a).generation > generation);
    cluster.await_members(&[a, b, c], 15 * SECOND);
    assert_eq!(cluster.visible(b, NET).len(), 1);
}

#[test]
fn f15_who_leaves_kills_nothing_that_others_wrote() {
    let (mut cluster, [a, b, c]) = cluster(215, ["a", "b", "c"]);
    cluster.create(a, K, "of a");
    cluster.await_agreement(NET, SECOND);
    // A leaves before it hears that B has taken the entry over.
    let rules = cluster.isolate_tables(a, &[b, c]);
    cluster.update(b, K, "of b");
    cluster.leave_network([a], NET);
    cluster.run_for(5 * SECOND);
    cluster.remove_rules(rules);
    cluster.run_for(40 * SECOND);
    assert!(cluster.shows(b, K, "of b") && cluster.shows(c, K, "of b"));
    assert_eq!(cluster.shown_so_far(c, K), some(&["of a", "of b"]));
    cluster.assert_promises();
}

#[test]
fn f16_the_news_of_a_death_is_let_in_though_the_owner_has_failed() {
    let (mut cluster, [a, b, c]) = cluster(216, ["a", "b", "c"]);
    cluster.create(a, K, "v");
    cluster.await_agreement(NET, SECOND);
    let hold = cluster.on_tables(c, b, Verdict::Hold);
    cluster.delete(c, K);
    cluster.run_for(10 * MILLISECOND);
    let death = cluster.take_held();
    assert!(!death.is_empty());
    cluster.remove_rule(hold);
    let rules = cluster.isolate_tables(b, &[a, c]);
    cluster.partition(&[&[a], &[b, c]]);
    cluster.run_until("A has failed", 60 * SECOND, |cluster| cluster.state_of(b, a) == Some(State::Failed));
    for datagram in &death {
        cluster.deliver(datagram);
    }
    cluster.run_for(10 * MILLISECOND);
    cluster.remove_rules(rules);
    cluster.heal();
    cluster.await_members(&[a, b, c], 30 * SECOND);
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.shown_so_far(b, K), some(&["v", ""]), "it is not shown when A returns");
    assert_eq!(cluster.value(a, K), None);
    cluster.assert_promises();
}

#[test]
fn f17_of_two_epochs_of_one_life_the_later_counts() {
    let settings = Settings::seeded(217);
    let (mut cluster, [a, b, c]) = Cluster::settled(settings, ["a", "b", "c"], NET);
    cluster.create(a, K, "first epoch");
    cluster.await_agreement(NET, SECOND);
    cluster.set_links(Link { latency: Latency::Uniform(MILLISECOND, 50 * MILLISECOND), ..Link::default() });
    let rules = cluster.isolate_tables(c, &[a, b]);
    for epoch in 2..=4 {
        cluster.leave_network([a], NET);
        cluster.run_until("A has left", 5 * SECOND, |cluster| cluster.inspect(a, NET).is_none());
        cluster.join_network([a], NET);
        cluster.create(a, K, format!("epoch {epoch}"));
        cluster.await_shown(&[b], K, &format!("epoch {epoch}"), 5 * SECOND);
    }
    cluster.remove_rules(rules);
    cluster.await_shown(&[c], K, "epoch 4", 10 * SECOND);
    cluster.await_agreement(NET, 10 * SECOND);
    cluster.run_for(40 * SECOND);
    assert_eq!(cluster.shown_so_far(c, K).last(), Some(&Some("epoch 4".to_owned())));
    assert_eq!(
        cluster.shown_so_far(c, K).iter().flatten().filter(|value| *value == "first epoch").count(),
        1
    );
    cluster.assert_promises();
}
