//! Places for connections: so many in all, and so many for one other host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Places that are handed out and come back.
#[derive(Debug)]
pub(super) struct Places {
    in_all: usize,
    of_a_host: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_host: BTreeMap<IpAddr, usize>,
}

/// A place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    host: IpAddr,
}

impl Places {
    /// `in_all` for everybody, `of_a_host` for one host that is not this one.
    pub(super) fn new(in_all: usize, of_a_host: usize) -> Arc<Self> {
        Arc::new(Self { in_all, of_a_host, taken: Mutex::default() })
    }

    /// A place for `caller`, if there is one.
    pub(super) fn take(self: &Arc<Self>, caller: IpAddr) -> Option<Place> {
        let host = host_of(caller);
        let mut taken = self.taken.lock();
        if taken.count >= self.in_all {
            return None;
        }
        let of_host = taken.by_host.entry(host).or_default();
        if *of_host >= self.of_a_host && !host.is_loopback() {
            return None;
        }
        *of_host += 1;
        taken.count += 1;
        Some(Place { places: self.clone(), host })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.count -= 1;
        if let Some(of_host) = taken.by_host.get_mut(&self.host) {
            *of_host -= 1;
            if *of_host == 0 {
                taken.by_host.remove(&self.host);
            }
        }
    }
}

/// What counts as one host: of IPv6, a /64, in which a single host may have as many addresses as it likes.
fn host_of(caller: IpAddr) -> IpAddr {
    match caller.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_host_cannot_take_all_places() {
        let places = Places::new(4, 2);
        let mine = [places.take(ip("10.0.0.1")), places.take(ip("10.0.0.1"))];
        assert!(mine.iter().all(Option::is_some));
        assert!(places.take(ip("10.0.0.1")).is_none());
        assert!(places.take(ip("::ffff:10.0.0.1")).is_none());
        assert!(places.take(ip("10.0.0.2")).is_some());
        drop(mine);
        assert!(places.take(ip("10.0.0.1")).is_some());
        assert!(places.taken.lock().by_host.is_empty(), "what is over is forgotten");
    }

    #[test]
    fn addresses_of_one_network_card_are_one_host() {
        let places = Places::new(4, 1);
        let _first = places.take(ip("2001:db8::1")).unwrap();
        assert!(places.take(ip("2001:db8::2")).is_none());
        assert!(places.take(ip("2001:db8:0:1::2")).is_some());
    }

    #[test]
    fn this_host_may_take_all_there_are_and_no_more() {
        let places = Places::new(4, 1);
        let taken = (0..5).map(|_| places.take(ip("127.0.0.1"))).collect::<Vec<_>>();
        assert_eq!(taken.iter().flatten().count(), 4);
        drop(taken);
        let _own = (0..2).map(|_| places.take(ip("::1")).unwrap()).collect::<Vec<_>>();
    }
}
