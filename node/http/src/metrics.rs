//! Metrics in Prometheus' text format (version 0.0.4).

use std::fmt::Write as _;

use tabledb::{NetworkStatistics, WatchStatistics};
use wire::Count;

/// The counters of one part of the node.
pub type Counts = Vec<Count>;

/// The exported metrics.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// The time since the server started, in seconds.
    pub uptime_seconds: f64,
    /// The number of members in each state.
    pub members: Vec<(String, usize)>,
    /// The differences between the clocks of peers and this node's.
    pub clock_skew: tabledb::ClockSkew,
    /// The watches of all tables.
    pub watches: WatchStatistics,
    /// The joined networks, sorted.
    pub networks: Vec<(String, NetworkStatistics)>,
    /// The counters of each part of the node, by the part's name.
    pub parts: Vec<(&'static str, Counts)>,
}

type Measure = (&'static str, &'static str, fn(&NetworkStatistics) -> usize);

const NETWORK_GAUGES: [Measure; 8] = [
    ("networkdb_entries", "Visible entries.", |network| network.entries),
    (
        "networkdb_hidden_entries",
        "Entries hidden because their owner failed or is not synced yet.",
        |network| network.hidden,
    ),
    ("networkdb_tombstones", "Tombstones of deleted entries.", |network| network.tombstones),
    ("networkdb_tables", "Tables, including those without visible entries.", |network| network.tables),
    ("networkdb_bytes", "Bytes of keys and values.", |network| network.bytes),
    ("networkdb_refused_writes", "Entries of other nodes whose latest write is refused here.", |network| {
        network.refused
    }),
    ("networkdb_queue_length", "Updates waiting to be sent.", |network| network.queue_length),
    ("networkdb_network_peers", "Nodes on the network, this one included.", |network| network.peers),
];

impl Metrics {
    /// The exposition.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to memory cannot fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        head(out, "networkdb_uptime_seconds", "gauge", "Time since the HTTP server started.")?;
        writeln!(out, "networkdb_uptime_seconds {}", self.uptime_seconds)?;
        head(out, "networkdb_members", "gauge", "Known members of the cluster by state.")?;
        for (state, count) in &self.members {
            writeln!(out, "networkdb_members{{state=\"{}\"}} {count}", escape(state))?;
        }
        let skew = self.clock_skew;
        let name = "networkdb_clock_skew_seconds";
        head(out, name, "gauge", "The greatest difference between a peer's wall clock and this node's.")?;
        writeln!(out, "{name} {}", skew.largest.as_secs_f64())?;
        let name = "networkdb_clock_skewed_peers";
        head(out, name, "gauge", "Peers whose wall clocks differ by more than a minute.")?;
        writeln!(out, "{name} {}", skew.peers_beyond)?;
        head(out, "networkdb_watches", "gauge", "Open watches of tables, by programs and over HTTP.")?;
        writeln!(out, "networkdb_watches {}", self.watches.watches)?;
        head(out, "networkdb_watch_bytes", "gauge", "Bytes of the changes that wait for watches.")?;
        writeln!(out, "networkdb_watch_bytes {}", self.watches.bytes)?;
        for (name, help, measure) in NETWORK_GAUGES {
            head(out, name, "gauge", help)?;
            for (network, statistics) in &self.networks {
                writeln!(out, "{name}{{network=\"{}\"}} {}", escape(network), measure(statistics))?;
            }
        }
        let name = "networkdb_disagreement_seconds";
        head(
            out,
            name,
            "gauge",
            "Time for which a member is known to hold other entries than this node; 0 for none.",
        )?;
        for (network, statistics) in &self.networks {
            let seconds = statistics.disagreement.as_secs_f64();
            writeln!(out, "{name}{{network=\"{}\"}} {seconds}", escape(network))?;
        }
        for (part, counts) in &self.parts {
            for Count { name, meaning, value } in counts {
                let name = format!("networkdb_{part}_{name}_total");
                head(out, &name, "counter", meaning.trim())?;
                writeln!(out, "{name} {value}")?;
            }
        }
        Ok(())
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_has_prometheus_format() {
        let count = |name, value| Count { name, meaning: " What was counted.", value };
        let mut statistics = NetworkStatistics::default();
        (statistics.entries, statistics.peers) = (3, 2);
        let mut clock_skew = tabledb::ClockSkew::default();
        clock_skew.largest = std::time::Duration::from_millis(7_200_500);
        clock_skew.peers_beyond = 1;
        let mut watches = tabledb::WatchStatistics::default();
        (watches.watches, watches.bytes) = (4, 4096);
        let metrics = Metrics {
            uptime_seconds: 1.5,
            members: vec![("alive".into(), 2), ("failed".into(), 1)],
            clock_skew,
            watches,
            networks: vec![("a \"b\"\\\n".into(), statistics)],
            parts: vec![("transport", vec![count("frames_sent", 9)]), ("http", vec![count("requests", 7)])],
        };
        let text = metrics.text();
        for line in [
            "# TYPE networkdb_members gauge",
            "networkdb_uptime_seconds 1.5",
            "networkdb_clock_skew_seconds 7200.5",
            "networkdb_clock_skewed_peers 1",
            "networkdb_watches 4",
            "networkdb_watch_bytes 4096",
            "networkdb_members{state=\"failed\"} 1",
            "networkdb_entries{network=\"a \\\"b\\\"\\\\\\n\"} 3",
            "# HELP networkdb_http_requests_total What was counted.",
            "networkdb_http_requests_total 7",
            "# TYPE networkdb_transport_frames_sent_total counter",
            "networkdb_transport_frames_sent_total 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with('\n'));
    }
}
