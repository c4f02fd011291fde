//! Two endpoints on this machine exchange a datagram and a stream of frames:
//! `cargo run -p networkdb-transport --example loopback`.

use std::net::SocketAddr;
use std::time::Duration;

use networkdb_transport::{Arrival, Config, KeySet, Transport};
use wire::{Destination, NodeName};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // All nodes of a cluster have the same secret. Between hosts it is in a file, see `KeySet::parse`.
    let keys = KeySet::generate();
    // The system chooses the ports.
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let names = [NodeName::new("ada")?, NodeName::new("bob")?];
    let (ada, mut at_ada) = Transport::bind(Config::new(names[0].clone(), any_port, keys.clone()))?;
    let (bob, mut at_bob) = Transport::bind(Config::new(names[1].clone(), any_port, keys))?;

    // What bob receives until its transport is shut down. It answers on the stream.
    let receiving = tokio::spawn(async move {
        let mut received = Vec::new();
        while let Some(arrival) = at_bob.next().await {
            match arrival {
                Arrival::Datagram { from, bytes } => {
                    received.push(format!("a datagram of {}: {}", from.name, text(&bytes)));
                }
                Arrival::Stream { from, mut sender, mut receiver } => {
                    while let Some(frame) = receiver.next().await? {
                        received.push(format!("a frame of {}: {}", from.name, text(&frame)));
                        sender.send(format!("{} bytes", frame.len()).into_bytes()).await?;
                    }
                    sender.finish().await?;
                }
                // A connection was lost, or a peer was refused.
                other => received.push(format!("{other:?}")),
            }
        }
        Ok::<_, networkdb_transport::FrameError>(received)
    });

    // A name and an address: a node of another name at this address would receive nothing. The first datagram dials, and
    // is kept until the connection stands.
    let to = Destination { name: Some(names[1].clone()), address: bob.local_address() };
    println!("the datagram was sent: {:?}", ada.send_datagram(&to, "hello".into())?);
    let (mut sender, mut receiver, peer) = ada.open_stream(&to).await?;
    println!("a stream to {} at {}", peer.name, peer.address);
    for frame in ["first", "second"] {
        sender.send(frame.as_bytes().to_vec()).await?;
    }
    sender.finish().await?;
    while let Some(answer) = receiver.next().await? {
        println!("bob answers: {}", text(&answer));
    }

    bob.shutdown(Duration::from_secs(5)).await;
    let received = receiving.await??;
    for received in &received {
        println!("bob received {received}");
    }
    assert_eq!(received.len(), 3, "a datagram and two frames");
    // That bob shuts down is no failure: ada learns the reason, and does not dial again.
    if let Some(Arrival::Lost { peer, loss }) = at_ada.next().await {
        println!("ada lost {}: {loss:?}", peer.name);
    }
    ada.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
