//! Patience with real nodes: conditions are waited for, time is not.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Nothing that is waited for takes nearly this long, also on a busy machine, unless it never happens.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
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
