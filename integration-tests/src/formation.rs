//! How a cluster forms of nodes that all start at once, and what that costs.
//!
//! [`Processes`] are real ones of the real binary, on loopback addresses, told of one seed; [`in_one_process`] runs all nodes
//! in this one. The clock runs from the last start until everybody holds everybody alive. What a processor did for it says
//! more on a busy machine than the clock does.

mod processes;
mod simulated;

use std::time::Duration;

use node::{Node, NodeConfig};
use transport::KeySet;
use wire::NodeName;

pub use processes::Processes;
pub use simulated::{Simulated, production, simulate};

use crate::hosts::Failure;

/// How often it is looked whether those that were not complete are now.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What came of a start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Formation {
    /// How many nodes.
    pub nodes: usize,
    /// From the first start to the last.
    pub starting: Duration,
    /// From the last start until everybody held everybody alive; `None` if that was not so in time.
    pub formed: Option<Duration>,
    /// How many nodes were not complete when it was given up.
    pub incomplete: usize,
    /// What processors did from the first start on, for all nodes.
    pub processor: Duration,
    /// Of all nodes.
    pub handshakes: Handshakes,
    /// How many processes wanted to run at the end, as the system tells it.
    pub load: f64,
}

/// What came of handshakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Dials begun.
    pub started: u64,
    /// Dials that led to a connection.
    pub succeeded: u64,
    /// Dials without an answer in time.
    pub unanswered: u64,
    /// Handshakes that peers began and did not finish in time.
    pub unfinished: u64,
}

impl std::ops::AddAssign for Handshakes {
    fn add_assign(&mut self, other: Self) {
        self.started += other.started;
        self.succeeded += other.succeeded;
        self.unanswered += other.unanswered;
        self.unfinished += other.unfinished;
    }
}

/// Starts `count` nodes in this process, and waits until they have formed a cluster.
///
/// # Errors
/// If a node cannot start.
pub async fn in_one_process(count: usize, deadline: Duration) -> Result<Formation, Failure> {
    let before = processes::processor_time("self")?;
    #[expect(clippy::disallowed_methods, reason = "this measures real time")]
    let now = std::time::Instant::now;
    let begun = now();
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..count {
        let name = NodeName::new(&format!("n{number}")).map_err(|error| error.to_string())?;
        let bind = "127.0.0.1:0".parse().map_err(|_| "no loopback address".to_owned())?;
        let mut config = NodeConfig::new(name, bind, KeySet::development());
        config.seeds = nodes.first().map(|seed| seed.local_address().to_string()).into_iter().collect();
        nodes.push(Node::start(config).await.map_err(|error| error.to_string())?);
    }
    let started = now();
    let mut waiting = 0;
    let formed = loop {
        let complete = |node: &Node| {
            node.members().iter().filter(|member| member.state == membership::State::Alive).count() == count
        };
        waiting =
            nodes[waiting..].iter().position(|node| !complete(node)).map_or(count, |ahead| waiting + ahead);
        if waiting == count {
            // Those that were complete first must be so still.
            waiting = nodes.iter().position(|node| !complete(node)).unwrap_or(count);
        }
        if waiting == count {
            break Some(started.elapsed());
        }
        if started.elapsed() >= deadline {
            break None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let processor = processes::processor_time("self")?.saturating_sub(before);
    let incomplete = match formed {
        Some(_) => 0,
        None => count - waiting,
    };
    let mut handshakes = Handshakes::default();
    for node in &nodes {
        let statistics = node.transport().statistics();
        handshakes += Handshakes {
            started: statistics.dials_started,
            succeeded: statistics.dials_succeeded,
            unanswered: statistics.dials_unanswered,
            unfinished: statistics.handshakes_unfinished,
        };
    }
    for node in &nodes {
        node.abort();
    }
    let (starting, load) = (started - begun, processes::load());
    Ok(Formation { nodes: count, starting, formed, incomplete, processor, handshakes, load })
}
