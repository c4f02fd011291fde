//! The cost of the transport compared with bare quinn, on loopback, in the same run.
//!
//! Each group measures quinn alone with the same settings of QUIC, then this crate. The ratio is printed
//! at the end of the group. The throughput of two endpoints on one machine depends on its other load, so
//! compare the two lines of one run, not different runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use networkdb_transport::{Arrival, Config, Incoming, KeySet, SendError, Transport};
use tokio::runtime::Runtime;
use wire::{Destination, NodeName};

const STREAM_BYTES: usize = 64 << 20;
const FRAME_BYTES: usize = 64 << 10;
const DATAGRAMS: usize = 50_000;
const DATAGRAM_BYTES: usize = 1000;

fn config(name: &str) -> Config {
    let mut config =
        Config::new(NodeName::new(name).unwrap(), "127.0.0.1:0".parse().unwrap(), KeySet::development());
    // Every dial of the handshake benchmark comes from the same address.
    config.limits.connections_per_address = usize::MAX;
    config.limits.connections = usize::MAX;
    config
}

fn node(name: &str) -> (Transport, Incoming) {
    Transport::bind(config(name)).unwrap()
}

fn to(transport: &Transport) -> Destination {
    Destination { name: None, address: transport.local_address() }
}

/// Two bare endpoints of quinn with the limits that the transport sets, and a connection between them.
struct Bare {
    server: quinn::Endpoint,
    client: quinn::Endpoint,
    address: SocketAddr,
}

impl Bare {
    fn new() -> Self {
        let limits = networkdb_transport::Limits::default();
        let mut quic = quinn::TransportConfig::default();
        quic.stream_receive_window(limits.stream_window.into())
            .receive_window(limits.connection_window.into())
            .send_window(limits.connection_window.into())
            .datagram_receive_buffer_size(Some(limits.datagram_receive_bytes))
            .datagram_send_buffer_size(limits.datagram_send_bytes);
        let quic = Arc::new(quic);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut server =
            quinn::ServerConfig::with_single_cert(vec![certificate.der().clone()], private.into()).unwrap();
        server.transport_config(quic.clone());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let mut client = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
        client.transport_config(quic);
        let bind = |server| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let socket = socket2::Socket::from(socket);
            let _ = socket.set_recv_buffer_size(limits.socket_buffer_bytes);
            let _ = socket.set_send_buffer_size(limits.socket_buffer_bytes);
            let runtime = Arc::new(quinn::TokioRuntime);
            quinn::Endpoint::new(quinn::EndpointConfig::default(), server, socket.into(), runtime).unwrap()
        };
        let server = bind(Some(server));
        let mut endpoint = bind(None);
        endpoint.set_default_client_config(client);
        let address = server.local_addr().unwrap();
        Self { server, client: endpoint, address }
    }

    async fn connect(&self) -> (quinn::Connection, quinn::Connection) {
        let accepting = async { self.server.accept().await.unwrap().await.unwrap() };
        let connecting = async { self.client.connect(self.address, "localhost").unwrap().await.unwrap() };
        tokio::join!(connecting, accepting)
    }
}

/// The times of both sides of a comparison.
#[derive(Default)]
struct Totals {
    bare: (Duration, u64),
    ours: (Duration, u64),
}

impl Totals {
    fn print(&self, what: &str, unit: &str, amount: f64) {
        if self.bare.1 == 0 || self.ours.1 == 0 {
            return; // Only one of them was selected.
        }
        let rate = |(time, rounds): (Duration, u64)| amount * rounds as f64 / time.as_secs_f64();
        let (bare, ours) = (rate(self.bare), rate(self.ours));
        println!("{what}: quinn {bare:.0} {unit}, transport {ours:.0} {unit}, ratio {:.2}\n", ours / bare);
    }
}

fn streams(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut totals = Totals::default();
    let mut group = criterion.benchmark_group("stream of 64 KiB frames");
    group.sample_size(10).throughput(Throughput::Bytes(STREAM_BYTES as u64));

    let (bare, (client, server)) = runtime.block_on(async {
        let bare = Bare::new();
        let connections = bare.connect().await;
        (bare, connections)
    });
    let chunk = Bytes::from(vec![7; FRAME_BYTES]);
    group.bench_function("quinn", |bencher| {
        bencher.iter_custom(|rounds| {
            let start = now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    let (client, chunk) = (client.clone(), chunk.clone());
                    let sending = tokio::spawn(async move {
                        let mut stream = client.open_uni().await.unwrap();
                        for _ in 0..STREAM_BYTES / FRAME_BYTES {
                            stream.write_chunk(chunk.clone()).await.unwrap();
                        }
                        stream.finish().unwrap();
                        stream.stopped().await.unwrap();
                    });
                    let mut stream = server.accept_uni().await.unwrap();
                    let mut pieces = [const { Bytes::new() }; 64];
                    let mut received = 0;
                    while let Some(count) = stream.read_chunks(&mut pieces).await.unwrap() {
                        received += pieces[..count].iter().map(Bytes::len).sum::<usize>();
                    }
                    assert_eq!(received, STREAM_BYTES);
                    sending.await.unwrap();
                }
            });
            let elapsed = start.elapsed();
            totals.bare = (totals.bare.0 + elapsed, totals.bare.1 + rounds);
            elapsed
        });
    });
    drop((bare, client, server));

    let ((a, _a_incoming), (b, mut b_incoming)) = runtime.block_on(async { (node("a"), node("b")) });
    group.bench_function("transport", |bencher| {
        bencher.iter_custom(|rounds| {
            let start = now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    let (mut sender, _receiver, _) = a.open_stream(&to(&b)).await.unwrap();
                    let chunk = chunk.clone();
                    let sending = tokio::spawn(async move {
                        for _ in 0..STREAM_BYTES / FRAME_BYTES {
                            sender.send(chunk.clone()).await.unwrap();
                        }
                        sender.finish().await.unwrap();
                        sender.acknowledged().await.unwrap();
                    });
                    let Some(Arrival::Stream { mut receiver, .. }) = b_incoming.next().await else {
                        panic!()
                    };
                    let mut received = 0;
                    while let Some(frame) = receiver.next().await.unwrap() {
                        received += frame.len();
                    }
                    assert_eq!(received, STREAM_BYTES);
                    sending.await.unwrap();
                }
            });
            let elapsed = start.elapsed();
            totals.ours = (totals.ours.0 + elapsed, totals.ours.1 + rounds);
            elapsed
        });
    });
    group.finish();
    totals.print("stream", "MB/s", STREAM_BYTES as f64 / 1e6);
}

