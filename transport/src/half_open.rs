//! Half-open handshakes: begun by peers and not complete. Limits their number, and decides which senders
//! must validate their address.
//!
//! An attacker can send Initial packets with a spoofed source address. If they were charged to that
//! address, a few hundred a second would lock out the node that has it. So unvalidated handshakes are
//! counted separately. Beyond their share the sender has to validate its address (QUIC's Retry, RFC
//! 9000, section 8.1.2), for which no state is kept here. A validated handshake is charged to its
//! address.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::Limits;
use crate::socket::host_of;

/// Unvalidated addresses share one part in this many of [`Limits::handshakes`].
const UNVALIDATED_SHARE: usize = 4;

/// The account that a handshake is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    host: IpAddr,
    is_validated: bool,
}

impl Account {
    pub(crate) fn new(address: IpAddr, is_validated: bool) -> Self {
        Self { host: host_of(address), is_validated }
    }
}

/// The result of the admission check for a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Begin it. It is counted until [`HalfOpen::end`].
    Begin,
    /// The sender has to validate its address first.
    Retry,
    /// There are too many in total.
    Full,
    /// There are too many from this address.
    FullForAddress,
}

/// The numbers of half-open handshakes.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    total: usize,
    unvalidated: usize,
    by_account: HashMap<Account, usize>,
}

impl HalfOpen {
    /// Checks the limits, and counts the handshake if it is admitted.
    pub(crate) fn begin(&mut self, limits: &Limits, account: Account) -> Admission {
        if self.total >= limits.handshakes {
            return Admission::Full;
        }
        let of_account = self.by_account.get(&account).copied().unwrap_or_default();
        let account_is_full = of_account >= limits.handshakes_per_address;
        if !account.is_validated
            && (account_is_full || self.unvalidated >= limits.handshakes / UNVALIDATED_SHARE)
        {
            return Admission::Retry;
        }
        if account_is_full {
            return Admission::FullForAddress;
        }
        self.total += 1;
        self.unvalidated += usize::from(!account.is_validated);
        *self.by_account.entry(account).or_default() += 1;
        Admission::Begin
    }

    /// A handshake is complete or has failed.
    pub(crate) fn end(&mut self, account: Account) {
        self.total -= 1;
        self.unvalidated -= usize::from(!account.is_validated);
        if let Some(count) = self.by_account.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.by_account.remove(&account);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn total(&self) -> usize {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(address: &str, is_validated: bool) -> Account {
        Account::new(address.parse().unwrap(), is_validated)
    }

    #[test]
    fn spoofed_handshakes_do_not_use_up_the_quota_of_the_address() {
        let limits = Limits { handshakes: 100, handshakes_per_address: 5, ..Limits::default() };
        let mut half_open = HalfOpen::default();
        let claimed = account("10.0.0.1", false);
        for _ in 0..5 {
            assert_eq!(half_open.begin(&limits, claimed), Admission::Begin);
        }
        for _ in 0..1000 {
            assert_eq!(half_open.begin(&limits, claimed), Admission::Retry);
        }
        let validated = account("10.0.0.1", true);
        for _ in 0..5 {
            assert_eq!(half_open.begin(&limits, validated), Admission::Begin);
        }
        assert_eq!(half_open.begin(&limits, validated), Admission::FullForAddress);
        half_open.end(validated);
        assert_eq!(half_open.begin(&limits, validated), Admission::Begin);
    }

    #[test]
    fn unvalidated_addresses_share_one_quota() {
        let limits = Limits { handshakes: 8, ..Limits::default() };
        let mut half_open = HalfOpen::default();
        for host in 0..2 {
            assert_eq!(half_open.begin(&limits, account(&format!("10.0.0.{host}"), false)), Admission::Begin);
        }
        assert_eq!(half_open.begin(&limits, account("10.0.1.1", false)), Admission::Retry);
        for host in 0..6 {
            assert_eq!(half_open.begin(&limits, account(&format!("10.0.0.{host}"), true)), Admission::Begin);
        }
        assert_eq!(half_open.begin(&limits, account("10.0.1.1", true)), Admission::Full);
        half_open.end(account("10.0.0.0", false));
        half_open.end(account("10.0.0.0", true));
        assert_eq!(half_open.begin(&limits, account("10.0.1.1", false)), Admission::Begin);
        assert_eq!(half_open.total(), 7);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_host() {
        let limits = Limits { handshakes_per_address: 1, ..Limits::default() };
        let mut half_open = HalfOpen::default();
        assert_eq!(half_open.begin(&limits, account("2001:db8::1", true)), Admission::Begin);
        assert_eq!(half_open.begin(&limits, account("2001:db8::2:1", true)), Admission::FullForAddress);
        assert_eq!(half_open.begin(&limits, account("2001:db8:0:1::1", true)), Admission::Begin);
    }
}
