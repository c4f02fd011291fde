//! Whether a node works, and whether its tables can be relied on.

use std::time::Duration;

use tokio::time::timeout;

use crate::handle::Node;

/// Whether the node's driver works: it moves all bytes between the node and its peers, and calls it in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// It completed a turn that it was asked for.
    Alive,
    /// It did not within the limit.
    Stalled,
    /// The node has stopped.
    Stopped,
}

/// Whether a node holds what the members of its networks hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// It was synchronised with another member of every joined network since it joined it, or it is the only
    /// member, and no seed says that there should be others.
    Ready,
    /// It leaves the cluster, or has left it.
    Leaving,
    /// It has seeds, but none of them has answered, and no other member is known.
    NotJoined,
    /// Entries of others may be missing.
    Unsynchronised {
        /// The networks that have not been synchronised with another member yet, sorted.
        networks: Vec<String>,
        /// The number of joined networks.
        joined: usize,
    },
}

impl Node {
    /// Asks the driver for a turn, and waits for it up to `limit`. Takes no lock that the driver takes, so that the
    /// question has an answer when the driver waits for one for ever.
    pub async fn liveness(&self, limit: Duration) -> Liveness {
        if !self.is_driven() {
            return Liveness::Stopped;
        }
        let shared = self.shared();
        // Before the driver is woken, so that this turn is not missed.
        let turned = shared.turned.notified();
        shared.wake.notify_one();
        match timeout(limit, turned).await {
            Ok(()) => Liveness::Alive,
            Err(_) if self.is_driven() => Liveness::Stalled,
            Err(_) => Liveness::Stopped,
        }
    }

    /// Whether the node holds what the members of its networks hold. It stays ready in a partition: that it was
    /// synchronised once is what counts. O(networks). It waits for the locks of the node: ask for
    /// [`Self::liveness`] first.
    ///
    /// A node that is the first of its cluster is ready if it has no seeds, or none but itself.
    pub fn readiness(&self) -> Readiness {
        let shared = self.shared();
        let has_seeds = shared.has_seeds();
        let (leaving, joined_cluster) = {
            let machine = shared.machine.lock();
            (machine.is_leaving(), machine.membership().is_joined())
        };
        let progress = shared.tables.sync_progress();
        if leaving {
            Readiness::Leaving
        } else if !progress.awaiting.is_empty() {
            let joined = progress.synchronised + progress.alone + progress.awaiting.len();
            Readiness::Unsynchronised { networks: progress.awaiting, joined }
        } else if has_seeds && !joined_cluster && (progress.alone > 0 || progress.synchronised == 0) {
            Readiness::NotJoined
        } else {
            Readiness::Ready
        }
    }
}

#[cfg(test)]
mod tests {
    use transport::KeySet;
    use wire::NodeName;

    use super::*;
    use crate::NodeConfig;

    const LONG: Duration = Duration::from_secs(20);

    async fn started(name: &str) -> Node {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let config = NodeConfig::new(NodeName::new(name).unwrap(), loopback, KeySet::development());
        Node::start(config).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_driver_that_waits_for_a_lock_is_stalled_until_it_gets_it() {
        let node = started("stalls").await;
        assert_eq!(node.liveness(LONG).await, Liveness::Alive);
        let (held, release) = std::sync::mpsc::channel::<()>();
        let (locked, is_locked) = tokio::sync::oneshot::channel();
        let holder = node.clone();
        let holding = std::thread::spawn(move || {
            let _machine = holder.shared().machine.lock();
            locked.send(()).unwrap();
            let _ = release.recv();
        });
        is_locked.await.unwrap();
        // A turn in progress may have got past the lock.
        let _ = node.liveness(Duration::from_millis(50)).await;
        assert_eq!(node.liveness(Duration::from_millis(50)).await, Liveness::Stalled);
        drop(held);
        holding.join().unwrap();
        assert_eq!(node.liveness(LONG).await, Liveness::Alive);
        node.abort();
        assert_eq!(node.liveness(LONG).await, Liveness::Stopped);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_with_seeds_is_ready_when_one_answered_or_all_are_itself() {
        let (node, other) = (started("first").await, started("second").await);
        assert_eq!(node.readiness(), Readiness::Ready, "alone by intent");
        let own = node.advertised_address().to_string();
        assert!(node.join(&["127.0.0.1:1".to_owned(), own.clone()]).await.is_err());
        assert_eq!(node.readiness(), Readiness::NotJoined);
        node.join(&[own]).await.unwrap();
        assert_eq!(node.readiness(), Readiness::Ready);
        assert!(node.join(&["127.0.0.1:1".to_owned()]).await.is_err());
        assert_eq!(node.readiness(), Readiness::NotJoined);
        other.join(&[node.advertised_address().to_string()]).await.unwrap();
        assert_eq!((node.readiness(), other.readiness()), (Readiness::Ready, Readiness::Ready));
        node.shutdown(Duration::from_secs(1)).await;
        assert_eq!(node.readiness(), Readiness::Leaving);
        other.abort();
    }
}
