//! Streams that stall, are slow, or declare more than they send.

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};
use transport::{KeySet, Limits, Transport};
use wire::{Destination, NodeName};

use super::forge;
use crate::hosts::Failure;

/// How many peers there are, each with the maximum number of streams.
const PEERS: usize = 4;

fn peer(number: usize, from: SocketAddr, keys: &KeySet) -> Result<(Transport, transport::Incoming), Failure> {
    let name = NodeName::new(&format!("tedious-{number}")).map_err(|error| error.to_string())?;
    let mut config = transport::Config::new(name, from, keys.clone());
    // This node must be able to send frames larger than the victim accepts.
    let frame = 64 << 20;
    config.limits = Limits {
        frame_bytes: frame,
        unfinished_bytes: 8 * frame,
        unfinished_bytes_per_connection: 4 * frame,
        ..Limits::default()
    };
    // It does not give up slow streams; the victim must.
    config.timeouts.frame = Duration::from_secs(600);
    Transport::bind(config).map_err(|error| error.to_string())
}

/// Slow and invalid streams of all kinds, from several peers that have the secret, for this long.
pub(super) async fn slow_streams(
    victim: SocketAddr,
    from: SocketAddr,
    keys: KeySet,
    time: Duration,
) -> Result<u64, Failure> {
    let end = Instant::now() + time;
    let mut peers = tokio::task::JoinSet::new();
    for number in 0..PEERS {
        let (transport, incoming) = peer(number, from, &keys)?;
        peers.spawn(async move {
            let _incoming = incoming;
            let mut streams = tokio::task::JoinSet::new();
            let mut opened = 0_u64;
            while Instant::now() < end {
                while streams.len() < 60 {
                    opened += 1;
                    streams.spawn(open_one(transport.clone(), victim, opened, end));
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), streams.join_next()).await;
            }
            opened
        });
    }
    let mut opened = 0;
    while let Some(peer) = peers.join_next().await {
        opened += peer.map_err(|error| error.to_string())?;
    }
    Ok(opened)
}

/// One stream; its number selects the kind.
async fn open_one(transport: Transport, victim: SocketAddr, number: u64, end: Instant) {
    let to = Destination { name: None, address: victim };
    let Ok((mut sender, _receiver, _)) = transport.open_stream(&to).await else {
        return sleep(Duration::from_millis(20)).await;
    };
    let mut rng = ChaCha8Rng::seed_from_u64(number);
    match number % 6 {
        // Sends nothing more, and never ends.
        0 => {
            let _ = sender.send(vec![1]).await;
            tokio::time::sleep_until(end).await;
        }
        // A frame of 32 MiB, whose length the victim sees first.
        1 => {
            let _ = sender.send(vec![0; 32 << 20]).await;
        }
        // A list that declares far more members than a frame can hold.
        2 => {
            let _ = sender.send(forge::unbounded_list(u64::MAX)).await;
            let _ = sender.send(forge::unbounded_list(1 << 40)).await;
        }
        // Noise, some of it addressed.
        3 => {
            for _ in 0..20 {
                let mut noise = vec![0; rng.random_range(1..20_000)];
                rng.fill_bytes(&mut noise);
                noise[0] %= 3;
                if sender.send(noise).await.is_err() {
                    return;
                }
            }
        }
        // The largest accepted frame, again and again, until the victim refuses it or a timeout
        // ends the stream.
        4 => while Instant::now() < end && sender.send(vec![1; 4 << 20]).await.is_ok() {},
        // One byte at a time.
        _ => {
            while Instant::now() < end && sender.send(vec![1]).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
