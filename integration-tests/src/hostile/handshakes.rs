//! Handshakes that are begun and never finished.
//!
//! Real handshakes are dialled through relays, which forward only the first packets: the victim
//! sees peers that stop answering.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use transport::{KeySet, Timeouts, Transport};
use wire::{Destination, NodeName};

use crate::hosts::Failure;

/// How many handshakes are in progress at once; each has two sockets.
const AT_ONCE: usize = 400;

/// Limit of handshakes begun every ten milliseconds: the queues on the way hold this many.
const PORTION: usize = 10;

/// How long the attacker keeps each handshake. The victim waits longer.
const DIAL: Duration = Duration::from_secs(1);

/// Begins handshakes with `victim` from these addresses, as many as it can for this long. For each,
/// the relay forwards `answers` of the victim's answers, and one more packet to the victim for each
/// of them: one proves the address, none leaves the victim with an unproven address.
pub(super) async fn unfinished(
    victim: SocketAddr,
    from: Vec<Ipv4Addr>,
    keys: KeySet,
    answers: usize,
    time: Duration,
) -> Result<u64, Failure> {
    // One endpoint limits its dials, and lowers the limit when there are no answers: an attacker
    // has one endpoint for each handshake.
    let mut idle = Vec::with_capacity(AT_ONCE);
    for _ in 0..AT_ONCE {
        let mut config = transport::Config::new(
            NodeName::new("undecided").map_err(|error| error.to_string())?,
            SocketAddr::from(([127, 0, 0, 1], 0)),
            keys.clone(),
        );
        config.timeouts = Timeouts { dial: DIAL, dial_most: DIAL, ..Timeouts::default() };
        idle.push(Transport::bind(config).map_err(|error| error.to_string())?);
    }
    let end = Instant::now() + time;
    let mut dials = tokio::task::JoinSet::new();
    let mut begun = 0;
    while Instant::now() < end {
        for _ in 0..PORTION {
            let Some((transport, incoming)) = idle.pop() else { break };
            let address = from[begun as usize % from.len()];
            begun += 1;
            let failed = |error: std::io::Error| format!("cannot relay packets: {error}");
            let local = UdpSocket::bind("127.0.0.1:0").await.map_err(failed)?;
            let remote = UdpSocket::bind((address, 0)).await.map_err(failed)?;
            let to = Destination { name: None, address: local.local_addr().map_err(failed)? };
            dials.spawn(async move {
                let completed = tokio::select! {
                    dialled = transport.open_stream(&to) => dialled.is_ok(),
                    cut_off = relay(local, remote, victim, answers) => cut_off,
                };
                (completed, (transport, incoming))
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Some(dialled) = dials.try_join_next() {
            let (completed, endpoint) = dialled.map_err(|error| error.to_string())?;
            if completed {
                return Err("a handshake was completed that should have been cut off".to_owned());
            }
            idle.push(endpoint);
        }
    }
    Ok(begun)
}

/// Forwards the first packet, then `answers` answers, each followed by the next packet, and nothing
/// more.
async fn relay(local: UdpSocket, remote: UdpSocket, victim: SocketAddr, answers: usize) -> bool {
    let mut buffer = vec![0; 2048];
    for round in 0..=answers {
        let Ok((size, dialler)) = local.recv_from(&mut buffer).await else { break };
        let _ = remote.send_to(&buffer[..size], victim).await;
        if round < answers {
            match timeout(DIAL, remote.recv_from(&mut buffer)).await {
                Ok(Ok((size, _))) => drop(local.send_to(&buffer[..size], dialler).await),
                _ => break,
            }
        }
    }
    std::future::pending().await
}
