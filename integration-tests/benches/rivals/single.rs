//! One write in an idle cluster of five, until all four others show it. A watch of ours and a listener of chitchat note
//! the time at which they are called.

use std::time::Duration;

use crate::cluster::{Cluster, QUICK};
use crate::participant::{Failure, Kind, PROMPT};
use crate::report::{Comparison, percentile};
use crate::settings::Settings;

const NODES: usize = 5;
const WRITES: usize = 300;

/// Writes of one side between two turns of the other.
const TURN: usize = 25;

pub(crate) fn measure(settings: &Settings) -> Result<(), Failure> {
    let mut sides = Vec::new();
    for kind in [Kind::Networkdb, Kind::Chitchat] {
        let mut cluster = Cluster::form(kind, NODES, QUICK)?;
        for receiver in &mut cluster.participants[1..] {
            receiver.ask("watch", PROMPT)?;
        }
        sides.push((kind, cluster, Vec::new()));
    }
    let writes = settings.count(WRITES);
    for first in (0..writes).step_by(TURN) {
        for (_, cluster, samples) in &mut sides {
            for number in first..writes.min(first + TURN) {
                // Different pauses, so that the writes fall into all phases of the intervals of gossip.
                std::thread::sleep(Duration::from_millis(20 + (number * 7 % 31) as u64));
                samples.push(write(cluster, number)?.as_secs_f64() * 1e3);
            }
        }
    }
    let title =
        format!("one write in an idle cluster of five, until all four others show it, {writes} writes");
    for (what, fraction) in [("half of them within", 0.5), ("99 % of them within", 0.99)] {
        let mut times = Comparison::new(format!("{title}: {what}"), "ms");
        for (kind, _, samples) in &sides {
            times.add(kind.name(), percentile(samples, fraction).unwrap_or(f64::NAN));
        }
        times.print();
    }
    Ok(())
}

fn write(cluster: &mut Cluster, number: usize) -> Result<Duration, Failure> {
    let begin = cluster.participants[0].ask_time(&format!("write {number} 1"), PROMPT)?;
    let mut end = begin;
    for receiver in &mut cluster.participants[1..] {
        let command = format!("arrival {}", PROMPT.as_millis());
        end = end.max(receiver.ask_time(&command, 2 * PROMPT)?);
    }
    Ok(end - begin)
}
