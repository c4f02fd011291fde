//! The kinds of worlds, and the draws of the hard one.

use std::collections::BTreeSet;

use clap::ValueEnum;

/// The kind of simulated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Few nodes on two networks, with equal clocks and large limits; checked when the cluster is
    /// quiescent.
    Old,
    /// Many nodes on up to forty networks, with different clocks, limits and retentions; checked
    /// from the heal on, while writes continue.
    Hard,
}

/// A draw of the hard world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Draw {
    /// Up to forty networks, else up to four.
    Networks,
    /// Wall clocks that are wrong by less than the accepted lead of a time.
    Clocks,
    /// Wall clocks that are wrong by hours, in every third history.
    Liars,
    /// Handshakes that cost processor time, with production's dial policy, in every other history.
    Handshakes,
    /// Nodes with small limits, which refuse writes that others accept, in every third history.
    Limits,
    /// Departed nodes are remembered for a minute.
    Retention,
    /// Deletes on many networks, all of which are left at once.
    Leaving,
    /// Newcomers that report that they are ready know all earlier writes.
    Readiness,
    /// Entries of returned owners are shown within a second.
    Hidden,
    /// Agreement within five seconds of the heal.
    Agreement,
    /// No comparisons for a while and much loss, at the end of every other history.
    Uncompared,
    /// A machine is restored from a snapshot, and the same instance runs twice, at the end of every
    /// fourth history.
    Doubles,
}

impl Draw {
    /// All draws.
    pub fn all() -> BTreeSet<Self> {
        Self::value_variants().iter().copied().collect()
    }
}
