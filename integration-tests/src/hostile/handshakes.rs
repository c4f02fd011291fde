//! Handshakes that are begun and never finished.
//!
//! Real handshakes are dialled through a relay that passes the dialler's packets on and keeps the answers: to the victim
//! each is a peer that falls silent after its first words.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use transport::{KeySet, Limits, Timeouts, Transport};
use wire::{Destination, NodeName};

use crate::hosts::Failure;

/// How many handshakes are under way at once.
const AT_ONCE: usize = 1500;

/// How many are begun every ten milliseconds, at most.
const PORTION: usize = 10;

/// Begins handshakes with `victim` from these addresses, as many as it can for this long. Of the victim's answers `heard`
/// are let through for each: one is enough for proving the own address, none leaves the victim with somebody who may not
/// be there at all.
pub(super) async fn unfinished(
    victim: SocketAddr,
    from: Vec<Ipv4Addr>,
    keys: KeySet,
    heard: usize,
    time: Duration,
) -> Result<u64, Failure> {
    let told = |error: std::io::Error| format!("cannot relay packets: {error}");
    let relay = Arc::new(UdpSocket::bind("0.0.0.0:0").await.map_err(told)?);
    let port = relay.local_addr().map_err(told)?.port();
    let begun_handshakes = Arc::new(AtomicU64::new(0));
    let passing = tokio::spawn(pass_on(relay, victim, from, heard, begun_handshakes.clone()));
    let mut config = transport::Config::new(
        NodeName::new("undecided").map_err(|error| error.to_string())?,
        SocketAddr::from(([127, 0, 0, 1], 0)),
        keys,
    );
    config.limits = Limits { dials: 2 * AT_ONCE, connections: 2 * AT_ONCE, ..Limits::default() };
    config.timeouts = Timeouts {
        dial: Duration::from_secs(2),
        dial_backoff: Duration::from_millis(1),
        ..Timeouts::default()
    };
    let (transport, _incoming) = Transport::bind(config).map_err(|error| error.to_string())?;
    let end = Instant::now() + time;
    let mut dials = tokio::task::JoinSet::new();
    let mut number = 0_u32;
    while Instant::now() < end {
        // In portions that the queues between here and there can hold.
        for _ in 0..PORTION.min(AT_ONCE.saturating_sub(dials.len())) {
            // All of 127.0.0.0/8 leads to the relay, so each dial has a destination of its own.
            let [_, a, b, c] = (number % 0x00ff_0000 + 0x0001_0001).to_be_bytes();
            number += 1;
            let to = Destination { name: None, address: SocketAddr::from(([127, a, b, c], port)) };
            let transport = transport.clone();
            dials.spawn(async move { transport.open_stream(&to).await.is_ok() });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Some(dialled) = dials.try_join_next() {
            if matches!(dialled, Ok(true)) {
                return Err("a handshake was completed that nobody was to complete".to_owned());
            }
        }
    }
    passing.abort();
    Ok(begun_handshakes.load(Ordering::Relaxed))
}

/// Passes packets of diallers on to the victim, each dialled destination from a socket of its own, and `heard` answers back.
async fn pass_on(
    relay: Arc<UdpSocket>,
    victim: SocketAddr,
    from: Vec<Ipv4Addr>,
    heard: usize,
    begun: Arc<AtomicU64>,
) -> Result<(), Failure> {
    // The relay cannot see which of its addresses was dialled, but QUIC says which handshake a packet belongs to.
    let mut sockets: BTreeMap<Vec<u8>, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; 2048];
    loop {
        let (size, dialler) = relay.recv_from(&mut buffer).await.map_err(|error| error.to_string())?;
        let packet = &buffer[..size];
        let Some(source) = source_id(packet) else { continue };
        let socket = match sockets.get(&source) {
            Some(socket) => socket.clone(),
            None => {
                if sockets.len() > 2 * AT_ONCE {
                    sockets.pop_first();
                }
                let address = from[begun.fetch_add(1, Ordering::Relaxed) as usize % from.len()];
                let Ok(socket) = UdpSocket::bind((address, 0)).await else { continue };
                let socket = Arc::new(socket);
                sockets.insert(source, socket.clone());
                if heard > 0 {
                    tokio::spawn(answer(socket.clone(), relay.clone(), dialler, heard));
                }
                socket
            }
        };
        let _ = socket.send_to(packet, victim).await;
    }
}

async fn answer(socket: Arc<UdpSocket>, relay: Arc<UdpSocket>, dialler: SocketAddr, heard: usize) {
    let mut buffer = vec![0; 2048];
    for _ in 0..heard {
        let Ok(Ok((size, _))) = timeout(Duration::from_secs(2), socket.recv_from(&mut buffer)).await else {
            return;
        };
        let _ = relay.send_to(&buffer[..size], dialler).await;
    }
}

/// The connection ID that the sender of a long header chose for itself (RFC 9000, section 17.2).
fn source_id(packet: &[u8]) -> Option<Vec<u8>> {
    if packet.first()? & 0x80 == 0 {
        return None;
    }
    let length = usize::from(*packet.get(5)?);
    let at = 6 + length;
    let source = usize::from(*packet.get(at)?);
    packet.get(at + 1..at + 1 + source).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_long_header_is_found() {
        let packet = [0xc0, 0, 0, 0, 1, 2, 7, 7, 3, 1, 2, 3, 0];
        assert_eq!(source_id(&packet), Some(vec![1, 2, 3]));
        assert_eq!(source_id(&packet[..11]), None);
        assert_eq!(source_id(&[0x40, 0]), None);
    }
}
