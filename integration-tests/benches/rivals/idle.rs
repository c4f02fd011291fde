//! What nodes send, compute and hold in memory while nothing changes.

use std::time::Duration;

use crate::clock::now;
use crate::cluster::Cluster;
use crate::namespace::{Namespace, Sent};
use crate::participant::{Failure, Kind, Participant};
use crate::report::Comparison;
use crate::settings::Settings;

const ENTRIES: usize = 5;

/// The default of chitchat.
const INTERVAL: Duration = Duration::from_secs(1);

/// For each node, after the cluster has formed and before anything is counted. A node of ours probes a member a second,
/// each once in a round of random order, and connects with it first: all connections are there after two rounds. Until
/// then, handshakes are most of the traffic.
const SETTLING: Duration = Duration::from_millis(2_200);

const WINDOW: Duration = Duration::from_secs(10);
const WINDOWS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn measure(settings: &Settings) -> Result<(), Failure> {
    for count in [25, 100].map(|count| settings.processes(count)) {
        println!("{count} idle nodes, one network of {ENTRIES} entries");
        let mut bytes = Comparison::new("  sent a second and node, with headers", "B");
        let mut packets = Comparison::new("  packets sent a second and node", "packets");
        let mut processors = Comparison::new("  processor time a second and node", "ms");
        let mut memory = Comparison::new("  memory of a process (PSS)", "MiB");
        for kind in [Kind::Networkdb, Kind::Chitchat] {
            let mut cluster = Cluster::form(kind, count, INTERVAL)?;
            cluster.participants[0].ask(&format!("write 0 {ENTRIES}"), TIMEOUT)?;
            cluster.send_hold(ENTRIES, TIMEOUT)?;
            cluster.held(TIMEOUT)?;
            std::thread::sleep(settings.time(SETTLING * count as u32));
            for _ in 0..if settings.is_smoke() { 1 } else { WINDOWS } {
                let (before, processor_before, begin) = (sent(&cluster)?, cluster.processor()?, now());
                std::thread::sleep(settings.time(WINDOW));
                let (after, elapsed) = (sent(&cluster)?, (now() - begin).as_secs_f64());
                let processor = (cluster.processor()? - processor_before).as_secs_f64();
                let share = count as f64 * elapsed;
                processors.add(kind.name(), processor * 1e3 / share);
                if let (Some(before), Some(after)) = (before, after) {
                    bytes.add(kind.name(), (after.bytes - before.bytes) as f64 / share);
                    packets.add(kind.name(), (after.packets - before.packets) as f64 / share);
                }
            }
            let all: u64 = cluster.participants.iter().map(Participant::memory).sum::<Result<_, _>>()?;
            memory.add(kind.name(), all as f64 / count as f64 / f64::from(1 << 20));
        }
        for comparison in [bytes, packets, processors, memory] {
            comparison.print();
        }
    }
    Ok(())
}

fn sent(cluster: &Cluster) -> Result<Option<Sent>, Failure> {
    cluster.namespace.as_ref().map(Namespace::sent).transpose()
}
