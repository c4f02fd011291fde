//! Measurements on all processors. The results do not depend on the number of processors.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Does all jobs, the first ones first, each on one processor; returns the results in the order of
/// the jobs.
///
/// # Panics
///
/// If a job does.
pub fn do_all<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let results = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let result = work(job);
                    results.lock().expect("no thread panics while it holds this").insert(index, result);
                }
            });
        }
    });
    results.into_inner().expect("all threads have ended").into_values().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let jobs: Vec<u64> = (0..100).collect();
        assert_eq!(super::do_all(&jobs, |job| job * 2), (0..100).map(|job| job * 2).collect::<Vec<_>>());
    }
}
