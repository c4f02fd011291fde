//! Two nodes in one process share a table: `cargo run -p networkdb --example two_nodes`.

use std::net::SocketAddr;
use std::time::Duration;

use networkdb::{KeySet, Node, NodeConfig, NodeName, WatchEvent, WatchFilter};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // All nodes of a cluster have the same secret. Between hosts it is in a file, see `KeySet::parse`.
    let keys = KeySet::generate();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = Node::start(NodeConfig::new(NodeName::new("first")?, any_port, keys.clone())).await?;
    let second = Node::start(NodeConfig::new(NodeName::new("second")?, any_port, keys)).await?;
    second.join(&[first.advertised_address().to_string()]).await?;
    println!("first: {}", first.join_network("blue").await?);
    first.tables().create("blue", "services", "web", "10.0.0.7:80")?;
    println!("second: {}", second.join_network("blue").await?);

    // A join may return before the members know of each other; a watch shows each entry as it arrives.
    let mut watch = second.tables().watch(WatchFilter::default());
    let WatchEvent::Change(change) = watch.recv().await else { return Err("the node has ended".into()) };
    println!("second sees {} of {}", change.key, change.owner);

    // Any member may replace an entry: here only the one that it has read.
    let seen = second.tables().get("blue", "services", "web").ok_or("it was shown")?;
    second.tables().compare_and_set("blue", "services", "web", seen.version(), "10.0.0.8:80")?;
    let mut watch = first.tables().watch(WatchFilter { exclude_own: true, ..WatchFilter::default() });
    let WatchEvent::Change(change) = watch.recv().await else { return Err("the node has ended".into()) };
    println!("first sees {} of {}", change.key, change.owner);
    let read = first.tables().get("blue", "services", "web");
    assert_eq!(read.as_ref().map(|entry| entry.value()), change.value.as_deref());

    second.shutdown(Duration::from_secs(5)).await;
    first.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
