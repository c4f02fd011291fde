//! Two nodes in one process share a table: `cargo run -p networkdb --example two_nodes`.

use std::net::SocketAddr;
use std::time::Duration;

use networkdb::{
    ChangeKind, Event, KeySet, MembershipUpdate, Node, NodeConfig, NodeName, WatchEvent, WatchFilter,
};

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
    let mut members = proxy.subscribe();
    backend.join(&[proxy.advertised_address().to_string()]).await?;
    while let MembershipUpdate::Event(event) = members.next().await {
        if let Event::Joined(record) = event {
            println!("{} joined at {}", record.id.name, record.address);
            break;
        }
    }

    // The proxy watches the entries of the backends: first the present ones, then each change.
    let mut watch = proxy.tables().watch(WatchFilter::default());
    let follower = tokio::task::spawn_blocking(move || {
        while let Some(WatchEvent::Change(change)) = watch.next_timeout(Duration::from_secs(10)) {
            let value = change.value.as_deref().map(String::from_utf8_lossy);
            println!("{:?} {} by {}: {value:?}", change.kind, change.key, change.owner);
            if change.kind == ChangeKind::Delete {
                return true;
            }
        }
        false
    });
    backend.tables().create("blue", "services", "web", *b"10.0.0.7:80")?;
    backend.tables().update("blue", "services", "web", *b"10.0.0.7:8080")?;
    while proxy.tables().get("blue", "services", "web").is_none_or(|web| *web.value != *b"10.0.0.7:8080") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The entries of a node that leaves the cluster are removed.
    backend.shutdown(Duration::from_secs(5)).await;
    assert!(follower.await?, "the proxy has not seen the entry go");
    proxy.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
