//! One clock for all processes of a measurement, the processor time of each, and the load of the machine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the machine started: the same in all processes, and never set.
pub(crate) fn now() -> Duration {
    read(ClockId::Monotonic)
}

/// The processor time of this process so far: all threads, user and system. `/proc/PID/stat` has it in hundredths of a
/// second only, which is too coarse for a burst.
pub(crate) fn processor() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The load average of the last minute.
pub(crate) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

/// A point in time or a duration, as participants write it.
pub(crate) fn written(time: Duration) -> String {
    time.as_nanos().to_string()
}
