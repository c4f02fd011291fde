//! The processor time of a thousand writes a second, where each delivery costs the most: little is sent together. The
//! writer wakes up for every write, which is included for both sides; receivers do not look until the last one.

use std::time::Duration;

use crate::cluster::{Cluster, QUICK};
use crate::participant::{Failure, Kind};
use crate::report::Comparison;
use crate::settings::Settings;

const NODES: usize = 5;
const RATE: usize = 1_000;
const TIME: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn measure(settings: &Settings) -> Result<(), Failure> {
    let (rate, time) = (settings.count(RATE), settings.time(TIME));
    let title = format!("{rate} writes a second on one of five: processor time of all five a delivery");
    let mut processors = Comparison::new(title, "µs");
    for _ in 0..settings.rounds {
        for kind in [Kind::Networkdb, Kind::Chitchat] {
            let mut cluster = Cluster::form(kind, NODES, QUICK)?;
            let count = (rate as f64 * time.as_secs_f64()) as usize;
            let before = cluster.processor()?;
            let pace = format!("pace {rate} {}", time.as_millis());
            cluster.participants[0].ask(&pace, 2 * time + TIMEOUT)?;
            cluster.send_hold(count, TIMEOUT)?;
            cluster.held(TIMEOUT)?;
            let used = cluster.processor()? - before;
            processors.add(kind.name(), used.as_secs_f64() * 1e6 / (count * (NODES - 1)) as f64);
        }
    }
    processors.print();
    Ok(())
}
