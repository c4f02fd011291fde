//! Counts of all watches.

/// Statistics of the watches of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchStatistics {
    /// Watches that have not been dropped.
    pub watches: usize,
    /// The bytes of the changes that wait for them. A change counts once for all watches with the same filter.
    pub bytes: usize,
}
