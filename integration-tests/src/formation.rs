//! How a cluster forms from nodes that all start at once, and what that costs.
//!
//! [`Processes`] are real processes of the binary, on loopback addresses, with one seed;
//! [`in_one_process`] runs all nodes in this process. The time counts from the last start until
//! every node holds every node alive. Processor time says more on a busy machine than the clock
//! does.

mod handshakes;
mod processes;
mod simulated;

use std::net::SocketAddr;
use std::time::Duration;

use networkdb::{Node, NodeConfig};
use transport::KeySet;
use wire::NodeName;

pub use handshakes::handshake_cost;
pub use processes::Processes;
pub use simulated::{Simulated, production, simulate};

use crate::hosts::Failure;

/// How often incomplete nodes are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The result of a start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Formation {
    /// How many nodes.
    pub nodes: usize,
    /// From the first start to the last.
    pub starting: Duration,
    /// From the last start until every node held every node alive; `None` if the deadline passed
    /// first.
    pub formed: Option<Duration>,
    /// How many nodes were not complete at the deadline.
    pub incomplete: usize,
    /// Processor time of all nodes, from the first start on.
    pub processor: Duration,
    /// Of all nodes.
    pub counted: Counted,
    /// The system's load average at the end.
    pub load: f64,
}

macro_rules! counted {
    ($($(#[$doc:meta])* $part:literal $name:ident,)*) => {
        /// The sum of the counters of all nodes, under the names of their metrics.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counted {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counted {
            /// Adds the counters of one node; `count` finds a counter by the part of the node and
            /// its name.
            fn add(&mut self, count: impl Fn(&str, &str) -> Result<u64, Failure>) -> Result<(), Failure> {
                $(self.$name += count($part, stringify!($name))?;)*
                Ok(())
            }
        }
    };
}

counted! {
    /// Dials begun.
    "transport" dials_started,
    /// Dials that led to a connection.
    "transport" dials_succeeded,
    /// Dials without an answer in time.
    "transport" dials_failed_unanswered,
    /// Dials that one side refused.
    "transport" dials_failed_refused,
    /// Dials refused because too many dials were in progress.
    "transport" dials_failed_capped,
    /// Handshakes of peers that led to a connection.
    "transport" handshakes_accepted,
    /// Handshakes that peers began and did not finish in time.
    "transport" handshakes_failed_unfinished,
    /// Handshakes refused because too many were half open.
    "transport" handshakes_failed_capped,
    /// The same from one address.
    "transport" handshakes_failed_capped_by_address,
    /// Handshakes that were asked for proof of their address first.
    "transport" handshakes_retried,
    /// Peers refused for lack of capacity, by either side.
    "transport" refused_capacity,
    /// Second connections of the same two nodes.
    "transport" connections_closed_replaced,
    /// Connections that broke.
    "transport" connections_closed_lost,
    /// Times that a node detected a stall of its own.
    "membership" stalls,
    /// Members that did not answer a probe.
    "membership" suspicions,
    /// Members declared failed by the node's own verdict.
    "membership" failures_declared,
}

/// Starts `count` nodes in this process, and waits until they have formed a cluster; with
/// `restart`, then aborts all of them without a leave and starts them again at their addresses.
///
/// # Errors
///
/// If a node cannot start.
pub async fn in_one_process(
    count: usize,
    deadline: Duration,
    restart: bool,
) -> Result<Vec<Formation>, Failure> {
    let any = "127.0.0.1:0".parse().map_err(|_| "no loopback address".to_owned())?;
    let mut addresses = vec![any; count];
    let mut formations = vec![start_in_process(&mut addresses, deadline).await?];
    if restart {
        await_free(&addresses).await?;
        formations.push(start_in_process(&mut addresses, deadline).await?);
    }
    Ok(formations)
}

/// Waits until these addresses are free. A task closes an aborted node's socket, when it is
/// scheduled.
async fn await_free(addresses: &[SocketAddr]) -> Result<(), Failure> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    let freed = async {
        for address in addresses {
            while std::net::UdpSocket::bind(address).is_err() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    };
    let freed = tokio::time::timeout(TIMEOUT, freed).await;
    freed.map_err(|_| format!("aborted nodes still listen after {TIMEOUT:?}"))
}

/// Starts a node at each address, with the first as seed, and aborts them when they have formed a
/// cluster or the deadline has passed. Port 0 is replaced by the assigned port.
async fn start_in_process(addresses: &mut [SocketAddr], deadline: Duration) -> Result<Formation, Failure> {
    let count = addresses.len();
    let before = processes::processor_time("self")?;
    #[expect(clippy::disallowed_methods, reason = "this measures real time")]
    let now = std::time::Instant::now;
    let begun = now();
    let mut nodes: Vec<Node> = Vec::new();
    for (number, address) in addresses.iter_mut().enumerate() {
        let name = NodeName::new(&format!("n{number}")).map_err(|error| error.to_string())?;
        let mut config = NodeConfig::new(name, *address, KeySet::development());
        config.seeds = nodes.first().map(|seed| seed.local_address().to_string()).into_iter().collect();
        let node = Node::start(config).await.map_err(|error| error.to_string())?;
        *address = node.local_address();
        nodes.push(node);
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
            // The nodes that were complete first must be so now.
            waiting = nodes.iter().position(|node| !complete(node)).unwrap_or(count);
        }
        if waiting == count {
            break Some(started.elapsed());
        }
        if started.elapsed() >= deadline {
            break None;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    let processor = processes::processor_time("self")?.saturating_sub(before);
    let incomplete = match formed {
        Some(_) => 0,
        None => count - waiting,
    };
    let mut counted = Counted::default();
    for node in &nodes {
        let (transport, membership) = (node.transport().statistics(), node.membership_statistics());
        counted.add(|part, what| {
            let found = match (part, what) {
                ("transport", _) => {
                    transport.iter().find(|count| count.name == what).map(|count| count.value)
                }
                _ => membership.iter().find(|count| count.name == what).map(|count| count.value),
            };
            found.ok_or_else(|| format!("nodes do not count {part} {what}"))
        })?;
    }
    for node in &nodes {
        node.abort();
    }
    let (starting, load) = (started - begun, processes::load());
    Ok(Formation { nodes: count, starting, formed, incomplete, processor, counted, load })
}
