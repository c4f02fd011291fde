//! Which networks have been synchronised.

/// How far the initial syncs of the joined networks are. Each network is in one of these groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncProgress {
    /// The number of networks that have been synchronised with another member since they were joined.
    pub synchronised: usize,
    /// The number of networks with which nobody could be synchronised: no other alive node is on them.
    pub alone: usize,
    /// The networks that have to be synchronised with another member first, sorted. Also those of which it is not
    /// known whether they have one: an alive node has not reported its networks yet.
    pub awaiting: Vec<String>,
}
