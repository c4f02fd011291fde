//! How much is measured: everything, or a hundredth to show that it completes.

use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// How often a comparison is repeated that takes seconds.
    pub(crate) rounds: usize,
    part: usize,
}

impl Settings {
    pub(crate) fn whole(rounds: usize) -> Self {
        Self { rounds, part: 1 }
    }

    pub(crate) fn smoke() -> Self {
        Self { rounds: 1, part: 100 }
    }

    pub(crate) fn is_smoke(&self) -> bool {
        self.part > 1
    }

    /// This many entries, watchers or writes, or a part of them.
    pub(crate) fn count(&self, whole: usize) -> usize {
        (whole / self.part).max(1)
    }

    /// This many processes: a cluster of fewer than three is none.
    pub(crate) fn processes(&self, whole: usize) -> usize {
        if self.is_smoke() { (whole / 20).max(3) } else { whole }
    }

    /// This long, or a tenth.
    pub(crate) fn time(&self, whole: Duration) -> Duration {
        if self.is_smoke() { whole / 10 } else { whole }
    }
}
