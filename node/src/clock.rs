//! The only place in this crate where time is taken from the machine; everything below is given it.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic time.
#[expect(clippy::disallowed_methods, reason = "the shell around the machine, which is given its time")]
pub(crate) fn monotonic_now() -> Instant {
    Instant::now()
}

/// The wall time since 1970.
#[expect(clippy::disallowed_methods, reason = "the shell around the machine, which is given its time")]
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
