//! Peers that a handshake refuses: with another secret, or under a name in use.

use std::net::SocketAddr;
use std::time::Duration;

use networkdb::{JoinClusterError, Node, NodeConfig};
use tokio::time::Instant;
use transport::{KeySet, Limits, Timeouts, Transport, generate_secret};
use wire::{Destination, NodeName};

use crate::hosts::Failure;

/// How many strangers connect at once.
const STRANGERS: usize = 24;

/// No handshake takes less.
const HANDSHAKE: Duration = Duration::from_micros(200);

/// Valid TLS with another secret, again and again; the victim must refuse every attempt. The
/// attacker itself must not refuse the victim: so it accepts the cluster's secret from others, and
/// does not use it otherwise.
pub(super) async fn wrong_secret(
    victim: SocketAddr,
    from: SocketAddr,
    cluster: String,
    time: Duration,
) -> Result<u64, Failure> {
    let end = Instant::now() + time;
    let mut strangers = tokio::task::JoinSet::new();
    for number in 0..STRANGERS {
        let cluster = cluster.clone();
        strangers.spawn(async move {
            let name = NodeName::new(&format!("stranger-{number}")).map_err(|error| error.to_string())?;
            let keys = KeySet::parse(&format!("{}\n{cluster}", *generate_secret()))
                .map_err(|error| error.to_string())?;
            let mut config = transport::Config::new(name, from, keys);
            config.timeouts = Timeouts { dial_backoff: Duration::from_millis(1), ..Timeouts::default() };
            config.limits = Limits { socket_buffer_bytes: 64 << 10, ..Limits::default() };
            let (transport, _incoming) = Transport::bind(config).map_err(|error| error.to_string())?;
            let to = Destination { name: None, address: victim };
            let mut tries = 0;
            while Instant::now() < end {
                let tried = Instant::now();
                match transport.open_stream(&to).await {
                    Ok(_) => return Err("the victim admitted a peer with another secret".to_owned()),
                    // A repeated dial after a refusal fails at once without a packet; no handshake
                    // is so quick.
                    Err(_) if tried.elapsed() < HANDSHAKE => {
                        tokio::time::sleep(Duration::from_millis(1)).await
                    }
                    Err(_) => tries += 1,
                }
            }
            Ok(tries)
        });
    }
    let mut tries = 0;
    while let Some(tried) = strangers.join_next().await {
        tries += tried.map_err(|error| error.to_string())??;
    }
    Ok(tries)
}

/// A node with the right secret under the name of a running one; every attempt must be refused,
/// with the address of the running one.
pub(super) async fn stolen_name(
    victim: SocketAddr,
    from: SocketAddr,
    (name, owner): (String, SocketAddr),
    keys: KeySet,
    time: Duration,
) -> Result<u64, Failure> {
    let end = Instant::now() + time;
    let mut tries = 0;
    while Instant::now() < end {
        let name = NodeName::new(&name).map_err(|error| error.to_string())?;
        let config =
            NodeConfig { networks: vec!["blue".to_owned()], ..NodeConfig::new(name, from, keys.clone()) };
        let impersonator = Node::start(config).await.map_err(|error| error.to_string())?;
        match impersonator.join(&[victim.to_string()]).await {
            Err(JoinClusterError::NameInUse { owner: reported, .. }) if reported == owner => tries += 1,
            Err(JoinClusterError::NoAnswer(_)) => {}
            other => return Err(format!("a node under the name of {owner} got {other:?}")),
        }
        if impersonator.tables().statistics("blue").is_some_and(|network| network.entries > 0) {
            return Err("a node under another's name received a table".to_owned());
        }
        impersonator.abort();
    }
    Ok(tries)
}
