//! What kinds of worlds there are, and what the hard one draws from.

use std::collections::BTreeSet;

use clap::ValueEnum;

/// In which world histories happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Few nodes on two networks, with equal clocks and roomy limits; judged when all is still.
    Old,
    /// Many nodes on up to forty networks, with clocks, limits and retentions that differ; judged from the heal on, while writes go
    /// on.
    Hard,
}

/// One hardship of the hard world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Draw {
    /// Up to forty networks, else up to four.
    Networks,
    /// Wall clocks that are off by less than what a time may be ahead.
    Clocks,
    /// Wall clocks that are hours off, in every third history.
    Liars,
    /// Handshakes that cost processor time, by the policy of dialling, in every other history.
    Handshakes,
    /// Nodes with little room, that refuse what others hold, in every third history.
    Limits,
    /// The departed are kept for a minute.
    Retention,
    /// Deletes on many networks, all of which are left at once.
    Leaving,
    /// Newcomers that say they are ready hold what there was.
    Readiness,
    /// Entries of owners that are back are shown within a second.
    Hidden,
    /// Agreement within five seconds of the heal.
    Agreement,
    /// Nothing is compared for a while and much is lost, at the end of every other history.
    Uncompared,
    /// A machine is set back to an earlier time, and the same life goes on twice, at the end of every fourth history.
    Doubles,
}

impl Draw {
    /// All there is.
    pub fn all() -> BTreeSet<Self> {
        Self::value_variants().iter().copied().collect()
    }
}
