//! The metrics of a node, by the conventions of Prometheus.

use tabledb::{ClockSkew, Latencies, NetworkStatistics, WatchStatistics};
use wire::{Count, Histogram};

use super::exposition::Exposition;
use super::request_durations::Route;

/// The counters of one part of the node.
pub(crate) type Counts = Vec<Count>;

/// The exported metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The time since the server started, in seconds.
    pub(crate) uptime_seconds: f64,
    /// The number of members in each state.
    pub(crate) members: Vec<(String, usize)>,
    /// The differences between the clocks of peers and this node's.
    pub(crate) clock_skew: ClockSkew,
    /// The watches of all tables.
    pub(crate) watches: WatchStatistics,
    /// The joined networks, sorted.
    pub(crate) networks: Vec<(String, NetworkStatistics)>,
    /// How long writes and syncs took.
    pub(crate) latencies: Latencies,
    /// How long requests took, by route and status.
    pub(crate) requests: Vec<((Route, u16), Histogram)>,
    /// The counters of each part of the node, by the part's name.
    pub(crate) parts: Vec<(&'static str, Counts)>,
}

type Measure = (&'static str, &'static str, fn(&NetworkStatistics) -> usize);

const NETWORK_GAUGES: [Measure; 9] = [
    ("networkdb_entries", "Entries that readers see.", |network| network.entries),
    (
        "networkdb_hidden_entries",
        "Entries hidden because their owner failed, or has returned and is not compared yet.",
        |network| network.hidden,
    ),
    ("networkdb_tombstones", "Tombstones of deleted entries.", |network| network.tombstones),
    ("networkdb_tables", "Tables, including those without visible entries.", |network| network.tables),
    ("networkdb_bytes", "Bytes of keys and values.", |network| network.bytes),
    ("networkdb_refused_writes", "Entries of other nodes whose latest write is refused here.", |network| {
        network.refused
    }),
    ("networkdb_queue_length", "Updates waiting to be sent for the first time.", |network| {
        network.queue_length
    }),
    ("networkdb_network_peers", "Alive nodes on the network, this one included.", |network| network.peers),
    (
        "networkdb_synchronised",
        "1 if the network was synchronised with another member since this node joined it, else 0.",
        |network| usize::from(network.synchronised),
    ),
];

impl Metrics {
    /// The exposition.
    pub(crate) fn text(&self) -> String {
        let mut out = Exposition::default();
        self.write_node(&mut out);
        self.write_networks(&mut out);
        self.write_latencies(&mut out);
        for (part, counts) in &self.parts {
            write_counts(&mut out, part, counts);
        }
        out.into_text()
    }

    fn write_node(&self, out: &mut Exposition) {
        let name = "networkdb_build_info";
        out.family(name, "gauge", "1; the labels say what runs.");
        out.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let skew = self.clock_skew;
        for (name, help, value) in [
            ("networkdb_uptime_seconds", "Time since the HTTP server started.", self.uptime_seconds),
            (
                "networkdb_clock_skew_seconds",
                "The greatest difference between a peer's wall clock and this node's, either way.",
                skew.largest.as_secs_f64(),
            ),
            (
                "networkdb_clock_skewed_peers",
                "Peers whose wall clocks differ by more than a minute.",
                skew.peers_beyond as f64,
            ),
            (
                "networkdb_watches",
                "Open watches of tables, by programs and over HTTP.",
                self.watches.watches as f64,
            ),
            (
                "networkdb_watch_bytes",
                "Bytes of the changes that wait for watches.",
                self.watches.bytes as f64,
            ),
        ] {
            out.family(name, "gauge", help);
            out.sample(name, &[], value);
        }
        let name = "networkdb_members";
        out.family(name, "gauge", "Known members of the cluster by state, this node included.");
        for (state, count) in &self.members {
            out.sample(name, &[("state", state)], count);
        }
    }

    fn write_networks(&self, out: &mut Exposition) {
        for (name, help, measure) in NETWORK_GAUGES {
            out.family(name, "gauge", help);
            for (network, statistics) in &self.networks {
                out.sample(name, &[("network", network)], measure(statistics));
            }
        }
        let name = "networkdb_disagreement_seconds";
        out.family(
            name,
            "gauge",
            "Time for which a member is known to hold other entries than this node; 0 for none.",
        );
        for (network, statistics) in &self.networks {
            out.sample(name, &[("network", network)], statistics.disagreement.as_secs_f64());
        }
    }

