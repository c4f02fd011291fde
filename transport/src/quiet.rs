//! Keeps logs readable while somebody knocks a thousand times a second.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// At most this often something is said about one address.
const INTERVAL: Duration = Duration::from_secs(1);

/// About more addresses than this nothing is said within one interval.
const MAX_ADDRESSES: usize = 1024;

/// Decides what is worth saying about whom.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: HashMap<SocketAddr, Instant>,
}

impl Quiet {
    /// Whether something may be said about `address` now.
    pub(crate) fn allows(&mut self, address: SocketAddr, now: Instant) -> bool {
        if self.last.len() >= MAX_ADDRESSES {
            self.last.retain(|_, last| now.saturating_duration_since(*last) < INTERVAL);
        }
        let full = self.last.len() >= MAX_ADDRESSES;
        match self.last.get_mut(&address) {
            Some(last) if now.saturating_duration_since(*last) < INTERVAL => false,
            Some(last) => {
                *last = now;
                true
            }
            None if full => false,
            None => {
                self.last.insert(address, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_is_mentioned_once_a_second() {
        let mut quiet = Quiet::default();
        let [one, two] = ["10.0.0.1:7", "10.0.0.2:7"].map(|address| address.parse().unwrap());
        let start = Instant::now();
        assert!(quiet.allows(one, start));
        assert!(!quiet.allows(one, start + INTERVAL / 2));
        assert!(quiet.allows(two, start));
        assert!(quiet.allows(one, start + INTERVAL));
    }

    #[tokio::test]
    async fn many_addresses_do_not_take_more_and_more_memory() {
        let mut quiet = Quiet::default();
        let start = Instant::now();
        let allowed = (0..5000u32)
            .filter(|n| quiet.allows(SocketAddr::new(std::net::Ipv4Addr::from(*n).into(), 7), start))
            .count();
        assert_eq!(allowed, MAX_ADDRESSES);
        assert!(quiet.allows("0.0.15.160:7".parse().unwrap(), start + INTERVAL));
        assert!(quiet.last.len() <= MAX_ADDRESSES);
    }
}
