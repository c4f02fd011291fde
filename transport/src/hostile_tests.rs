//! Peers that violate the protocol: bare quinn clients, with or without the cluster's secret.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, UdpPoller};
use tokio::time::{Instant, timeout};
use wire::{Destination, NodeName};

use crate::certificate::{Credentials, Subject, Validity};
use crate::tls::{self, Verdict};
use crate::*;

const TIMEOUT: Duration = Duration::from_secs(20);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn config(text: &str) -> Config {
    Config::new(name(text), "127.0.0.1:0".parse().unwrap(), KeySet::development())
}

fn bind(config: Config) -> (Transport, Incoming) {
    Transport::bind(config).unwrap()
}

/// A client of bare quinn.
struct Hostile {
    endpoint: quinn::Endpoint,
    credentials: Arc<Credentials>,
    subject: Subject,
}

fn credentials(subject: &Subject, keys: KeySet) -> Arc<Credentials> {
    let validity = Validity::of(&Timeouts::default());
    Arc::new(Credentials::mint(subject, keys.into(), validity, crate::certificate::wall_clock()))
}

/// A socket that sends and never receives.
#[derive(Debug)]
struct SendOnly(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for SendOnly {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.0.clone().create_io_poller()
    }
    fn try_send(&self, transmit: &Transmit<'_>) -> std::io::Result<()> {
        self.0.try_send(transmit)
    }
    fn poll_recv(
        &self,
        _context: &mut Context<'_>,
        _buffers: &mut [IoSliceMut<'_>],
        _meta: &mut [RecvMeta],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Pending
    }
    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Hostile {
    /// A peer with the cluster's secret.
    fn insider(text: &str) -> Self {
        Self::new(text, KeySet::development(), |socket| socket)
    }

    fn send_only() -> Self {
        Self::new("send-only", KeySet::development(), |socket| Arc::new(SendOnly(socket)))
    }

    fn new(
        text: &str,
        keys: KeySet,
        socket: impl Fn(Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket>,
    ) -> Self {
        let runtime = Arc::new(quinn::TokioRuntime);
        let bound = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        bound.set_nonblocking(true).unwrap();
        let bound = socket(runtime.wrap_udp_socket(bound).unwrap());
        let config = quinn::EndpointConfig::default();
        let endpoint = quinn::Endpoint::new_with_abstract_socket(config, None, bound, runtime).unwrap();
        let subject = Subject::new(name(text), ClusterName::default(), None);
        let credentials = credentials(&subject, keys);
        Self { endpoint, credentials, subject }
    }

    fn dial(&self, to: SocketAddr, protocol: &str) -> quinn::Connecting {
        let mut tls = tls::client_tls(&self.credentials, &Verdict::default());
        tls.alpn_protocols = vec![protocol.into()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        self.endpoint.connect_with(quinn::ClientConfig::new(Arc::new(crypto)), to, "x").unwrap()
    }

    /// Connects as a node does: sends an introduction and waits for the other side's.
    async fn connect(&self, to: &Transport) -> quinn::Connection {
        let connection = self.dial(to.local_address(), PROTOCOL).await.unwrap();
        self.subject.introduction.send(&connection).await.unwrap();
        connection.accept_uni().await.unwrap().read_to_end(1 << 10).await.unwrap();
        connection
    }
}

async fn stream(incoming: &mut Incoming) -> (FrameSender, FrameReceiver) {
    loop {
        let arrival = timeout(TIMEOUT, incoming.next()).await.expect("no stream arrived");
        if let Arrival::Stream { sender, receiver, .. } = arrival.unwrap() {
            return (sender, receiver);
        }
    }
}

async fn counted(transport: &Transport, wanted: impl Fn(&Statistics) -> bool) -> Statistics {
    let start = Instant::now();
    loop {
        let statistics = transport.statistics();
        if wanted(&statistics) {
            return statistics;
        }
        assert!(start.elapsed() < TIMEOUT, "{statistics:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn another_protocol_version_is_refused_with_a_reason_when_it_dials() {
    let (transport, mut incoming) = bind(config("a"));
    let error = Hostile::insider("old").dial(transport.local_address(), "networkdb/0").await.unwrap_err();
    assert_eq!(crate::error::refusal_of(&error), Some(RefusalReason::Protocol), "{error}");
    let Arrival::Refused { refusal, .. } = timeout(TIMEOUT, incoming.next()).await.unwrap().unwrap() else {
        panic!()
    };
    assert_eq!(refusal, RefusalReason::Protocol);
    assert_eq!(transport.statistics().refused_protocol, 1);
}

#[tokio::test]
async fn another_protocol_version_is_refused_with_a_reason_when_it_is_dialled() {
    let (transport, _incoming) = bind(config("a"));
    let subject = Subject::new(name("future"), ClusterName::default(), None);
    let credentials = credentials(&subject, KeySet::development());
    let mut tls = tls::server_tls(&credentials, &Verdict::default());
    tls.alpn_protocols = vec!["networkdb/99".into()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let server = quinn::Endpoint::server(server, "127.0.0.1:0".parse().unwrap()).unwrap();
    let to = Destination { name: None, address: server.local_addr().unwrap() };
    let accepting = async { server.accept().await.unwrap().await.unwrap_err() };
    let (error, _) = tokio::join!(transport.open_stream(&to), accepting);
    let error = error.unwrap_err();
    assert!(matches!(error, OpenError::Refused { refusal: RefusalReason::Protocol, .. }), "{error}");
}

#[tokio::test]
async fn a_declared_length_beyond_the_limit_ends_the_stream_and_costs_nothing() {
    let (transport, mut incoming) = bind(config("a"));
    let connection = Hostile::insider("liar").connect(&transport).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let (_sender, mut receiver) = stream(&mut incoming).await;
    let limit = wire::codec::MAX_MESSAGE_BYTES;
    assert_eq!(receiver.next().await, Err(FrameError::TooLarge { size: u32::MAX as usize, limit }));
    // The peer learns that it can stop sending.
    assert_eq!(send.stopped().await.unwrap(), Some(quinn::VarInt::from_u32(2)));
    assert_eq!(transport.statistics().frames_dropped_too_large, 1);
}

#[tokio::test]
async fn a_frame_that_drips_in_arrives_and_one_that_stalls_does_not() {
    let (transport, mut incoming) = bind(config("a"));
    let connection = Hostile::insider("slow").connect(&transport).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let dripping = tokio::spawn(async move {
        for byte in [3, 0, 0, 0, b'a', b'b', b'c', 3, 0, 0, 0, b'd'] {
            send.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        send
    });
    let (_sender, mut receiver) = stream(&mut incoming).await;
    assert_eq!(receiver.next().await.unwrap().unwrap(), "abc");
    let after = Duration::from_millis(200);
    receiver.set_timeout(after);
    // Repeated calls do not prolong the timeout of the frame.
    let start = Instant::now();
    let error = loop {
        match timeout(Duration::from_millis(10), receiver.next()).await {
            Ok(frame) => break frame.unwrap_err(),
            Err(_) => assert!(start.elapsed() < TIMEOUT),
        }
    };
    assert_eq!(error, FrameError::TimedOut { after });
    let send = dripping.await.unwrap();
    assert_eq!(send.stopped().await.unwrap(), Some(quinn::VarInt::from_u32(3)));
    assert_eq!(transport.statistics().frames_dropped_timed_out, 1);
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_an_error() {
    let (transport, mut incoming) = bind(config("a"));
    let connection = Hostile::insider("short").connect(&transport).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(&[5, 0, 0, 0, b'a']).await.unwrap();
    send.finish().unwrap();
    let (_sender, mut receiver) = stream(&mut incoming).await;
    assert_eq!(receiver.next().await, Err(FrameError::Truncated { missing: 4 }));
}

#[tokio::test]
async fn a_send_to_a_peer_that_does_not_read_times_out() {
    let (transport, mut incoming) = bind(config("a"));
    let connection = Hostile::insider("idle").connect(&transport).await;
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(&[0, 0, 0, 0]).await.unwrap();
    let (mut sender, mut receiver) = stream(&mut incoming).await;
    assert_eq!(receiver.next().await.unwrap().unwrap(), "");
    let after = Duration::from_millis(100);
    sender.set_timeout(after);
    let frame = Bytes::from(vec![0; 1 << 20]);
    let error = loop {
        let sent = timeout(TIMEOUT, sender.send(frame.clone())).await;
        if let Err(error) = sent.expect("it times out") {
            break error;
        }
    };
    assert_eq!(error, FrameError::TimedOut { after });
    assert_eq!(sender.send(frame).await, Err(FrameError::Over));
    drop(receive);
}

#[tokio::test]
async fn streams_beyond_the_limits_wait_or_are_refused() {
    let mut config = config("a");
    config.limits.streams_per_connection = 4;
    config.limits.streams = 6;
    let (transport, mut incoming) = bind(config);
    let hostile = [Hostile::insider("x"), Hostile::insider("y")];
    let mut held = Vec::new();
    let mut connections = Vec::new();
    for hostile in &hostile {
        let connection = hostile.connect(&transport).await;
        for _ in 0..4 {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(b"x").await.unwrap();
            held.push((send, receive));
        }
        // QUIC itself allows the peer no further stream.
        assert!(timeout(Duration::from_millis(50), connection.open_bi()).await.is_err());
        connections.push(connection);
    }
    let statistics = counted(&transport, |statistics| statistics.streams_refused == 2).await;
    assert_eq!(statistics.streams_accepted, 6);
    // Finished streams release their permits.
    for _ in 0..6 {
        drop(stream(&mut incoming).await);
    }
    held.clear();
    let (mut send, _receive) = timeout(TIMEOUT, connections[0].open_bi()).await.unwrap().unwrap();
    send.write_all(&[1, 0, 0, 0, b'x']).await.unwrap();
    assert_eq!(stream(&mut incoming).await.1.next().await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn spoofed_handshakes_do_not_lock_out_the_node_at_the_address() {
    let mut config = config("a");
    config.limits.handshakes_per_address = 5;
    config.timeouts.dial = Duration::from_millis(1500);
    let (transport, _incoming) = bind(config);
    let send_only = Hostile::send_only();
    let dials: Vec<_> = (0..50).map(|_| send_only.dial(transport.local_address(), PROTOCOL)).collect();
    counted(&transport, |statistics| statistics.handshakes_retried >= 45).await;
    assert_eq!(transport.half_open(), 5);
    // The same address, but a socket that receives.
    let (other, _other_incoming) = bind(super::hostile_tests::config("b"));
    let to = Destination { name: Some(name("a")), address: transport.local_address() };
    other.open_stream(&to).await.map(drop).unwrap();
    assert_eq!(transport.statistics().handshakes_failed_capped_by_address, 0);
    drop(dials);
    send_only.endpoint.close(0u32.into(), b"");
    counted(&transport, |statistics| statistics.handshakes_failed_unfinished >= 5).await;
    assert_eq!(transport.half_open(), 0);
}

#[tokio::test]
async fn handshakes_that_never_finish_are_bounded_for_each_address() {
    let mut config = config("a");
    config.limits.handshakes_per_address = 3;
    let (transport, _incoming) = bind(config);
    // They validate their address, prove their name, and then send no introduction.
    let mute = Hostile::insider("mute");
    let mut connections = Vec::new();
    for _ in 0..6 {
        connections.push(mute.dial(transport.local_address(), PROTOCOL).await.unwrap());
    }
    assert_eq!(transport.half_open(), 6, "three unvalidated, and three validated");
    assert!(mute.dial(transport.local_address(), PROTOCOL).await.is_err());
    assert_eq!(transport.statistics().handshakes_failed_capped_by_address, 1);
    // Another address is still admitted.
    let mut elsewhere = super::hostile_tests::config("b");
    elsewhere.bind = "127.0.0.2:0".parse().unwrap();
    let (other, _other_incoming) = bind(elsewhere);
    let to = Destination { name: Some(name("a")), address: transport.local_address() };
    other.open_stream(&to).await.map(drop).unwrap();
}

#[tokio::test]
async fn when_many_handshakes_are_half_open_a_sender_has_to_validate_its_address() {
    let mut config = config("a");
    config.limits.handshakes = 8;
    let (transport, _incoming) = bind(config);
    let send_only = Hostile::send_only();
    let _dials: Vec<_> = (0..50).map(|_| send_only.dial(transport.local_address(), PROTOCOL)).collect();
    counted(&transport, |statistics| statistics.handshakes_retried >= 48).await;
    assert_eq!(transport.half_open(), 2);
    // A node that receives the Retry is admitted.
    let (other, _other_incoming) = bind(super::hostile_tests::config("b"));
    let to = Destination { name: Some(name("a")), address: transport.local_address() };
    other.open_stream(&to).await.map(drop).unwrap();
}

#[tokio::test]
async fn a_late_packet_of_a_timed_out_handshake_is_not_counted_as_a_bad_certificate() {
    let (transport, _incoming) = bind(config("a"));
    // The first packet of a client, captured on its way to another address.
    let elsewhere = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let hostile = Hostile::insider("b");
    let _dial = hostile.dial(elsewhere.local_addr().unwrap(), PROTOCOL);
    let mut packet = [0; 2048];
    let (length, _) = timeout(TIMEOUT, elsewhere.recv_from(&mut packet)).await.unwrap().unwrap();
    // After a server has answered, the client sends its handshake packets to a connection id that the
    // server chose, encrypted with keys derived from the first one. With other keys the header's
    // reserved bits have the right value in one of four cases. Otherwise QUIC drops the packet.
    let first = packet[6];
    for change in 1..=255 {
        packet[6] = first ^ change;
        elsewhere.send_to(&packet[..length], transport.local_address()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let statistics = counted(&transport, |statistics| statistics.handshakes_failed_stray > 0).await;
    assert_eq!((statistics.refused_certificate, statistics.handshakes_failed_unfinished), (0, 0));
    assert_eq!(transport.half_open(), 0);
}

#[tokio::test]
async fn a_peer_that_proves_its_name_and_sends_no_introduction_is_refused() {
    let mut config = config("a");
    config.timeouts.dial = Duration::from_millis(300);
    let (transport, mut incoming) = bind(config);
    // No introduction.
    let hostile = Hostile::insider("mute");
    let connection = hostile.dial(transport.local_address(), PROTOCOL).await.unwrap();
    connection.send_datagram(Bytes::from_static(b"data")).unwrap();
    counted(&transport, |statistics| statistics.handshakes_failed_unfinished == 1).await;
    // Invalid bytes; too many bytes.
    for bytes in [b"hello, world".to_vec(), vec![0; 100_000]] {
        let connection = hostile.dial(transport.local_address(), PROTOCOL).await.unwrap();
        let mut stream = connection.open_uni().await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.finish();
        let error = timeout(TIMEOUT, connection.closed()).await.expect("it is refused");
        let refusal = crate::error::refusal_of(&error).unwrap();
        assert!(refusal.to_string().contains("introduce"), "{refusal}");
    }
    counted(&transport, |statistics| statistics.refused_introduction == 2).await;
    assert_eq!((transport.half_open(), transport.connections().len()), (0, 0));
    transport.abort();
    while let Some(arrival) = incoming.next().await {
        assert!(matches!(arrival, Arrival::Refused { .. }), "{arrival:?}");
    }
}

#[tokio::test]
async fn connections_from_one_address_are_bounded_and_others_are_accepted() {
    let mut config = config("a");
    config.limits.connections_per_address = 2;
    let (transport, _incoming) = bind(config);
    let to = Destination { name: None, address: transport.local_address() };
    let nodes = ["b", "c", "d"].map(|text| bind(super::hostile_tests::config(text)));
    for (node, _) in &nodes[..2] {
        node.open_stream(&to).await.map(drop).unwrap();
    }
    let error = nodes[2].0.open_stream(&to).await.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Refused { refusal: RefusalReason::AtCapacity, .. }), "{error}");
    assert_eq!(transport.statistics().refused_capacity, 1);
    let mut elsewhere = super::hostile_tests::config("e");
    elsewhere.bind = "127.0.0.2:0".parse().unwrap();
    let (other, _other_incoming) = bind(elsewhere);
    other.open_stream(&to).await.map(drop).unwrap();
    assert_eq!(transport.connections().len(), 3);
}

#[tokio::test]
async fn incomplete_frames_are_bounded_for_each_peer() {
    const BEGUN: usize = 200_000;
    let mut config = config("a");
    config.limits.frame_bytes = 1 << 20;
    config.limits.unfinished_bytes_per_connection = 2 << 20;
    let (transport, mut incoming) = bind(config);
    let connection = Hostile::insider("x").connect(&transport).await;
    let mut held = Vec::new();
    let (mut refused, mut readers) = (0, tokio::task::JoinSet::new());
    for _ in 0..30 {
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(&(1u32 << 20).to_le_bytes()).await.unwrap();
        let (_sender, mut receiver) = stream(&mut incoming).await;
        receiver.set_timeout(TIMEOUT);
        readers.spawn(async move { receiver.next().await });
        // The rest of the frame never arrives. A stream that was given up accepts no more.
        let _ = send.write_all(&vec![0; BEGUN]).await;
        held.push((send, receive));
    }
    let capacity = (2 << 20) / (BEGUN - crate::reassembly::UNCOUNTED_BYTES);
    while refused < 30 - capacity {
        let ended = timeout(TIMEOUT, readers.join_next()).await.expect("one is given up").unwrap();
        assert_eq!(ended.unwrap(), Err(FrameError::ReassemblyLimit));
        refused += 1;
    }
    assert_eq!(transport.statistics().frames_dropped_unfinished as usize, refused);
    // Another peer is not affected.
    let (mut send, _receive) = Hostile::insider("y").connect(&transport).await.open_bi().await.unwrap();
    send.write_all(&[&BEGUN.to_le_bytes()[..4], &vec![7; BEGUN]].concat()).await.unwrap();
    assert_eq!(stream(&mut incoming).await.1.next().await.unwrap().unwrap().len(), BEGUN);
    drop(held);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_with_a_reason() {
    let mut config = config("a");
    config.limits.connections = 2;
    let (transport, mut incoming) = bind(config);
    let to = Destination { name: None, address: transport.local_address() };
    let nodes = ["b", "c", "d"].map(|text| bind(super::hostile_tests::config(text)));
    for (node, _) in &nodes[..2] {
        node.open_stream(&to).await.map(drop).unwrap();
    }
    let error = nodes[2].0.open_stream(&to).await.map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Refused { refusal: RefusalReason::AtCapacity, .. }), "{error}");
    let refusal = loop {
        let arrival = timeout(TIMEOUT, incoming.next()).await.expect("no refusal arrived");
        if let Arrival::Refused { refusal, .. } = arrival.unwrap() {
            break refusal;
        }
    };
    assert_eq!(refusal, RefusalReason::AtCapacity);
    // The first two are not affected.
    assert_eq!(transport.connections().len(), 2);
}

#[tokio::test]
async fn garbage_is_ignored() {
    let (transport, mut incoming) = bind(config("a"));
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut byte = 0u8;
    for length in 0..1400 {
        let garbage: Vec<u8> = std::iter::repeat_with(|| {
            byte = byte.wrapping_mul(29).wrapping_add(length as u8 | 1);
            byte
        })
        .take(length)
        .collect();
        socket.send_to(&garbage, transport.local_address()).await.unwrap();
    }
    let (other, _other_incoming) = bind(config("b"));
    let to = Destination { name: Some(name("a")), address: transport.local_address() };
    let (mut sender, _receiver, _) = other.open_stream(&to).await.unwrap();
    sender.send(&b"hello"[..]).await.unwrap();
    assert_eq!(stream(&mut incoming).await.1.next().await.unwrap().unwrap(), "hello");
    assert_eq!(transport.connections().len(), 1);
}

#[tokio::test]
async fn a_loud_peer_does_not_starve_a_quiet_one() {
    let mut config = config("a");
    config.limits.datagram_receive_count = 100;
    let (transport, mut incoming) = bind(config);
    let (loud, quiet) = (Hostile::insider("loud"), Hostile::insider("quiet"));
    let (loud, quiet) = (loud.connect(&transport).await, quiet.connect(&transport).await);
    for _ in 0..1000 {
        loud.send_datagram_wait(Bytes::from_static(b"LOUD")).await.unwrap();
    }
    counted(&transport, |statistics| statistics.datagrams_dropped_untaken > 0).await;
    quiet.send_datagram(Bytes::from_static(b"quiet")).unwrap();
    counted(&transport, |statistics| statistics.datagrams_received == 101).await;
    let mut batch = Vec::new();
    assert!(incoming.next_batch(&mut batch).await);
    let from_quiet =
        |arrival: &Arrival| matches!(arrival, Arrival::Datagram { bytes, .. } if bytes == "quiet");
    assert!(batch.iter().any(from_quiet));
}
