//! Waiting for conditions on real nodes: tests wait for a condition, not for a time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Limit for all waits; far more than any of them needs, also on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a condition is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Waits until `condition` holds; false if it does not within [`TIMEOUT`].
pub async fn becomes_true(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL_INTERVAL).await;
    }
}
