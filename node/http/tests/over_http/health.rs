//! Whether the node says truly that it works, and that its tables can be relied on.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use http_client_for_tests::Response;
use membership::State;
use networkdb::{Node, NodeConfig};
use networkdb_http::{HttpConfig, HttpListener};
use transport::KeySet;
use wire::NodeName;

use super::host::{Host, TIMEOUT};

/// The status, and the code of the problem if there is one.
fn outcome(response: &Response) -> (u16, String) {
    let problem = serde_json::from_str::<serde_json::Value>(&response.body).unwrap_or_default();
    (response.status, problem["code"].as_str().unwrap_or_default().to_owned())
}

/// Repeats a GET until it has this outcome.
async fn until(host: &Host, path: &str, status: u16, code: &str) -> Response {
    let mut latest = None;
    let repeating = async {
        loop {
            let response = host.get(path).await;
            if outcome(&response) == (status, code.to_owned()) {
                return response;
            }
            latest = Some(response);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(TIMEOUT, repeating).await {
        Ok(response) => response,
        Err(_) => panic!("{TIMEOUT:?} later {path} is still answered with {latest:?}"),
    }
}

/// A node on a runtime of its own, with one thread, and its HTTP on that of the test.
async fn beside(runtime: &tokio::runtime::Runtime) -> Host {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = NodeConfig {
        membership: membership::Config::loopback(),
        ..NodeConfig::new(NodeName::new("beside").unwrap(), loopback, KeySet::development())
    }
    .with_networks(["net"]);
    let node = runtime.spawn(Node::start(config)).await.unwrap().unwrap();
    let http = HttpListener::bind(loopback, HttpConfig::default()).await.unwrap().serve(node.clone());
    Host { node, http }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_driver_hangs_is_not_alive_and_its_peer_is_not_ready_without_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let hanging = beside(&runtime).await;
    assert_eq!(outcome(&hanging.get("/livez").await), (200, String::new()));
    assert_eq!(outcome(&hanging.get("/readyz").await), (200, String::new()), "alone by intent");
    let peer = Host::off_networks("peer", HttpConfig::default(), None).await;
    peer.node.join(&[hanging.node.advertised_address().to_string()]).await.unwrap();
    until(&peer, "/readyz", 200, "").await;
    while peer.node.tables().network_peers("net").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (held, release) = mpsc::channel::<()>();
    let (begins, begun) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let _ = begins.send(());
        let _ = release.recv();
    });
    // Not earlier: the node would answer the join below.
    begun.await.unwrap();
    let joining = tokio::spawn({
        let node = peer.node.clone();
        async move { node.join_network("net").await }
    });
    let refused = until(&peer, "/readyz", 503, "networks_not_synchronised").await;
    assert!(refused.body.contains("1 of 1 joined networks"), "{refused:?}");
    assert!(refused.head.contains("content-type: application/problem+json"), "{refused:?}");
    assert_eq!(outcome(&peer.get("/livez").await), (200, String::new()));
    for path in ["/livez", "/readyz"] {
        until(&hanging, path, 503, "driver_stalled").await;
        assert_eq!(hanging.get("/ready").await.body, "OK\nOK", "the original's says only that HTTP works");
    }
    drop(held);
    until(&hanging, "/livez", 200, "").await;
    until(&hanging, "/readyz", 200, "").await;
    until(&peer, "/readyz", 200, "").await;
    joining.await.unwrap().unwrap();
    hanging.node.abort();
    for path in ["/livez", "/readyz"] {
        assert_eq!(outcome(&hanging.get(path).await), (503, "node_stopped".to_owned()));
    }
    assert!(peer.node.members().iter().any(|member| member.state != State::Left), "it crashed");
    peer.end().await;
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_no_seed_answered_is_alive_and_not_ready() {
    let host = Host::start(HttpConfig::default()).await;
    assert!(host.node.join(&["127.0.0.1:1".to_owned()]).await.is_err());
    assert_eq!(outcome(&host.get("/readyz").await), (503, "cluster_not_joined".to_owned()));
    assert_eq!(outcome(&host.get("/livez").await), (200, String::new()));
    let refused = host.ask("POST", "/readyz", "", "").await;
    assert_eq!(outcome(&refused), (405, "method_not_allowed".to_owned()));
    let unknown = host.get("/livez?verbos").await;
    assert_eq!(outcome(&unknown), (400, "unknown_parameter".to_owned()));
    host.end().await;
}
