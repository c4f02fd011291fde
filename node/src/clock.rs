//! The only module of this crate that reads the system's clocks. All other code receives the time as an
//! argument.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic time.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver reads the clocks; the state machine receives the time"
)]
pub(crate) fn monotonic_now() -> Instant {
    Instant::now()
}

/// The wall time since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver reads the clocks; the state machine receives the time"
)]
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
