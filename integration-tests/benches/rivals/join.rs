//! A newcomer gets all entries of a network; the limit is as many bytes from one process to another.

use std::time::Duration;

use crate::cluster::{Cluster, QUICK, waiting};
use crate::entries::BYTES_AN_ENTRY;
use crate::participant::{Failure, Kind, PROMPT};
use crate::report::Comparison;
use crate::settings::Settings;
use crate::streams::transfer;

/// What takes the rival longer is measured with fewer entries.
const TIMEOUT: Duration = Duration::from_secs(30);

/// From starting the node and joining the cluster on, as chitchat has no networks that could be joined later.
const FROM_START: &str = "networkdb, from its start";

pub(crate) fn measure(settings: &Settings) -> Result<(), Failure> {
    for count in [100_000, 500_000].map(|count| settings.count(count)) {
        let mut times = Comparison::new(format!("join a network of {count} entries"), "ms");
        let mut processors = Comparison::new("  processor time of both sides an entry", "µs");
        let mut ours = Holder::new(Kind::Networkdb, count)?;
        let per_entry = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        for _ in 0..settings.rounds {
            let joined = ours.join()?;
            times.add(Kind::Networkdb.name(), joined.network.as_secs_f64() * 1e3);
            times.add(FROM_START, joined.all.as_secs_f64() * 1e3);
            processors.add(Kind::Networkdb.name(), per_entry(joined.processor));
            for kind in [Kind::Quic, Kind::Tcp] {
                let cost = transfer(kind, 1, count * BYTES_AN_ENTRY)?;
                times.add(kind.name(), cost.time.as_secs_f64() * 1e3);
                processors.add(kind.name(), per_entry(cost.processor));
            }
        }
        drop(ours);
        times.print();
        processors.print();
    }
    let sizes = [100_000, 30_000, 10_000].map(|count| settings.count(count));
    for count in sizes {
        let mut rival = Holder::new(Kind::Chitchat, count)?;
        match rival.join() {
            Ok(joined) => {
                let mut ours = Holder::new(Kind::Networkdb, count)?;
                let mut times = Comparison::new(format!("from start until {count} entries are here"), "ms");
                let mut processors = Comparison::new("  processor time of both sides an entry", "µs");
                let mut add = |name: &str, joined: Joined| {
                    times.add(name, joined.all.as_secs_f64() * 1e3);
                    processors.add(name, joined.processor.as_secs_f64() * 1e6 / count as f64);
                };
                add(Kind::Networkdb.name(), ours.join()?);
                add(Kind::Chitchat.name(), joined);
                for _ in 1..settings.rounds.min(3) {
                    add(Kind::Networkdb.name(), ours.join()?);
                    add(Kind::Chitchat.name(), rival.join()?);
                }
                times.print();
                processors.print();
                break;
            }
            Err(failure) => println!("from start until {count} entries are here: {failure}"),
        }
    }
    Ok(())
}

/// A node that has entries.
struct Holder {
    cluster: Cluster,
    count: usize,
}

struct Joined {
    /// From joining the network on.
    network: Duration,
    /// From starting the node on.
    all: Duration,
    processor: Duration,
}

impl Holder {
    fn new(kind: Kind, count: usize) -> Result<Self, Failure> {
        let mut cluster = Cluster::form(kind, 1, QUICK)?;
        cluster.participants[0].ask(&format!("write 0 {count}"), PROMPT)?;
        Ok(Self { cluster, count })
    }

    /// One newcomer, which is gone afterwards.
    fn join(&mut self) -> Result<Joined, Failure> {
        let before = self.cluster.processor()?;
        let mut newcomer = self.cluster.start_process()?;
        let answer = newcomer.answer(PROMPT)?;
        let begin = answer.split(' ').nth(1).and_then(|time| time.parse().ok()).map(Duration::from_nanos);
        let begin = begin.ok_or_else(|| format!("{answer} has no time"))?;
        let network = newcomer.ask_time("network", TIMEOUT + PROMPT)?;
        let end = newcomer.ask_time(&waiting("hold", self.count, TIMEOUT), TIMEOUT + PROMPT)?;
        let processor = newcomer.processor()? + self.cluster.processor()? - before;
        Ok(Joined { network: end - network, all: end - begin, processor })
    }
}