    fn write_latencies(&self, out: &mut Exposition) {
        let name = "networkdb_propagation_seconds";
        let help = "Time from a write on another node to its arrival on this one, of all writes but those that an \
                    initial sync brings. By the clocks of the two nodes: a writer's clock that is ahead makes it \
                    shorter, at least 0, and one that is behind makes it longer; see networkdb_clock_skew_seconds.";
        out.family(name, "histogram", help);
        out.histogram(name, &[], &self.latencies.propagation);
        let name = "networkdb_full_sync_seconds";
        let help = "Time of full syncs that this node opened and that completed: initial and final ones, and comparisons.";
        out.family(name, "histogram", help);
        out.histogram(name, &[], &self.latencies.full_sync);
        let name = "networkdb_http_request_seconds";
        let help = "Time from the head of a request to the head of its response, refused ones included. Watches and \
                    large responses go on after it. Routes have placeholders for names; unknown paths are other.";
        out.family(name, "histogram", help);
        for ((route, status), durations) in &self.requests {
            let (method, status) = (route.method, status.to_string());
            let labels = [("method", method), ("route", &route.path), ("status", &status)];
            out.histogram(name, &labels, durations);
        }
    }
}

/// Writes the counters of a part. Those of a family follow each other.
fn write_counts(out: &mut Exposition, part: &str, counts: &[Count]) {
    let mut written = None;
    for count in counts {
        let Some((family, variant)) = count.family.zip(count.variant()) else {
            let name = format!("networkdb_{part}_{}_total", count.name);
            out.family(&name, "counter", count.meaning);
            out.sample(&name, &[], count.value);
            continue;
        };
        let name = format!("networkdb_{part}_{}_total", family.name);
        if written.replace(family.name) != Some(family.name) {
            let variants = counts
                .iter()
                .filter(|other| other.family == Some(family))
                .filter_map(|other| Some(format!(" {}: {}", other.variant()?, other.meaning.trim())));
            let help = format!("{} By {}.{}", family.meaning, family.label, variants.collect::<String>());
            out.family(&name, "counter", &help);
        }
        out.sample(&name, &[(family.label, variant)], count.value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::CountFamily;

    use super::*;

    #[test]
    fn the_exposition_has_prometheus_format() {
        let count = |name, value| Count { name, meaning: " What was counted.", family: None, value };
        let refused = CountFamily { name: "refused", meaning: " Who was refused.", label: "reason" };
        let of_family = |name, value| Count { family: Some(refused), ..count(name, value) };
        let mut statistics = NetworkStatistics::default();
        (statistics.entries, statistics.synchronised) = (3, true);
        let mut clock_skew = ClockSkew::default();
        clock_skew.largest = Duration::from_millis(7_200_500);
        clock_skew.peers_beyond = 1;
        let mut watches = WatchStatistics::default();
        (watches.watches, watches.bytes) = (4, 4096);
        let mut latencies = Latencies::default();
        latencies.propagation.add(Duration::from_millis(40));
        latencies.propagation.add(Duration::from_secs(3600));
        let route = Route { path: "/v1/networks/{network}".to_owned(), method: "GET" };
        let metrics = Metrics {
            uptime_seconds: 1.5,
            members: vec![("alive".into(), 2), ("failed".into(), 1)],
            clock_skew,
            watches,
            networks: vec![("a \"b\"\\\n".into(), statistics)],
            requests: vec![((route, 200), latencies.propagation.clone())],
            latencies,
            parts: vec![
                ("transport", vec![count("frames_sent", 9)]),
                ("http", vec![of_family("refused_late", 7), of_family("refused_unknown", 8)]),
            ],
        };
        let text = metrics.text();
        for line in [
            concat!("networkdb_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "# TYPE networkdb_members gauge",
            "networkdb_uptime_seconds 1.5",
            "networkdb_clock_skew_seconds 7200.5",
            "networkdb_clock_skewed_peers 1",
            "networkdb_watches 4",
            "networkdb_watch_bytes 4096",
            "networkdb_members{state=\"failed\"} 1",
            "networkdb_entries{network=\"a \\\"b\\\"\\\\\\n\"} 3",
            "networkdb_synchronised{network=\"a \\\"b\\\"\\\\\\n\"} 1",
            "# TYPE networkdb_propagation_seconds histogram",
            "networkdb_propagation_seconds_bucket{le=\"0.025\"} 0",
            "networkdb_propagation_seconds_bucket{le=\"0.05\"} 1",
            "networkdb_propagation_seconds_bucket{le=\"300\"} 1",
            "networkdb_propagation_seconds_bucket{le=\"+Inf\"} 2",
            "networkdb_propagation_seconds_sum 3600.04",
            "networkdb_propagation_seconds_count 2",
            "networkdb_http_request_seconds_bucket{method=\"GET\",route=\"/v1/networks/{network}\",status=\"200\",le=\"0.05\"} 1",
            "networkdb_http_request_seconds_count{method=\"GET\",route=\"/v1/networks/{network}\",status=\"200\"} 2",
            "# TYPE networkdb_transport_frames_sent_total counter",
            "networkdb_transport_frames_sent_total 9",
            "# HELP networkdb_http_refused_total Who was refused. By reason. late: What was counted. unknown: What was counted.",
            "networkdb_http_refused_total{reason=\"late\"} 7",
            "networkdb_http_refused_total{reason=\"unknown\"} 8",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE networkdb_http_refused_total").count(), 1);
        assert!(text.ends_with('\n'));
    }
}
