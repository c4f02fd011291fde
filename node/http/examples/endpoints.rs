//! A node with HTTP endpoints, asked by a plain client: `cargo run -p networkdb-http --example endpoints`.

use std::net::SocketAddr;
use std::time::Duration;

use networkdb::{KeySet, Node, NodeConfig, NodeName};
use networkdb_http::{HttpConfig, HttpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node::start(NodeConfig::new(NodeName::new("proxy")?, any_port, KeySet::generate())).await?;
    println!("the network is ready: {}", node.join_network("blue").await?);
    node.tables().upsert("blue", "services", "web", "10.0.0.7:80")?;

    // On loopback, every user of this host may read and change tables. An address that other hosts reach is
    // refused, unless the settings require tokens or declare the node open.
    let http = HttpListener::bind(any_port, HttpConfig::default()).await?.serve(node.clone());
    for path in ["/v1/networks/blue/tables/services/entries/web", "/gettable?nid=blue&tname=services"] {
        println!("{path}: {}", get(http.local_address(), path).await?);
    }

    // The endpoints first, so that no client sees a node that is leaving.
    http.shutdown(Duration::from_secs(5)).await;
    node.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// The body of the response.
async fn get(address: SocketAddr, path: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("{path}: {response}").into());
    }
    Ok(body.to_owned())
}
