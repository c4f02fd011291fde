//! A client that is moved between replicas.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::model;
use super::*;
use crate::replica::ResumePoint;
use crate::replica::{NotResumed, Resumed, Taken, WatchCursor};
use crate::resumable_watch::Progress;
use crate::watch::Step;
use crate::{ChangeKind, DeleteReason, ResetReason, ResumableEvent, WatchFilter};

/// A connection with a replica.
struct Connection {
    at: usize,
    past: VecDeque<crate::change::RecordedChange>,
    cursor: WatchCursor,
    progress: Progress,
}

/// A client with its table, and the bytes of the point up to which it has received it.
struct Client {
    filter: WatchFilter,
    table: BTreeMap<String, String>,
    kept: Option<Vec<u8>>,
    connection: Option<Connection>,
    resets: Vec<ResetReason>,
    /// How many times it was resumed on another replica than before.
    moved: usize,
}

impl Client {
    fn new(filter: WatchFilter) -> Self {
        Self { filter, table: BTreeMap::new(), kept: None, connection: None, resets: Vec::new(), moved: 0 }
    }

    /// Connects with a replica. False if that has not seen what the client has.
    fn connect(&mut self, cluster: &mut Cluster, at: usize, last_try: bool) -> bool {
        let former = self.connection.take().map(|connection| connection.at);
        let replica = &mut cluster.replicas[at];
        let (resumed, reset) = match &self.kept {
            None => (replica.watch_from_start(&self.filter), None),
            Some(kept) => match replica.resume(&self.filter, &ResumePoint::from_bytes(kept).unwrap()) {
                Ok(resumed) => {
                    self.moved += usize::from(former != Some(at));
                    (resumed, None)
                }
                Err(NotResumed::Behind) if !last_try => return false,
                Err(NotResumed::Behind) => {
                    (replica.watch_from_start(&self.filter), Some(ResetReason::NodeBehind))
                }
                Err(NotResumed::Reset(reason)) => (replica.watch_from_start(&self.filter), Some(reason)),
            },
        };
        let Resumed { from, history, changes, cursor } = resumed;
        let progress = Progress::new(from, history, &self.filter, reset);
        self.connection = Some(Connection { at, past: changes, cursor, progress });
        true
    }

    /// Receives up to `most` events. True if there are no more.
    fn receive(&mut self, cluster: &Cluster, most: usize) -> bool {
        for _ in 0..most {
            let Some(Connection { at, past, cursor, progress }) = &mut self.connection else { return false };
            let replica = &cluster.replicas[*at];
            let step = || loop {
                if let Some(change) = past.pop_front() {
                    break Some(Step::Change(change));
                }
                break match cursor.take() {
                    Taken::Change(change) => Some(Step::Change(std::sync::Arc::unwrap_or_clone(change))),
                    Taken::Present(present) => Some(Step::Present(present)),
                    Taken::Closed => Some(Step::Closed),
                    Taken::Nothing => None,
                    Taken::Unread => {
                        *past = cursor.read(replica, &self.filter);
                        continue;
                    }
                    Taken::Lagged => {
                        cursor.start_over();
                        Some(Step::Lagged)
                    }
                };
            };
            let reset = progress.take_reset();
            let Some(event) = reset.or_else(|| {
                {
                    let mut step = step;
                    step()
                }
                .map(|step| progress.receive(step))
            }) else {
                return true;
            };
            self.kept = Some(progress.point().to_bytes());
            self.apply(event);
        }
        false
    }

    /// Each change fits the table.
    fn apply(&mut self, event: ResumableEvent) {
        let change = match event {
            ResumableEvent::Change(change) => change,
            ResumableEvent::Reset(reason) => {
                self.resets.push(reason);
                return self.table.clear();
            }
            ResumableEvent::Synchronised { .. } | ResumableEvent::Closed => return,
        };
        let text = |value: &crate::Value| String::from_utf8_lossy(value).into_owned();
        let before = self.table.get(&*change.key).cloned();
        if let Some(previous) = &change.previous {
            assert_eq!(Some(text(previous)), before, "the previous value in {change:?}");
        }
        let kind = match (before, &change.value) {
            (None, _) => ChangeKind::Create,
            (Some(_), Some(_)) => ChangeKind::Update,
            (Some(_), None) => ChangeKind::Delete,
        };
        assert_eq!((change.kind, change.reason.is_some()), (kind, kind == ChangeKind::Delete));
        match &change.value {
            Some(value) => self.table.insert(change.key.to_string(), text(value)),
            None => self.table.remove(&*change.key),
        };
    }
}

/// What a client with this filter should have.
fn wanted(cluster: &Cluster, at: usize, filter: &WatchFilter) -> BTreeMap<String, String> {
    let mut shown = cluster.shown(at);
    let owners = cluster.replicas[at].inspect(NET, cluster.now).map(|net| net.entries).unwrap_or_default();
    shown.retain(|key, _| {
        let owner = &owners[&(TABLE.to_owned(), key.clone())].owner.name;
        key.starts_with(&filter.prefix) && filter.owner.as_ref().is_none_or(|wanted| wanted == owner)
    });
    shown
}

