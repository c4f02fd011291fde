//! The highest rate of writes on one of five nodes at which deliveries stay close behind.
//!
//! The writer writes what is due every millisecond, and notes when; receivers note every millisecond how many entries
//! they show. The lag of a delivery is the time from the moment of its write until the count has passed it.

use std::time::Duration;

use crate::cluster::{Cluster, QUICK, waiting};
use crate::participant::{Failure, Kind};
use crate::report::{digits, percentile};
use crate::settings::Settings;

const NODES: usize = 5;
const TIME: Duration = Duration::from_secs(5);

/// How long receivers wait for the rest after the last write.
const REST: Duration = Duration::from_secs(10);

const OURS: [usize; 5] = [25_000, 50_000, 75_000, 100_000, 150_000];
const OF_CHITCHAT: [usize; 2] = [1_000, 5_000];

/// The bound of the 99th percentile, in seconds.
const MOST_LAG: f64 = 0.050;

pub(crate) fn measure(settings: &Settings) -> Result<(), Failure> {
    println!("writes for {:?} on one of five nodes; delivery lag, ms", settings.time(TIME));
    let mut highest = [(Kind::Networkdb, 0), (Kind::Chitchat, 0)];
    // A side's rate is the rate at which it stayed below the bound at least once: other load can only add lag.
    for _ in 0..settings.rounds.min(2) {
        for (kind, reached) in &mut highest {
            let rates = if *kind == Kind::Networkdb { &OURS[..] } else { &OF_CHITCHAT[..] };
            for rate in rates.iter().map(|rate| settings.count(*rate)) {
                match run(*kind, rate, settings.time(TIME)) {
                    Ok(lags) if lags.percentile(0.99) < MOST_LAG => {
                        lags.print(*kind, rate);
                        *reached = rate.max(*reached);
                    }
                    Ok(lags) => lags.print(*kind, rate),
                    Err(failure) if *kind == Kind::Chitchat => println!("  {rate} a second: {failure}"),
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
    let [(_, ours), (_, rival)] = highest;
    println!("  highest rate with 99 % within {} ms: networkdb {ours}, chitchat {rival}", MOST_LAG * 1e3);
    if rival > 0 {
        println!("  ours is {} ×", digits(ours as f64 / rival as f64));
    }
    Ok(())
}

/// Pairs of a time and a count, both growing.
type Curve = Vec<(Duration, usize)>;

struct Lags {
    /// Seconds, one for each moment of writing and each receiver; infinite if it never arrived.
    samples: Vec<f64>,
    /// Writes a second that the writer has done.
    rate: f64,
}

impl Lags {
    fn percentile(&self, fraction: f64) -> f64 {
        percentile(&self.samples, fraction).unwrap_or(f64::INFINITY)
    }

    fn print(&self, kind: Kind, rate: usize) {
        let [half, most] = [0.5, 0.99].map(|fraction| digits(self.percentile(fraction) * 1e3));
        println!(
            "  {:<10}{rate:>7} a second: half within {half:>7}, 99 % within {most:>7} (written: {:.0} a second)",
            kind.name(),
            self.rate
        );
    }
}

fn run(kind: Kind, rate: usize, time: Duration) -> Result<Lags, Failure> {
    let mut cluster = Cluster::form(kind, NODES, QUICK)?;
    let count = (rate as f64 * time.as_secs_f64()) as usize;
    let timeout = 2 * time + REST;
    for receiver in &mut cluster.participants[1..] {
        receiver.send(&waiting("sample", count, timeout))?;
    }
    let written =
        curve(&cluster.participants[0].ask(&format!("pace {rate} {}", time.as_millis()), 2 * timeout)?)?;
    let (Some((begin, _)), Some((end, _))) = (written.first(), written.last()) else {
        return Err("nothing was written".to_owned());
    };
    let mut samples = Vec::new();
    for receiver in &mut cluster.participants[1..] {
        let seen = curve(&receiver.answer(2 * timeout)?)?;
        samples.extend(lags(&written, &seen));
    }
    Ok(Lags { samples, rate: count as f64 / (*end - *begin).as_secs_f64() })
}

/// One lag for every moment of writing, by the last of its entries. The moments have about as many entries each.
fn lags(written: &Curve, seen: &Curve) -> Vec<f64> {
    let mut seen = seen.iter().peekable();
    let lag = |(time, count): &(Duration, usize)| {
        while seen.next_if(|(_, shown)| shown < count).is_some() {}
        seen.peek().map_or(f64::INFINITY, |(at, _)| at.saturating_sub(*time).as_secs_f64())
    };
    written.iter().map(lag).collect()
}

fn curve(text: &str) -> Result<Curve, Failure> {
    let pair = |word: &str| {
        let (time, count) = word.split_once(':')?;
        Some((Duration::from_nanos(time.parse().ok()?), count.parse().ok()?))
    };
    text.split_whitespace().map(|word| pair(word).ok_or_else(|| format!("{word} is no pair"))).collect()
}
