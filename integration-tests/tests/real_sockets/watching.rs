//! Watches that follow what other nodes do.

use std::collections::BTreeMap;
use std::panic::Location;

use networkdb::{Node, NodeConfig};
use tabledb::{Change, ChangeKind, Watch, WatchEvent, WatchFilter};

use crate::cluster::{Cluster, NET, TABLE, create, create_many, table};
use crate::waiting::becomes_true;

/// A watch, and the table as it makes it out.
struct Follower {
    watch: Watch,
    seen: BTreeMap<String, String>,
    story: Vec<String>,
}

impl Follower {
    fn of(node: &Node, exclude_own: bool) -> Self {
        let filter = WatchFilter {
            network: Some(NET.to_owned()),
            table: Some(TABLE.to_owned()),
            exclude_own,
            ..WatchFilter::default()
        };
        Self { watch: node.tables().watch(filter), seen: BTreeMap::new(), story: Vec::new() }
    }

    /// Takes everything that has come. Every change must follow from what was seen before.
    #[track_caller]
    fn catch_up(&mut self) {
        while let Some(event) = self.watch.try_next() {
            match event {
                WatchEvent::Lagged => {
                    self.seen.clear();
                    self.story.push("lagged".to_owned());
                }
                WatchEvent::Change(change) => self.apply(&change),
                WatchEvent::Closed => {
                    self.story.push("closed".to_owned());
                    return;
                }
            }
        }
    }

    #[track_caller]
    fn apply(&mut self, change: &Change) {
        let text = |value: &Option<tabledb::Value>| {
            value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let (key, value, previous) = (change.key.to_string(), text(&change.value), text(&change.previous));
        assert_eq!(self.seen.get(&key), previous.as_ref(), "{change:?} does not follow from {:?}", self.seen);
        let kind = match (&previous, &value) {
            (None, Some(_)) => ChangeKind::Create,
            (Some(_), Some(_)) => ChangeKind::Update,
            (Some(_), None) => ChangeKind::Delete,
            (None, None) => panic!("{change:?} changes nothing"),
        };
        assert_eq!(change.kind, kind, "{change:?}");
        let shown = value.as_deref().unwrap_or("-");
        self.story.push(format!("{kind:?} {key} {shown} of {}", change.owner));
        match value {
            Some(value) => self.seen.insert(key, value),
            None => self.seen.remove(&key),
        };
    }

    /// Waits until as many events have arrived as are wanted, which then must be that.
    #[track_caller]
    fn receives<'a>(
        &'a mut self,
        cluster: &'a Cluster,
        wanted: &'a [&'a str],
    ) -> impl Future<Output = ()> + 'a {
        let caller = Location::caller();
        async move {
            becomes_true(|| {
                self.catch_up();
                self.story.len() >= wanted.len()
            })
            .await;
            assert_eq!(self.story, wanted, "{caller}\n{cluster}");
        }
    }

    /// Waits until what was seen is what the node shows, and that is `wanted`.
    #[track_caller]
    fn makes_out<'a>(
        &'a mut self,
        cluster: &'a Cluster,
        wanted: &'a BTreeMap<String, String>,
    ) -> impl Future<Output = ()> + 'a {
        let what = format!("the watch has shown the {} entries wanted", wanted.len());
        cluster.eventually(what, move || {
            self.catch_up();
            self.seen == *wanted
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_what_is_there_and_then_every_change_with_the_value_before() {
    let cluster = Cluster::on_network(&["a", "b", "c"]).await;
    create(cluster.node("a"), "there before", "1");
    cluster.show("there before", Some("1")).await;
    let mut follower = Follower::of(cluster.node("c"), false);
    follower.receives(&cluster, &["Create there before 1 of a"]).await;

    cluster.node("b").tables().update(NET, TABLE, "there before", *b"2").unwrap();
    cluster.show("there before", Some("2")).await;
    cluster.node("a").tables().delete(NET, TABLE, "there before").unwrap();
    cluster.show("there before", None).await;
    create(cluster.node("c"), "own", "");
    let wanted = [
        "Create there before 1 of a",
        "Update there before 2 of b",
        "Delete there before - of b",
        "Create own  of c",
    ];
    follower.receives(&cluster, &wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_leaves_out_own_entries_and_other_tables_if_it_is_told_to() {
    let cluster = Cluster::on_network(&["a", "b"]).await;
    let mut follower = Follower::of(cluster.node("a"), true);
    create(cluster.node("a"), "own", "1");
    cluster.node("b").tables().create(NET, "other table", "k", *b"2").unwrap();
    create(cluster.node("b"), "k", "3");
    cluster.show("own", Some("1")).await;
    cluster.show("k", Some("3")).await;
    follower.receives(&cluster, &["Create k 3 of b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_a_thousand_changes_of_four_writers_without_a_gap() {
    let cluster = Cluster::on_network(&["a", "b", "c", "d"]).await;
    let mut follower = Follower::of(cluster.node("a"), false);
    let mut wanted = BTreeMap::new();
    for (name, node) in cluster.nodes() {
        wanted.append(&mut create_many(node, 250));
        follower.catch_up();
        create(node, &format!("transient {name}"), "");
        node.tables().delete(NET, TABLE, &format!("transient {name}")).unwrap();
    }
    follower.makes_out(&cluster, &wanted).await;
    assert!(!follower.story.iter().any(|received| received == "lagged"), "{cluster}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_fell_behind_is_told_so_and_starts_over() {
    let mut cluster = Cluster::new();
    cluster.start(cluster.config("writer")).await;
    let limits = tabledb::Limits { watch_queue: 16, ..tabledb::Limits::default() };
    cluster.start_joined(NodeConfig { limits, ..cluster.config("watcher") }).await;
    cluster.know_each_other().await;
    cluster.join_network(NET).await;
    let mut follower = Follower::of(cluster.node("watcher"), false);
    let mut wanted = create_many(cluster.node("writer"), 500);
    cluster.show_all(&wanted).await;
    follower.makes_out(&cluster, &wanted).await;
    assert_eq!(
        follower.story.iter().filter(|received| *received == "lagged").count(),
        1,
        "{:?}",
        follower.story
    );
    // From then on it follows as before.
    create(cluster.node("writer"), "later", "1");
    wanted.insert("later".to_owned(), "1".to_owned());
    follower.makes_out(&cluster, &wanted).await;
    assert_eq!(table(cluster.node("watcher")), wanted, "{cluster}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_deletes_when_the_owner_fails_and_creates_when_it_returns() {
    let cluster = Cluster::on_links(&["a", "b", "c"]).await;
    create(cluster.node("c"), "k", "1");
    cluster.show("k", Some("1")).await;
    let mut follower = Follower::of(cluster.node("a"), false);
    cluster.part(&["c"]);
    follower.receives(&cluster, &["Create k 1 of c", "Delete k - of c"]).await;
    cluster.heal();
    follower.receives(&cluster, &["Create k 1 of c", "Delete k - of c", "Create k 1 of c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_tells_its_watchers_of_no_deletes() {
    let mut cluster = Cluster::on_network(&["a", "b"]).await;
    create(cluster.node("a"), "k", "1");
    cluster.show("k", Some("1")).await;
    let mut follower = Follower::of(cluster.node("b"), false);
    follower.receives(&cluster, &["Create k 1 of a"]).await;
    cluster.take("b").shutdown(std::time::Duration::from_secs(5)).await;
    follower.catch_up();
    assert_eq!(follower.story, ["Create k 1 of a", "closed"], "the entry is a's, and a still has it");
}
