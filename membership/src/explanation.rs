//! What a node knows of a member: when it last answered, and who accused it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::{NodeId, NodeName};

use crate::State;

/// What a node knows of a member. Times are ages by the clock of that node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberExplanation {
    /// The known instance.
    pub id: NodeId,
    /// Its address.
    pub address: SocketAddr,
    /// How often the instance refuted a claim or changed its record.
    pub incarnation: u64,
    /// Its state.
    pub state: State,
    /// The time since it entered that state.
    pub state_age: Duration,
    /// The time since something arrived directly from it; `None` if never.
    pub last_seen: Option<Duration>,
    /// Its last answer to a probe of the node; `None` if there was none in this instance.
    pub acknowledged: Option<Acknowledgement>,
    /// The last suspicion of it in this instance; `None` if there was none.
    pub accusation: Option<Accusation>,
}

/// An answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Acknowledgement {
    /// The time since the answer.
    pub age: Duration,
    /// The time from the probe to the answer, with the handshake if there was no connection.
    pub round_trip: Duration,
}

/// A suspicion. The member's state tells how it ended: alive members refuted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Accusation {
    /// The time since it began.
    pub age: Duration,
    /// The first accuser that the node heard of.
    pub accuser: NodeName,
    /// The others, in the order in which the node heard of them; none after those that shorten the suspicion.
    pub confirmed_by: Vec<NodeName>,
    /// Whose claim that the member has failed the node followed: its own name if its own timeout passed. `None`
    /// unless it failed.
    pub failed_by: Option<NodeName>,
    /// The time left for a refutation, while the suspicion lasts.
    pub ends_in: Option<Duration>,
}
