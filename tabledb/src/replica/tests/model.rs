//! Random histories of a few replicas against the promises of ALGORITHM.md.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Put(usize, u8),
    Delete(usize, u8),
    Cut(usize, usize),
    Heal,
    Lossy(bool),
    Fail(usize, usize),
    Return(usize, usize),
    Leave(usize),
    Join(usize),
    Digests,
    Run(u64),
}

pub(super) fn step(nodes: usize) -> impl Strategy<Value = Step> {
    let node = 0..nodes;
    prop_oneof![
        6 => (node.clone(), 0u8..4).prop_map(|(at, key)| Step::Put(at, key)),
        3 => (node.clone(), 0u8..4).prop_map(|(at, key)| Step::Delete(at, key)),
        2 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Cut(a, b)),
        1 => Just(Step::Heal),
        1 => any::<bool>().prop_map(Step::Lossy),
        1 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Fail(a, b)),
        2 => (node.clone(), node.clone()).prop_map(|(a, b)| Step::Return(a, b)),
        1 => node.clone().prop_map(Step::Leave),
        2 => node.prop_map(Step::Join),
        2 => Just(Step::Digests),
        // Short runs, and one that outlasts every tombstone.
        4 => (0u64..3000).prop_map(Step::Run),
        1 => Just(Step::Run(70_000)),
    ]
}

/// An entry that a node held and knows to be superseded must not be shown again.
pub(super) fn take(cluster: &mut Cluster, step: &Step, serial: &mut u64) {
    let now = cluster.now;
    match *step {
        Step::Put(at, key) => {
            *serial += 1;
            let (key, value) = (format!("k{key}"), format!("v{serial}"));
            let replica = &mut cluster.replicas[at];
            if replica.update(NET, TABLE, &key, value.as_bytes(), now).is_err() {
                let _ = replica.create(NET, TABLE, &key, value.as_bytes(), now);
            }
        }
        Step::Delete(at, key) => {
            let _ = cluster.replicas[at].delete(NET, TABLE, &format!("k{key}"), now);
        }
        Step::Cut(a, b) if a != b => cluster.part(a, b),
        Step::Cut(..) => {}
        Step::Heal => cluster.heal(),
        Step::Lossy(lossy) => cluster.lose_datagrams = lossy,
        Step::Fail(a, b) if a != b => cluster.failed(a, b),
        Step::Fail(..) => {}
        Step::Return(a, b) if a != b => cluster.alive(a, b),
        Step::Return(..) => {}
        Step::Leave(at) => {
            let _ = cluster.replicas[at].leave_network(NET, now);
        }
        Step::Join(at) => {
            let _ = cluster.replicas[at].join_network(NET, now);
        }
        Step::Digests => cluster.exchange_digests(),
        Step::Run(ms) => cluster.run(Duration::from_millis(ms)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn histories_converge_and_nothing_superseded_comes_back(steps in proptest::collection::vec(step(4), 1..60)) {
        let mut cluster = Cluster::strangers(4, |config| config.reap_time = Duration::from_secs(20));
        for at in 0..4 {
            cluster.join(at);
        }
        cluster.settle();
        let mut serial = 0;
        // Every value is written once, so a value that was seen and superseded must stay away: values
        // identify dots.
        let mut gone: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 4];
        let mut held: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 4];
        for step in &steps {
            take(&mut cluster, step, &mut serial);
            for at in 0..4 {
                // A hidden entry is not superseded; a dropped one is.
                let Some(inspected) = cluster.replicas[at].inspect(NET, cluster.now) else {
                    held[at].clear();
                    gone[at].clear();
                    continue;
                };
                let present: BTreeSet<String> = inspected
                    .entries
                    .values()
                    .filter_map(|entry| entry.value.as_ref())
                    .map(|value| String::from_utf8_lossy(value).into_owned())
                    .collect();
                let dropped: Vec<String> = held[at].difference(&present).cloned().collect();
                gone[at].extend(dropped);
                prop_assert!(gone[at].is_disjoint(&present), "n{at} shows again what it saw superseded: {present:?}");
                held[at] = present;
            }
        }
        cluster.heal();
        cluster.lose_datagrams = false;
        for a in 0..4 {
            for b in (0..4).filter(|&b| b != a) {
                cluster.alive(a, b);
            }
        }
        cluster.probe_for(Duration::from_secs(15));
        cluster.assert_agreement();
        for at in 0..4 {
            prop_assert_eq!(cluster.replicas[at].statistics(NET).map_or(0, |s| s.hidden), 0);
        }
    }
}
