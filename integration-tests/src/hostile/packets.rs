//! Invalid packets: noise, and real packets truncated or with flipped bits.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use transport::{KeySet, Transport};
use wire::{Destination, NodeName};

use crate::hosts::Failure;

/// The first packets of real handshakes, as an observer on the path sees them.
pub(super) async fn first_packets(keys: &KeySet, wanted: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| format!("cannot listen for packets: {error}");
    let mut packets = Vec::new();
    let mut buffer = vec![0; 2048];
    while packets.len() < wanted {
        // One socket for each: a closed endpoint sends a Close, which the next one would take for
        // its first packet.
        let capture = UdpSocket::bind("127.0.0.1:0").await.map_err(failed)?;
        let capture_address = capture.local_addr().map_err(failed)?;
        let name = NodeName::new("noise").map_err(|error| error.to_string())?;
        let config = transport::Config::new(name, SocketAddr::from(([127, 0, 0, 1], 0)), keys.clone());
        let (transport, _incoming) = Transport::bind(config).map_err(|error| error.to_string())?;
        let to = Destination { name: None, address: capture_address };
        let dialling = transport.open_stream(&to);
        tokio::select! {
            _ = dialling => return Err("an unused address answered".to_owned()),
            received = capture.recv(&mut buffer) => {
                packets.push(buffer[..received.map_err(failed)?].to_vec());
            }
        }
    }
    Ok(packets)
}

/// Sends garbage at full speed for this long; returns the number of packets.
#[expect(clippy::disallowed_methods, reason = "an attack lasts its time")]
pub(super) async fn garbage(victim: SocketAddr, keys: KeySet, time: Duration) -> Result<u64, Failure> {
    let real = first_packets(&keys, 8).await?;
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").map_err(|error| error.to_string())?;
    let attack = move || {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (begun, mut sent) = (Instant::now(), 0);
        let mut packet = Vec::new();
        while begun.elapsed() < time {
            packet.clear();
            match rng.random_range(0..4) {
                // Noise.
                0 => {
                    packet.resize(rng.random_range(0..1473), 0);
                    rng.fill_bytes(&mut packet);
                }
                // Noise that looks like a packet of a connection.
                1 => {
                    packet.resize(rng.random_range(21..1200), 0);
                    rng.fill_bytes(&mut packet);
                    packet[0] = packet[0] & 0x3f | 0x40;
                }
                // A truncated real packet.
                2 => {
                    let whole = &real[rng.random_range(0..real.len())];
                    packet.extend_from_slice(&whole[..rng.random_range(0..whole.len())]);
                }
                // A real one with flipped bits.
                _ => {
                    packet.extend_from_slice(&real[rng.random_range(0..real.len())]);
                    for _ in 0..rng.random_range(1..8) {
                        let at = rng.random_range(0..packet.len());
                        packet[at] ^= 1 << rng.random_range(0..8);
                    }
                }
            }
            // A full queue is as fast as it can be.
            sent += u64::from(socket.send_to(&packet, victim).is_ok());
        }
        sent
    };
    tokio::task::spawn_blocking(attack).await.map_err(|error| error.to_string())
}

/// How many handshakes are begun, again and again: more than a node allows to be half open.
const BEGUN: usize = 500;

/// Begins handshakes with all `victims` from a forged source address, as fast as it can, for this
/// long; returns the number of packets.
#[expect(clippy::disallowed_methods, reason = "an attack lasts its time")]
pub(super) async fn spoofed_handshakes(
    claimed: SocketAddrV4,
    victims: Vec<SocketAddrV4>,
    keys: KeySet,
    time: Duration,
) -> Result<u64, Failure> {
    let first = first_packets(&keys, BEGUN).await?;
    let begun = Instant::now();
    // With a raw socket, a process can write any source address into the header.
    const RAW: i32 = 255;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))
        .map_err(|error| format!("cannot send in another's name: {error}"))?;
    let attack = move || {
        let mut sent = 0;
        while begun.elapsed() < time {
            for packet in &first {
                for victim in &victims {
                    let datagram = datagram(claimed, *victim, packet);
                    sent += u64::from(socket.send_to(&datagram, &SocketAddr::from(*victim).into()).is_ok());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        sent
    };
    tokio::task::spawn_blocking(attack).await.map_err(|error| error.to_string())
}

/// A UDP packet with its IPv4 header. The system fills in the header's checksum and length; UDP's
/// checksum is optional.
fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    const UDP: u8 = 17;
    let length = |header: usize| ((header + payload.len()) as u16).to_be_bytes();
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
    bytes[2..4].copy_from_slice(&length(28));
    bytes.extend_from_slice(&from.ip().octets());
    bytes.extend_from_slice(&to.ip().octets());
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&length(8));
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}
