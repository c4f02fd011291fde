//! Permits: so many in all, and no more than a share of them for one caller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who asks, as far as sharing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// A host, by its address; of IPv6, a /64, in which one host may have as many addresses as it likes.
    Host(IpAddr),
    /// The node's own user, over the Unix socket.
    Owner,
}

impl Caller {
    /// Who is at `address`.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Host(transport::host_of(address))
    }
}

/// What of `all` one caller may have: three quarters, so that there is something left for the others.
pub(super) fn share(all: usize) -> usize {
    (all - all / 4).max(1)
}

/// Permits that are handed out and come back: for work that is under way, or for bytes that are held.
#[derive(Debug)]
pub(super) struct Permits {
    in_all: usize,
    of_a_caller: usize,
    taken: Mutex<Taken>,
    given_back: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_caller: BTreeMap<Caller, usize>,
}

/// One or more permits of one caller, back when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    caller: Caller,
    count: usize,
}

impl Permits {
    /// `in_all` for everybody, `of_a_caller` for each.
    pub(super) fn new(in_all: usize, of_a_caller: usize) -> Arc<Self> {
        Arc::new(Self { in_all, of_a_caller, taken: Mutex::default(), given_back: Notify::new() })
    }

    /// `in_all` for everybody, three quarters of them for each.
    pub(super) fn shared(in_all: usize) -> Arc<Self> {
        Self::new(in_all, share(in_all))
    }

    /// A permit for `caller`, if there is one.
    pub(super) fn take(self: &Arc<Self>, caller: Caller) -> Option<Permit> {
        self.take_of(caller, self.of_a_caller, 1)
    }

    /// `count` permits for `caller`, who may have up to `share`.
    pub(super) fn take_of(self: &Arc<Self>, caller: Caller, share: usize, count: usize) -> Option<Permit> {
        let mut permit = Permit { permits: self.clone(), caller, count: 0 };
        permit.grow_within(share, count).then_some(permit)
    }

    /// A permit for `caller`, as soon as there is one, if that is within `limit`.
    pub(super) async fn wait(self: &Arc<Self>, caller: Caller, limit: Duration) -> Option<Permit> {
        let waiting = async {
            loop {
                let given_back = self.given_back.notified();
                tokio::pin!(given_back);
                // Before looking: what comes back in between is not missed.
                given_back.as_mut().enable();
                if let Some(permit) = self.take(caller) {
                    return permit;
                }
                given_back.await;
            }
        };
        tokio::time::timeout(limit, waiting).await.ok()
    }
}

impl Permit {
    /// Takes `more` permits to those that are held already; false if there are not so many.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        self.grow_within(self.permits.of_a_caller, more)
    }

    fn grow_within(&mut self, share: usize, more: usize) -> bool {
        let mut taken = self.permits.taken.lock();
        let of_caller = taken.by_caller.get(&self.caller).copied().unwrap_or_default();
        if more == 0 {
            return true;
        }
        if more > self.permits.in_all - taken.count || of_caller + more > share {
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
        self.permits.given_back.notify_waiters();
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
        assert!(permits.taken.lock().by_caller.is_empty(), "what is over is forgotten");
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
    fn this_host_leaves_a_quarter_to_others_too() {
        let permits = Permits::shared(8);
        let taken = (0..8).filter_map(|_| permits.take(at("127.0.0.1"))).collect::<Vec<_>>();
        assert_eq!(taken.len(), 6);
        assert!(permits.take(Caller::Owner).is_some());
        assert_eq!([1, 2, 3, 4, 64].map(share), [1, 2, 3, 3, 48]);
    }

    #[test]
    fn bytes_are_held_until_they_are_given_back() {
        let permits = Permits::new(100, 80);
        let mut mine = permits.take_of(at("10.0.0.1"), 80, 0).unwrap();
        assert!(mine.grow(50) && mine.grow(30));
        assert!(!mine.grow(1), "its share");
        assert!(permits.take_of(at("10.0.0.1"), 0, 0).is_some(), "nothing is always there");
        let mut others = permits.take_of(at("10.0.0.2"), 80, 0).unwrap();
        assert!(!others.grow(21), "all there are");
        assert!(others.grow(20));
        drop(mine);
        assert!(others.grow(60));
        drop(others);
        assert_eq!(permits.taken.lock().count, 0);
    }

    #[tokio::test]
    async fn who_waits_gets_what_comes_back_or_is_told_in_time() {
        let permits = Permits::new(1, 1);
        let held = permits.take(Caller::Owner).unwrap();
        assert!(permits.wait(at("10.0.0.1"), Duration::from_millis(20)).await.is_none());
        let waiting = permits.wait(at("10.0.0.1"), Duration::from_secs(60));
        let giving_back = async {
            tokio::task::yield_now().await;
            drop(held);
        };
        assert!(tokio::join!(waiting, giving_back).0.is_some());
    }
}
