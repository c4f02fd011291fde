//! The clocks of this machine, for calls that take no time as an argument. The replica reads none of them.

use std::time::{Duration, Instant, SystemTime};

#[expect(clippy::disallowed_methods, reason = "the driver reads the clock; the replica is given its time")]
pub(crate) fn monotonic_now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the driver reads the clock; the replica is given its time")]
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
