//! Patience: conditions are waited for, time is not.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

/// Nothing here takes nearly this long, also on a busy machine, unless it never happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until `condition` holds; false if it does not within [`PATIENCE`].
pub(crate) async fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`PATIENCE`]; the message then says what was waited for, and what `scene` shows instead.
#[track_caller]
pub(crate) fn eventually(
    what: impl Into<String>,
    scene: &impl Display,
    condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let (caller, what) = (Location::caller(), what.into());
    async move {
        let true_in_time = comes_true(condition).await;
        assert!(true_in_time, "{caller}: after {PATIENCE:?} still not so: {what}\n{scene}");
    }
}
