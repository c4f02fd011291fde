//! Follows what other nodes write, and who comes and goes, in one `select!` loop:
//! `cargo run -p networkdb --example follow`.

use std::net::SocketAddr;
use std::time::Duration;

use networkdb::{ChangeKind, KeySet, MembershipUpdate, Node, NodeConfig, NodeName, WatchEvent, WatchFilter};

async fn start(name: &str) -> Result<Node, Box<dyn std::error::Error>> {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    // The development secret is accepted on loopback addresses only.
    let config = NodeConfig::new(NodeName::new(name)?, any_port, KeySet::development());
    let node = Node::start(config).await?;
    node.join_network("blue").await?;
    Ok(node)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (proxy, backend) = (start("proxy").await?, start("backend").await?);
    backend.join(&[proxy.advertised_address().to_string()]).await?;

    // The proxy follows what the backends write, first what is there, then each change, and who comes and goes.
    let (mut watch, mut members) = (proxy.tables().watch(WatchFilter::default()), proxy.subscribe());
    backend.tables().create("blue", "services", "web", *b"10.0.0.7:80")?;
    let mut backend = Some(backend);
    loop {
        tokio::select! {
            event = watch.recv() => match event {
                WatchEvent::Change(change) => {
                    let value = change.value.as_deref().map(String::from_utf8_lossy);
                    println!("{:?} {} by {}: {value:?}", change.kind, change.key, change.owner);
                    match (change.kind, backend.take()) {
                        // A node that leaves the cluster takes its entries along.
                        (ChangeKind::Create, Some(backend)) => backend.shutdown(Duration::from_secs(5)).await,
                        (ChangeKind::Delete, _) => break,
                        (_, kept) => backend = kept,
                    }
                }
                // Drop what is known: a fresh snapshot follows.
                WatchEvent::Lagged => println!("fell behind"),
                WatchEvent::Closed => break,
            },
            update = members.next() => match update {
                MembershipUpdate::Event(event) => println!("{event:?}"),
                MembershipUpdate::Lagged { missed } => println!("missed {missed} events"),
                MembershipUpdate::Closed => break,
                // A later version may report more.
                _ => {}
            },
        }
    }
    proxy.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
