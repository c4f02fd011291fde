//! The task that wakes the watchers of a node, so that the one who writes does not.

use tabledb::SleepingWatches;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::machine::NodeMachine;

/// How many watches are woken before other tasks have their turn.
const WOKEN_AT_ONCE: usize = 64;

/// Starts the task. It ends with the database, or when it is aborted: then the thread that makes a change wakes the
/// watches.
pub(crate) fn start(machine: &NodeMachine) -> JoinHandle<()> {
    // Bounded: a watch is in it once at most.
    let (sender, mut receiver) = mpsc::unbounded_channel::<SleepingWatches>();
    machine.set_watch_notifier(move |watches| {
        // Watches that no task receives are woken as they are dropped.
        let _ = sender.send(watches);
    });
    tokio::spawn(async move {
        while let Some(mut watches) = receiver.recv().await {
            while watches.wake(WOKEN_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use tabledb::{WatchEvent, WatchFilter};
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use crate::{KeySet, Node, NodeConfig, NodeName};

    #[tokio::test]
    async fn many_watchers_receive_changes_and_the_end_of_their_node() {
        let bind = (IpAddr::from(Ipv4Addr::LOCALHOST), 0).into();
        let name = NodeName::new("watched").unwrap();
        let node = Node::start(NodeConfig::new(name, bind, KeySet::development())).await.unwrap();
        node.join_network("net").await.unwrap();
        let mut watchers = JoinSet::new();
        for _ in 0..200 {
            let mut watch = node.tables().watch(WatchFilter::default());
            watchers.spawn(async move {
                assert!(matches!(watch.recv().await, WatchEvent::Change(_)));
                watch.recv().await
            });
        }
        // So that all of them sleep: the executor polls a few dozen tasks each time.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        node.tables().create("net", "t", "k", *b"v").unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        drop(node);
        let events = timeout(Duration::from_secs(20), watchers.join_all()).await.expect("one still sleeps");
        assert!(events.iter().all(|event| *event == WatchEvent::Closed));
    }
}
