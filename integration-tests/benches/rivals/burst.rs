//! Many creates on one of five nodes, until all four others have all; the limit is as many bytes from one process to
//! four others.

use std::time::Duration;

use crate::cluster::{Cluster, QUICK};
use crate::entries::BYTES_AN_ENTRY;
use crate::participant::{Failure, Kind};
use crate::report::Comparison;
use crate::settings::Settings;
use crate::streams::{Cost, transfer};

const NODES: usize = 5;

/// Beyond this, a side has no result.
const TIMEOUT: Duration = Duration::from_secs(90);

/// chitchat takes 11 s for a hundred thousand, and a minute and more on a busy machine: that is measured once.
const MOST_REPEATED_OF_CHITCHAT: usize = 10_000;

pub(crate) fn measure(settings: &Settings) -> Result<(), Failure> {
    for count in [10_000, 100_000].map(|count| settings.count(count)) {
        let mut times =
            Comparison::new(format!("{count} creates on one of five, until all four others have all"), "ms");
        let mut processors = Comparison::new("  processor time of all five a delivery", "µs");
        for round in 0..settings.rounds {
            for kind in [Kind::Networkdb, Kind::Quic, Kind::Tcp, Kind::Chitchat] {
                if kind == Kind::Chitchat && round > 0 && count > MOST_REPEATED_OF_CHITCHAT {
                    continue;
                }
                let cost = match kind {
                    Kind::Networkdb | Kind::Chitchat => creates(kind, count),
                    _ => transfer(kind, NODES - 1, count * BYTES_AN_ENTRY),
                };
                match cost {
                    Ok(cost) => {
                        times.add(kind.name(), cost.time.as_secs_f64() * 1e3);
                        let deliveries = (count * (NODES - 1)) as f64;
                        processors.add(kind.name(), cost.processor.as_secs_f64() * 1e6 / deliveries);
                    }
                    Err(failure) if kind == Kind::Chitchat => times.note(kind.name(), failure),
                    Err(failure) => return Err(failure),
                }
            }
        }
        times.print();
        processors.print();
    }
    Ok(())
}

fn creates(kind: Kind, count: usize) -> Result<Cost, Failure> {
    let mut cluster = Cluster::form(kind, NODES, QUICK)?;
    let before = cluster.processor()?;
    cluster.send_hold(count, TIMEOUT)?;
    let begin = cluster.participants[0].ask_time(&format!("write 0 {count}"), TIMEOUT)?;
    let end = cluster.held(TIMEOUT)?;
    Ok(Cost { time: end - begin, processor: cluster.processor()? - before })
}