fn keep_history(cluster: &mut Cluster) {
    for replica in &mut cluster.replicas {
        replica.start_history();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// Whatever happens, a client that has received everything a replica has for it has that replica's table.
    #[test]
    fn a_client_that_is_moved_has_the_table_of_the_replica_that_it_is_at(
        steps in proptest::collection::vec((model::step(3), 0usize..3, 0usize..6), 1..80),
    ) {
        let mut cluster = Cluster::strangers(3, |config| config.reap_time = Duration::from_secs(20));
        keep_history(&mut cluster);
        for at in 0..3 {
            cluster.join(at);
        }
        cluster.settle();
        let owner = WatchFilter { owner: Some(name(1)), ..WatchFilter::default() };
        let prefix = WatchFilter { prefix: "k1".to_owned(), network: Some(NET.to_owned()), ..WatchFilter::default() };
        let mut clients = [WatchFilter::default(), owner, prefix].map(Client::new);
        let mut serial = 0;
        for (step, at, most) in &steps {
            model::take(&mut cluster, step, &mut serial);
            for client in &mut clients {
                if !client.connect(&mut cluster, *at, false) {
                    continue;
                }
                let most = if *most == 5 { usize::MAX } else { *most };
                if client.receive(&cluster, most) {
                    prop_assert_eq!(&client.table, &wanted(&cluster, *at, &client.filter));
                }
            }
        }
        for client in &mut clients {
            client.connect(&mut cluster, 0, true);
            client.receive(&cluster, usize::MAX);
            prop_assert_eq!(&client.table, &wanted(&cluster, 0, &client.filter));
        }
    }
}

/// Replicas that have been there for long enough resume a client under writes, deletes, failures and returns; but for
/// the client that is moved twice while the entries of an owner come and go.
#[test]
fn a_client_that_is_moved_is_hardly_ever_reset_where_everything_is_known() {
    let (mut moved, mut resets) = (0, 0);
    for seed in 0..20 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut cluster = Cluster::joined(3);
        keep_history(&mut cluster);
        let mut client = Client::new(WatchFilter::default());
        let (mut serial, mut failed, mut is_current) = (0, false, true);
        for _ in 0..150 {
            // The third replica fails and returns. Nobody writes there meanwhile, and it does not learn what was replaced
            // meanwhile: it is asked when the client has received everything from the others.
            let asked = if failed { 2 } else { 3 };
            let (at, key) = (random.random_range(0..asked), random.random_range(0..6));
            let step = match random.random_range(0..10) {
                0..4 => model::Step::Put(at, key),
                4..6 => model::Step::Delete(at, key),
                6 => {
                    failed = !failed;
                    is_current = false;
                    for (a, b) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
                        match failed {
                            true => cluster.failed(a, b),
                            false => cluster.alive(a, b),
                        }
                    }
                    match failed {
                        true => [0, 1].into_iter().for_each(|at| cluster.part(at, 2)),
                        false => cluster.heal(),
                    }
                    // With a comparison if it has returned.
                    model::Step::Run(if failed { 0 } else { 1000 })
                }
                _ => model::Step::Run(random.random_range(0..200)),
            };
            model::take(&mut cluster, &step, &mut serial);
            // So that each write is sent: one that is replaced before has arrived nowhere else.
            cluster.run(Duration::from_millis(6));
            if random.random_range(0..3) == 0 {
                cluster.run(Duration::from_millis(60));
                let at = random.random_range(0..if failed || !is_current { 2 } else { 3 });
                assert!(client.connect(&mut cluster, at, true));
                let most = if random.random() { usize::MAX } else { random.random_range(0..3) };
                if client.receive(&cluster, most) {
                    is_current = !failed;
                    assert_eq!(client.table, cluster.shown(at), "seed {seed}");
                }
            }
        }
        // The first snapshot may have been left in the middle.
        client.resets.retain(|reason| *reason != ResetReason::Incomplete);
        resets += client.resets.len();
        moved += client.moved;
    }
    assert!(moved > 400 && resets * 100 < moved, "{resets} resets in {moved} moves");
}

#[test]
fn the_issuing_replica_repeats_every_change_and_others_send_the_difference() {
    let mut cluster = Cluster::joined(2);
    keep_history(&mut cluster);
    cluster.create(0, "a", "1");
    cluster.create(0, "b", "1");
    cluster.settle();
    let mut client = Client::new(WatchFilter::default());
    client.connect(&mut cluster, 0, false);
    client.receive(&cluster, usize::MAX);
    let kept = client.kept.clone();
    for value in ["2", "3"] {
        cluster.update(0, "a", value);
    }
    cluster.delete(1, "b");
    cluster.settle();
    let mut events = |at: usize| {
        client.kept = kept.clone();
        assert!(client.connect(&mut cluster, at, false));
        let Connection { past, cursor, .. } = client.connection.as_mut().unwrap();
        if let Taken::Unread = cursor.take() {
            *past = cursor.read(&cluster.replicas[at], &WatchFilter::default());
        }
        let mut events: Vec<_> = past
            .iter()
            .map(|recorded| {
                let change = &recorded.change;
                let value = change.value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned());
                (change.key.to_string(), value, change.reason)
            })
            .collect();
        events.sort_unstable_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        events
    };
    let put = |value: &str| ("a".to_owned(), Some(value.to_owned()), None);
    let gone = ("b".to_owned(), None, Some(DeleteReason::Deleted));
    assert_eq!(events(0), [put("2"), put("3"), gone.clone()]);
    assert_eq!(events(1), [put("3"), gone]);
}

