//! Faults of packets on the bridge: rules of nftables, and token buckets on its ports.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The rate of a slow link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bits a second.
    pub bits_per_second: u64,
    /// How long packets wait in the queue before it is full, in milliseconds.
    pub queue_ms: u64,
}

/// The faults of packets between hosts, which are numbered from 0. None by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// Packets of the first group to the second are dropped. Two such make a partition.
    pub cuts: Vec<(BTreeSet<usize>, BTreeSet<usize>)>,
    /// The percentage of packets dropped, of all hosts.
    pub loss_percent: u32,
}

impl Faults {
    /// No packets pass between two groups.
    pub fn partition(one: &[usize], other: &[usize]) -> Self {
        let (one, other): (BTreeSet<_>, BTreeSet<_>) =
            (one.iter().copied().collect(), other.iter().copied().collect());
        Self { cuts: vec![(one.clone(), other.clone()), (other, one)], loss_percent: 0 }
    }

    /// No packets pass from the first group to the second; in the other direction they do.
    pub fn one_way(from: &[usize], to: &[usize]) -> Self {
        let cut = (from.iter().copied().collect(), to.iter().copied().collect());
        Self { cuts: vec![cut], loss_percent: 0 }
    }

    /// This percentage of packets is lost, from all senders.
    pub fn loss(percent: u32) -> Self {
        Self { cuts: Vec::new(), loss_percent: percent }
    }

    /// The rules as `nft -f` reads them. The former ones are replaced in one step.
    pub(super) fn ruleset(&self) -> String {
        let ports = |group: &BTreeSet<usize>| {
            let names: Vec<_> = group.iter().map(|host| format!("\"{}\"", port(*host))).collect();
            format!("{{ {} }}", names.join(", "))
        };
        let mut text = String::from("table bridge faults\ndelete table bridge faults\n");
        text.push_str("table bridge faults {\n  chain forward {\n    type filter hook forward priority 0;\n");
        for (from, to) in &self.cuts {
            let (from, to) = (ports(from), ports(to));
            let _ = writeln!(text, "    iifname {from} oifname {to} counter drop");
        }
        if self.loss_percent > 0 {
            // Loss is meant for QUIC; without ARP there would be no packets to lose.
            let percent = self.loss_percent;
            let _ = writeln!(
                text,
                "    ether type ip meta l4proto udp numgen random mod 100 < {percent} counter drop"
            );
        }
        text.push_str("  }\n}\n");
        text
    }
}

/// The bridge's port to a host.
pub(super) fn port(host: usize) -> String {
    format!("p{}", host + 1)
}

/// How many packets the rules have dropped, from what `nft list` prints.
pub(super) fn dropped(listed: &str) -> u64 {
    let counts = listed.lines().filter_map(|line| {
        line.split_once("counter packets ")?.1.split_whitespace().next()?.parse::<u64>().ok()
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_cut_both_ways_and_loss_spares_arp() {
        let rules = Faults::partition(&[0, 1], &[2]).ruleset();
        assert!(rules.contains(r#"iifname { "p1", "p2" } oifname { "p3" } counter drop"#), "{rules}");
        assert!(rules.contains(r#"iifname { "p3" } oifname { "p1", "p2" } counter drop"#), "{rules}");
        let rules = Faults::loss(20).ruleset();
        assert!(rules.contains("l4proto udp numgen random mod 100 < 20 counter drop"), "{rules}");
    }

    #[test]
    fn counts_of_all_rules_are_added() {
        let listed = "iifname \"p1\" counter packets 12 bytes 900 drop\n  x counter packets 3 bytes 1 drop\n";
        assert_eq!(dropped(listed), 15);
    }
}
