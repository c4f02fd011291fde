//! Permits for concurrent work and for memory: a total, and a maximum for each caller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The client whose permits are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// A host, by its address. For IPv6 it is the /64, because one host can have all addresses in it.
    Host(IpAddr),
    /// The node's own user, over the Unix socket.
    Owner,
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(address) => address.fmt(f),
            Self::Owner => f.write_str("admin socket"),
        }
    }
}

impl Caller {
    /// The caller at `address`.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Host(transport::host_of(address))
    }
}

/// The share of `all` for one caller: three quarters, so that the others get the rest.
pub(super) fn share(all: usize) -> usize {
    (all - all / 4).max(1)
}

/// A pool of permits, for concurrent work or for bytes of memory.
#[derive(Debug)]
pub(super) struct Permits {
    total: usize,
    per_caller: usize,
    taken: Mutex<Taken>,
    released: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_caller: BTreeMap<Caller, usize>,
}

/// Permits of one caller, released when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    caller: Caller,
    count: usize,
}

impl Permits {
    /// A pool of `total` permits, at most `per_caller` for each caller.
    pub(super) fn new(total: usize, per_caller: usize) -> Arc<Self> {
        Arc::new(Self { total, per_caller, taken: Mutex::default(), released: Notify::new() })
    }

    /// A pool of `total` permits, at most three quarters for each caller.
    pub(super) fn shared(total: usize) -> Arc<Self> {
        Self::new(total, share(total))
    }

    /// A permit for `caller`, if one is available.
    pub(super) fn take(self: &Arc<Self>, caller: Caller) -> Option<Permit> {
        self.take_of(caller, self.per_caller, 1)
    }

    /// `count` permits for `caller`, which may have up to `share`.
    pub(super) fn take_of(self: &Arc<Self>, caller: Caller, share: usize, count: usize) -> Option<Permit> {
        let mut permit = Permit { permits: self.clone(), caller, count: 0 };
        permit.grow_within(share, count).then_some(permit)
    }

    /// Waits for a permit for `caller`, up to `limit`.
    pub(super) async fn wait(self: &Arc<Self>, caller: Caller, limit: Duration) -> Option<Permit> {
        let waiting = async {
            loop {
                let released = self.released.notified();
                tokio::pin!(released);
                // Before the check, so that a release in between is not missed.
                released.as_mut().enable();
                if let Some(permit) = self.take(caller) {
                    return permit;
                }
                released.await;
            }
        };
        tokio::time::timeout(limit, waiting).await.ok()
    }
}

impl Permit {
    /// Adds `more` permits; false if they are not available.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        self.grow_within(self.permits.per_caller, more)
    }

    fn grow_within(&mut self, share: usize, more: usize) -> bool {
        let mut taken = self.permits.taken.lock();
        let of_caller = taken.by_caller.get(&self.caller).copied().unwrap_or_default();
        if more == 0 {
            return true;
        }
        if more > self.permits.total - taken.count || of_caller + more > share {
            return false;
        }
        taken.by_caller.insert(self.caller, of_caller + more);
        taken.count += more;
        self.count += more;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut taken = self.permits.taken.lock();
        taken.count -= self.count;
        if let Some(of_caller) = taken.by_caller.get_mut(&self.caller) {
            *of_caller -= self.count;
            if *of_caller == 0 {
                taken.by_caller.remove(&self.caller);
            }
        }
        drop(taken);
        self.permits.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Caller {
        Caller::at(text.parse().unwrap())
    }

    #[test]
    fn one_caller_cannot_take_all_permits() {
        let permits = Permits::new(4, 2);
        let mine = [permits.take(at("10.0.0.1")), permits.take(at("10.0.0.1"))];
        assert!(mine.iter().all(Option::is_some));
        assert!(permits.take(at("10.0.0.1")).is_none());
        assert!(permits.take(at("::ffff:10.0.0.1")).is_none());
        assert!(permits.take(at("10.0.0.2")).is_some());
        drop(mine);
        assert!(permits.take(at("10.0.0.1")).is_some());
        assert!(permits.taken.lock().by_caller.is_empty(), "released callers are removed");
    }

    #[test]
    fn addresses_of_one_network_card_are_one_caller() {
        let permits = Permits::new(4, 1);
        let _first = permits.take(at("2001:db8::1")).unwrap();
        assert!(permits.take(at("2001:db8::2")).is_none());
        assert!(permits.take(at("2001:db8:0:1::2")).is_some());
        assert!(permits.take(Caller::Owner).is_some());
    }

    #[test]
    fn this_host_leaves_a_quarter_to_other_callers() {
        let permits = Permits::shared(8);
        let taken = (0..8).filter_map(|_| permits.take(at("127.0.0.1"))).collect::<Vec<_>>();
        assert_eq!(taken.len(), 6);
        assert!(permits.take(Caller::Owner).is_some());
        assert_eq!([1, 2, 3, 4, 64].map(share), [1, 2, 3, 3, 48]);
    }

    #[test]
    fn bytes_are_held_until_they_are_released() {
        let permits = Permits::new(100, 80);
        let mut mine = permits.take_of(at("10.0.0.1"), 80, 0).unwrap();
        assert!(mine.grow(50) && mine.grow(30));
        assert!(!mine.grow(1), "its share");
        assert!(permits.take_of(at("10.0.0.1"), 0, 0).is_some(), "no bytes are always available");
        let mut others = permits.take_of(at("10.0.0.2"), 80, 0).unwrap();
        assert!(!others.grow(21), "the total");
        assert!(others.grow(20));
        drop(mine);
        assert!(others.grow(60));
        drop(others);
        assert_eq!(permits.taken.lock().count, 0);
    }

    #[tokio::test]
    async fn a_waiting_caller_gets_a_released_permit_or_a_timeout() {
        let permits = Permits::new(1, 1);
        let held = permits.take(Caller::Owner).unwrap();
        assert!(permits.wait(at("10.0.0.1"), Duration::from_millis(20)).await.is_none());
        let waiting = permits.wait(at("10.0.0.1"), Duration::from_secs(60));
        let releasing = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        assert!(tokio::join!(waiting, releasing).0.is_some());
    }
}
