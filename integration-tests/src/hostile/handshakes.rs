//! Handshakes that are begun and never finished.
//!
//! Real handshakes are dialled through relays, which pass on the first packets and no more: to the victim each is a peer
//! that falls silent after its first words.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use transport::{KeySet, Timeouts, Transport};
use wire::{Destination, NodeName};

use crate::hosts::Failure;

/// How many handshakes are under way at once; each has two sockets.
const AT_ONCE: usize = 400;

/// How many are begun every ten milliseconds, at most: the queues between here and there hold so many.
const PORTION: usize = 10;

/// How long the attacker stays with each. The victim waits longer.
const DIAL: Duration = Duration::from_secs(1);

/// Begins handshakes with `victim` from these addresses, as many as it can for this long. Of the victim's answers `heard`
/// are let through for each, and one more packet goes out for each of them: one is enough for proving the own address, none
/// leaves the victim with somebody who may not be there at all.
pub(super) async fn unfinished(
    victim: SocketAddr,
    from: Vec<Ipv4Addr>,
    keys: KeySet,
    heard: usize,
    time: Duration,
) -> Result<u64, Failure> {
    // One endpoint dials few at a time, and fewer when nobody answers: an attacker has one for each.
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
            let told = |error: std::io::Error| format!("cannot relay packets: {error}");
            let ear = UdpSocket::bind("127.0.0.1:0").await.map_err(told)?;
            let mouth = UdpSocket::bind((address, 0)).await.map_err(told)?;
            let to = Destination { name: None, address: ear.local_addr().map_err(told)? };
            dials.spawn(async move {
                let completed = tokio::select! {
                    dialled = transport.open_stream(&to) => dialled.is_ok(),
                    never = relay(ear, mouth, victim, heard) => never,
                };
                (completed, (transport, incoming))
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Some(dialled) = dials.try_join_next() {
            let (completed, endpoint) = dialled.map_err(|error| error.to_string())?;
            if completed {
                return Err("a handshake was completed that nobody was to complete".to_owned());
            }
            idle.push(endpoint);
        }
    }
    Ok(begun)
}

/// Passes the first packet on, then `heard` answers back, each followed by the next packet. Then there is silence.
async fn relay(ear: UdpSocket, mouth: UdpSocket, victim: SocketAddr, heard: usize) -> bool {
    let mut buffer = vec![0; 2048];
    for round in 0..=heard {
        let Ok((size, dialler)) = ear.recv_from(&mut buffer).await else { break };
        let _ = mouth.send_to(&buffer[..size], victim).await;
        if round < heard {
            match timeout(DIAL, mouth.recv_from(&mut buffer)).await {
                Ok(Ok((size, _))) => drop(ear.send_to(&buffer[..size], dialler).await),
                _ => break,
            }
        }
    }
    std::future::pending().await
}
