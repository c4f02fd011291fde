//! How much memory a target holds.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATED: Cap<System> = Cap::new(System, usize::MAX);

/// Watches what is allocated from now on.
pub(crate) struct Watch(usize);

impl Watch {
    /// More than `most` bytes beyond what is held now are never to be held at a time: asking for them ends the process.
    pub(crate) fn start(most: usize) -> Self {
        let before = ALLOCATED.allocated();
        ALLOCATED.set_limit(before + most).expect("more than is held");
        Self(before)
    }

    /// Panics if more than `most` bytes beyond what was held at the start are held now.
    #[track_caller]
    pub(crate) fn check(&self, most: usize, what: &str) {
        let held = ALLOCATED.allocated().saturating_sub(self.0);
        assert!(held <= most, "{held} bytes are held after {what}; {most} are allowed");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = ALLOCATED.set_limit(usize::MAX);
    }
}
