//! Why a watch starts over.

/// Why the caller of a watch has to start over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// Changes that it has not received are no longer kept, or are more than a snapshot is worth.
    TooFarBehind,
    /// This node cannot tell what the caller has: it lacks something that the caller's table was made of, for example
    /// because it started a moment ago.
    UnknownCursor,
    /// The point is of a watch with another filter; one that excludes a node's own entries has another meaning on each
    /// node.
    OtherFilter,
    /// The point is within a snapshot.
    Incomplete,
    /// Writes that the caller has seen have not arrived on this node.
    NodeBehind,
    /// The point does not contain what the caller has: with so many owners it would be too long. It is valid on the
    /// node that issued it.
    TooManyOwners,
}
