//! Whole nodes on loopback, over real QUIC: the time of a new node's initial sync, compared with a bare QUIC
//! stream of the same size in the same run, and the time until writes on one node reach four others.
//!
//! All nodes share this process and its cores. Work that separate hosts would do in parallel is done in
//! sequence here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use networkdb::{Node, NodeConfig};
use tokio::runtime::Runtime;
use transport::KeySet;
use wire::NodeName;

const NETWORK: &str = "net";
const TABLE: &str = "table";
const VALUE: [u8; 100] = [7; 100];

/// The approximate size of such an entry in a frame: 10 B of key, 100 B of value, numbers.
const BYTES_AN_ENTRY: usize = 122;

async fn start(name: &str) -> Node {
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = NodeConfig::new(NodeName::new(name).unwrap(), bind, KeySet::development());
    config.membership = membership::Config::loopback();
    Node::start(config).await.unwrap()
}

async fn cluster(count: usize) -> Vec<Node> {
    let mut nodes = vec![start("n0").await];
    let seed = [nodes[0].advertised_address().to_string()];
    for at in 1..count {
        let node = start(&format!("n{at}")).await;
        node.join(&seed).await.unwrap();
        nodes.push(node);
    }
    for node in &nodes {
        node.join_network(NETWORK).await.unwrap();
    }
    while !nodes.iter().all(|node| node.tables().network_peers(NETWORK).len() == count) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    nodes
}

fn write_entries(node: &Node, entries: usize) {
    for n in 0..entries {
        node.tables().create(NETWORK, TABLE, &format!("k{n:09}"), VALUE).unwrap();
    }
}

fn entries(node: &Node) -> usize {
    node.tables().statistics(NETWORK).map_or(0, |statistics| statistics.entries)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn initial_sync(c: &mut Criterion, runtime: &Runtime) {
    for count in [100_000, 500_000] {
        let first = runtime.block_on(async {
            let first = start("n0").await;
            first.join_network(NETWORK).await.unwrap();
            write_entries(&first, count);
            first
        });
        let seed = [first.advertised_address().to_string()];
        let mut group = c.benchmark_group(format!("join a network of {count} entries"));
        group.sample_size(10).throughput(Throughput::Elements(count as u64));
        group.bench_function("networkdb", |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..times {
                        let newcomer = start("newcomer").await;
                        newcomer.join(&seed).await.unwrap();
                        let begin = now();
                        newcomer.join_network(NETWORK).await.unwrap();
                        total += begin.elapsed();
                        assert_eq!(entries(&newcomer), count);
                        newcomer.shutdown(Duration::from_secs(2)).await;
                    }
                    total
                })
            });
        });
        group.bench_function("a bare QUIC stream of as many bytes", |b| {
            b.iter_custom(|times| runtime.block_on(bare_stream(count * BYTES_AN_ENTRY, times)));
        });
        group.finish();
        first.abort();
    }
}

async fn bare_stream(bytes: usize, times: u64) -> Duration {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let server =
        quinn::ServerConfig::with_single_cert(vec![certificate.der().clone()], private.into()).unwrap();
    let server = quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let mut client = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    client.set_default_client_config(quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap());
    let connecting =
        async { client.connect(server.local_addr().unwrap(), "localhost").unwrap().await.unwrap() };
    let accepting = async { server.accept().await.unwrap().await.unwrap() };
    let (client, server) = tokio::join!(connecting, accepting);
    let chunk = bytes::Bytes::from(vec![7; 64 << 10]);
    let begin = now();
    for _ in 0..times {
        let (client, chunk) = (client.clone(), chunk.clone());
        let sending = tokio::spawn(async move {
            let mut stream = client.open_uni().await.unwrap();
            for _ in 0..bytes.div_ceil(chunk.len()) {
                stream.write_chunk(chunk.clone()).await.unwrap();
            }
            stream.finish().unwrap();
            stream.stopped().await.unwrap();
        });
        let mut stream = server.accept_uni().await.unwrap();
        while stream.read_chunk(usize::MAX, true).await.unwrap().is_some() {}
        sending.await.unwrap();
    }
    begin.elapsed()
}

fn dissemination(c: &mut Criterion, runtime: &Runtime) {
    for count in [100, 1_000, 10_000, 100_000] {
        let mut group = c.benchmark_group(format!("{count} creates reach 5 nodes"));
        group.sample_size(10).throughput(Throughput::Elements(count as u64));
        group.bench_function("networkdb", |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..times {
                        let nodes = cluster(5).await;
                        let begin = now();
                        write_entries(&nodes[0], count);
                        while !nodes.iter().all(|node| entries(node) == count) {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        total += begin.elapsed();
                        nodes.iter().for_each(Node::abort);
                    }
                    total
                })
            });
        });
        group.finish();
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut c = Criterion::default().configure_from_args();
    c = c.measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_millis(500));
    dissemination(&mut c, &runtime);
    initial_sync(&mut c, &runtime);
    c.final_summary();
}
