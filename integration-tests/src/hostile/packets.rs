//! Packets that are none: noise, and real ones cut short or bent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::net::UdpSocket;
use transport::{KeySet, Transport};
use wire::{Destination, NodeName};

use crate::hosts::Failure;

/// The first packets of real handshakes, as somebody on the path would see them.
pub(super) async fn first_packets(keys: &KeySet, wanted: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let told = |error: std::io::Error| format!("cannot listen for packets: {error}");
    let ear = UdpSocket::bind("127.0.0.1:0").await.map_err(told)?;
    let heard_at = ear.local_addr().map_err(told)?;
    let mut packets = Vec::new();
    let mut buffer = vec![0; 2048];
    while packets.len() < wanted {
        let name = NodeName::new("noise").map_err(|error| error.to_string())?;
        let config = transport::Config::new(name, SocketAddr::from(([127, 0, 0, 1], 0)), keys.clone());
        let (transport, _incoming) = Transport::bind(config).map_err(|error| error.to_string())?;
        let to = Destination { name: None, address: heard_at };
        let dialling = transport.open_stream(&to);
        tokio::select! {
            _ = dialling => return Err("somebody answered where nobody is".to_owned()),
            heard = ear.recv(&mut buffer) => packets.push(buffer[..heard.map_err(told)?].to_vec()),
        }
    }
    Ok(packets)
}

/// Sends garbage at full speed for this long; says how many packets.
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
                // A real one, cut short.
                2 => {
                    let whole = &real[rng.random_range(0..real.len())];
                    packet.extend_from_slice(&whole[..rng.random_range(0..whole.len())]);
                }
                // A real one, bent.
                _ => {
                    packet.extend_from_slice(&real[rng.random_range(0..real.len())]);
                    for _ in 0..rng.random_range(1..8) {
                        let at = rng.random_range(0..packet.len());
                        packet[at] ^= 1 << rng.random_range(0..8);
                    }
                }
            }
            // A full queue is as good as full speed gets.
            sent += u64::from(socket.send_to(&packet, victim).is_ok());
        }
        sent
    };
    tokio::task::spawn_blocking(attack).await.map_err(|error| error.to_string())
}