/// Two replicas write under one key at the same time, or the value is replaced before it is sent to any other replica.
#[test]
fn a_value_that_only_the_issuing_replica_had_is_replaced() {
    for (is_concurrent, is_deleted) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut cluster = Cluster::joined(2);
        keep_history(&mut cluster);
        let mut client = Client::new(WatchFilter::default());
        client.connect(&mut cluster, 0, false);
        client.receive(&cluster, usize::MAX);
        if is_concurrent && is_deleted {
            cluster.create(1, "k", "0");
            cluster.settle();
            cluster.delete(0, "k");
        } else {
            cluster.create(0, "k", "1");
        }
        client.receive(&cluster, usize::MAX);
        assert_eq!(client.table.len(), usize::from(!(is_concurrent && is_deleted)));
        match (is_concurrent, is_deleted) {
            (true, true) => cluster.update(1, "k", "2"),
            (true, false) => cluster.create(1, "k", "2"),
            (false, false) => cluster.update(0, "k", "2"),
            (false, true) => cluster.delete(0, "k"),
        }
        cluster.settle();
        client.connect(&mut cluster, 1, false);
        client.receive(&cluster, usize::MAX);
        assert_eq!((&client.table, client.resets.len()), (&cluster.shown(1), 0));
    }
}

#[test]
fn a_client_is_reset_where_no_exact_answer_exists() {
    let mut cluster = Cluster::joined(3);
    keep_history(&mut cluster);
    cluster.create(0, "a", "1");
    cluster.settle();
    let mut client = Client::new(WatchFilter::default());
    client.connect(&mut cluster, 0, false);
    client.receive(&cluster, usize::MAX);
    // Another filter.
    client.filter.prefix = "x".to_owned();
    client.connect(&mut cluster, 1, false);
    client.receive(&cluster, usize::MAX);
    client.filter = WatchFilter::default();
    client.connect(&mut cluster, 1, false);
    client.receive(&cluster, usize::MAX);
    assert_eq!(client.resets, [ResetReason::OtherFilter; 2]);
    // Writes that have not arrived.
    cluster.part(1, 0);
    cluster.part(2, 0);
    cluster.create(0, "b", "1");
    cluster.settle();
    assert!(client.connect(&mut cluster, 0, false));
    client.receive(&cluster, usize::MAX);
    assert!(!client.connect(&mut cluster, 1, false));
    cluster.heal();
    cluster.probe_for(Duration::from_secs(5));
    assert!(client.connect(&mut cluster, 1, false));
    client.receive(&cluster, usize::MAX);
    assert_eq!(client.resets.len(), 2);
    // A replica that joined after what the client has was replaced.
    let now = cluster.now;
    cluster.replicas[2].leave_network(NET, now).unwrap();
    cluster.run(Duration::from_secs(5));
    cluster.update(0, "a", "2");
    cluster.settle();
    cluster.replicas[2].node.watchers = crate::replica::watchers::Watchers::default();
    cluster.join(2);
    cluster.settle();
    assert!(client.connect(&mut cluster, 2, false));
    client.receive(&cluster, usize::MAX);
    assert_eq!(client.resets[2..], [ResetReason::UnknownCursor]);
    assert_eq!(client.table, cluster.shown(2));
}

/// Nobody watches the replica meanwhile: it makes no change for each entry of the owner.
#[test]
fn the_history_passes_over_the_failure_of_an_owner_with_more_entries_than_it_keeps() {
    const ENTRIES: usize = 10;
    let mut cluster = Cluster::strangers(3, |config| config.limits.watch_queue = ENTRIES - 1);
    keep_history(&mut cluster);
    (0..3).for_each(|at| cluster.join(at));
    cluster.settle();
    for entry in 0..ENTRIES {
        cluster.create(1, &entry.to_string(), "1");
    }
    cluster.settle();
    let mut client = Client::new(WatchFilter::default());
    client.connect(&mut cluster, 2, false);
    client.receive(&cluster, usize::MAX);
    assert_eq!(client.table.len(), ENTRIES);
    let end = cluster.replicas[0].node.watchers.history().end();
    cluster.failed(0, 1);
    let history = cluster.replicas[0].node.watchers.history();
    assert_eq!((history.end(), history.from(0).count()), (end + ENTRIES as u64, 0));
    assert!(client.connect(&mut cluster, 0, false));
    client.receive(&cluster, usize::MAX);
    assert_eq!((&client.table, client.resets), (&cluster.shown(0), vec![ResetReason::TooFarBehind]));
    assert_eq!(client.table.len(), 0);
}
