//! Why something is not delivered.

use std::fmt;

/// Why something was not delivered, or a connection not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The link lost it.
    Lost,
    /// The link is cut.
    Cut,
    /// It is larger than the link's datagram limit.
    TooLarge,
    /// The link's bandwidth is used up.
    Congested,
    /// No process listens at the address, or the addressed process has ended.
    NoListener,
    /// The process at the address has another name.
    WrongName,
    /// There is no connection yet; one is being dialled.
    NotConnected,
    /// The receiver is paused and its buffer full.
    BufferFull,
    /// The receiver's host is asleep.
    Asleep,
    /// A rule of the scenario dropped it.
    Rule,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::Lost => "lost",
            DropReason::Cut => "link cut",
            DropReason::TooLarge => "larger than the path allows",
            DropReason::Congested => "link congested",
            DropReason::NoListener => "no process there",
            DropReason::WrongName => "another node answers there",
            DropReason::NotConnected => "not connected yet",
            DropReason::BufferFull => "receiver's buffer full",
            DropReason::Asleep => "receiver asleep",
            DropReason::Rule => "dropped by a rule",
        })
    }
}
