//! Limits log lines per address, so that a peer that dials a thousand times a second does not fill the log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two log lines about one address.
const INTERVAL: Duration = Duration::from_secs(1);

/// The most addresses with log lines in one interval.
const MAX_ADDRESSES: usize = 1024;

/// Remembers when each address was last logged.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    last: HashMap<SocketAddr, Instant>,
}

impl LogLimiter {
    /// Whether a line about `address` may be logged now; if so, it counts as logged.
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
    async fn one_address_is_logged_once_a_second() {
        let mut limiter = LogLimiter::default();
        let [one, two] = ["10.0.0.1:7", "10.0.0.2:7"].map(|address| address.parse().unwrap());
        let start = Instant::now();
        assert!(limiter.allows(one, start));
        assert!(!limiter.allows(one, start + INTERVAL / 2));
        assert!(limiter.allows(two, start));
        assert!(limiter.allows(one, start + INTERVAL));
    }

    #[tokio::test]
    async fn memory_is_bounded_however_many_addresses_there_are() {
        let mut limiter = LogLimiter::default();
        let start = Instant::now();
        let allowed = (0..5000u32)
            .filter(|n| limiter.allows(SocketAddr::new(std::net::Ipv4Addr::from(*n).into(), 7), start))
            .count();
        assert_eq!(allowed, MAX_ADDRESSES);
        assert!(limiter.allows("0.0.15.160:7".parse().unwrap(), start + INTERVAL));
        assert!(limiter.last.len() <= MAX_ADDRESSES);
    }
}
