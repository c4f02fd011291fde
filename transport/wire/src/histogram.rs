//! Histograms of times, for the metrics of all parts.

use std::time::Duration;

/// How many times fell into each of some fixed intervals, and their sum. Adding one costs a search among the bounds:
/// a few nanoseconds.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use networkdb_wire::Histogram;
///
/// const BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];
/// let mut times = Histogram::new(&BOUNDS);
/// times.add(Duration::from_millis(20));
/// times.add(Duration::from_secs(2));
/// let counts: Vec<_> = times.cumulative().map(|(_, count)| count).collect();
/// assert_eq!((counts, times.count()), (vec![0, 1], 2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// By interval. The last one has no upper bound.
    counts: Box<[u64]>,
    sum: Duration,
}

impl Histogram {
    /// An empty histogram. `bounds` ascend; each belongs to the interval below it.
    pub fn new(bounds: &'static [Duration]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1].into(), sum: Duration::ZERO }
    }

    /// Adds a time.
    pub fn add(&mut self, time: Duration) {
        let interval = self.bounds.partition_point(|bound| *bound < time);
        self.counts[interval] += 1;
        self.sum = self.sum.saturating_add(time);
    }

    /// Each bound, and how many times were not longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((*bound, *below))
        })
    }

    /// How many times were added.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_at_a_bound_belongs_below_it_and_none_is_lost() {
        const BOUNDS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];
        let mut times = Histogram::new(&BOUNDS);
        for micros in [0, 1000, 1001, 5000, 5001] {
            times.add(Duration::from_micros(micros));
        }
        times.add(Duration::MAX);
        assert_eq!(times.cumulative().collect::<Vec<_>>(), [(BOUNDS[0], 2), (BOUNDS[1], 4)]);
        assert_eq!((times.count(), times.sum()), (6, Duration::MAX));
    }
}