fn datagrams(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut totals = Totals::default();
    let mut group = criterion.benchmark_group("datagrams of 1000 B");
    group.sample_size(10).throughput(Throughput::Elements(DATAGRAMS as u64));
    let payload = Bytes::from(vec![7; DATAGRAM_BYTES]);

    // One task sends without a pause. The benchmark measures the rate of arrival, because many datagrams
    // are lost.
    let (bare, (client, server)) = runtime.block_on(async {
        let bare = Bare::new();
        let connections = bare.connect().await;
        (bare, connections)
    });
    group.bench_function("quinn", |bencher| {
        bencher.iter_custom(|rounds| {
            let start = now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    let (client, payload) = (client.clone(), payload.clone());
                    let sending = tokio::spawn(async move {
                        loop {
                            if client.datagram_send_buffer_space() < DATAGRAM_BYTES {
                                tokio::task::yield_now().await;
                            } else {
                                client.send_datagram(payload.clone()).unwrap();
                            }
                        }
                    });
                    let server = server.clone();
                    let receiving = tokio::spawn(async move {
                        for _ in 0..DATAGRAMS {
                            server.read_datagram().await.unwrap();
                        }
                    });
                    receiving.await.unwrap();
                    sending.abort();
                }
            });
            let elapsed = start.elapsed();
            totals.bare = (totals.bare.0 + elapsed, totals.bare.1 + rounds);
            elapsed
        });
    });
    drop((bare, client, server));

    let ((a, _a_incoming), (b, b_incoming)) = runtime.block_on(async { (node("a"), node("b")) });
    let destination = to(&b);
    runtime.block_on(async { a.open_stream(&destination).await.map(drop).unwrap() });
    let mut taken = Some(b_incoming);
    group.bench_function("transport", |bencher| {
        bencher.iter_custom(|rounds| {
            let start = now();
            let mut b_incoming = taken.take().expect("put back below");
            runtime.block_on(async {
                for _ in 0..rounds {
                    let (a, destination, payload) = (a.clone(), destination.clone(), payload.clone());
                    let sending = tokio::spawn(async move {
                        loop {
                            match a.send_datagram(&destination, payload.clone()) {
                                Ok(_) => {}
                                Err(SendError::Full) => tokio::task::yield_now().await,
                                Err(error) => panic!("{error}"),
                            }
                        }
                    });
                    let receiving = tokio::spawn(async move {
                        let (mut batch, mut received) = (Vec::new(), 0);
                        while received < DATAGRAMS {
                            batch.clear();
                            b_incoming.next_batch(&mut batch).await;
                            let datagram = |arrival: &&Arrival| matches!(arrival, Arrival::Datagram { .. });
                            received += batch.iter().filter(datagram).count();
                        }
                        b_incoming
                    });
                    b_incoming = receiving.await.unwrap();
                    sending.abort();
                }
                taken = Some(b_incoming);
            });
            let elapsed = start.elapsed();
            totals.ours = (totals.ours.0 + elapsed, totals.ours.1 + rounds);
            elapsed
        });
    });
    group.finish();
    totals.print("datagrams", "a second", DATAGRAMS as f64);
}

fn handshakes(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut totals = Totals::default();
    let mut group = criterion.benchmark_group("handshake");
    group.sample_size(20);
    group.bench_function("quinn, server certificate only", |bencher| {
        let bare = runtime.block_on(async { Bare::new() });
        bencher.iter_custom(|rounds| {
            let start = now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    let (client, _server) = bare.connect().await;
                    client.close(0u32.into(), b"");
                }
            });
            let elapsed = start.elapsed();
            totals.bare = (totals.bare.0 + elapsed, totals.bare.1 + rounds);
            elapsed
        });
    });
    group.bench_function("transport, both certificates and introductions", |bencher| {
        let ((a, _a_incoming), (b, _b_incoming)) = runtime.block_on(async { (node("a"), node("b")) });
        let name = NodeName::new("b").unwrap();
        bencher.iter_custom(|rounds| {
            let start = now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    a.open_stream(&to(&b)).await.map(drop).unwrap();
                    a.disconnect(&name, None, "measured");
                }
            });
            let elapsed = start.elapsed();
            totals.ours = (totals.ours.0 + elapsed, totals.ours.1 + rounds);
            elapsed
        });
    });
    group.finish();
    totals.print("handshakes", "a second", 1.0);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, streams, datagrams, handshakes);
criterion_main!(benches);
