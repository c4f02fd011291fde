//! Waiting for a condition, and saying what was seen instead.

use std::fmt::Display;
use std::panic::Location;

pub(crate) use integration_tests::waiting::{TIMEOUT, becomes_true};

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`TIMEOUT`]; the message then says what was waited for, and what `scene` shows instead.
#[track_caller]
pub(crate) fn eventually(
    what: impl Into<String>,
    scene: &impl Display,
    condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let (caller, what) = (Location::caller(), what.into());
    async move {
        let true_in_time = becomes_true(condition).await;
        assert!(true_in_time, "{caller}: after {TIMEOUT:?} still not so: {what}\n{scene}");
    }
}
