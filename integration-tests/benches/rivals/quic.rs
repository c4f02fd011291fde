//! Bare QUIC streams: quinn with TLS 1.3 on ring and Ed25519 certificates, and the windows of our transport.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::task::JoinSet;

use crate::participant::Failure;
use crate::streams::Carrier;

const CHUNK_BYTES: usize = 64 << 10;

/// The name in every certificate.
const NAME: &str = "localhost";

pub(crate) struct Quic {
    endpoint: quinn::Endpoint,
    certificate: CertificateDer<'static>,
    address: SocketAddr,
    peers: Vec<quinn::Connection>,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    format!("QUIC: {error}")
}

fn windows() -> Arc<quinn::TransportConfig> {
    let limits = transport::Limits::default();
    let mut windows = quinn::TransportConfig::default();
    windows
        .stream_receive_window(limits.stream_window.into())
        .receive_window(limits.connection_window.into())
        .send_window(limits.connection_window.into());
    Arc::new(windows)
}

impl Carrier for Quic {
    async fn bind() -> Result<Self, Failure> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(failed)?;
        let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])
            .and_then(|parameters| parameters.self_signed(&key))
            .map_err(failed)?;
        let certificate = certificate.der().clone();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut server = quinn::ServerConfig::with_single_cert(vec![certificate.clone()], private.into())
            .map_err(failed)?;
        server.transport_config(windows());
        let socket = socket2::Socket::from(std::net::UdpSocket::bind("127.0.0.1:0").map_err(failed)?);
        // As large as the system allows, as our transport does.
        let buffer = transport::Limits::default().socket_buffer_bytes;
        let _ = socket.set_recv_buffer_size(buffer);
        let _ = socket.set_send_buffer_size(buffer);
        let runtime = Arc::new(quinn::TokioRuntime);
        let settings = quinn::EndpointConfig::default();
        let endpoint =
            quinn::Endpoint::new(settings, Some(server), socket.into(), runtime).map_err(failed)?;
        let address = endpoint.local_addr().map_err(failed)?;
        Ok(Self { endpoint, certificate, address, peers: Vec::new() })
    }

    fn address(&self) -> (SocketAddr, String) {
        (self.address, self.certificate.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    async fn connect(&mut self, peer: SocketAddr, trust: &str) -> Result<(), Failure> {
        let certificate = (0..trust.len() / 2)
            .map(|at| u8::from_str_radix(&trust[2 * at..2 * at + 2], 16).map_err(failed))
            .collect::<Result<Vec<u8>, _>>()?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.into()).map_err(failed)?;
        let mut client = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).map_err(failed)?;
        client.transport_config(windows());
        let connecting = self.endpoint.connect_with(client, peer, NAME).map_err(failed)?;
        self.peers.push(connecting.await.map_err(failed)?);
        Ok(())
    }

    async fn accept(&mut self) -> Result<(), Failure> {
        let incoming = self.endpoint.accept().await.ok_or("the endpoint has ended")?;
        self.peers.push(incoming.await.map_err(failed)?);
        Ok(())
    }

    async fn send(&self, bytes: usize) -> Result<(), Failure> {
        let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
        let mut tasks = JoinSet::new();
        for (peer, chunk) in self.peers.iter().cloned().zip(std::iter::repeat(chunk)) {
            tasks.spawn(async move {
                let mut stream = peer.open_uni().await.map_err(failed)?;
                let mut left = bytes;
                while left > 0 {
                    let part = left.min(CHUNK_BYTES);
                    stream.write_chunk(chunk.slice(..part)).await.map_err(failed)?;
                    left -= part;
                }
                stream.finish().map_err(failed)?;
                stream.stopped().await.map(drop).map_err(failed)
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    async fn receive(&mut self, bytes: usize) -> Result<(), Failure> {
        let peer = self.peers.first().ok_or("nobody has connected")?;
        let mut stream = peer.accept_uni().await.map_err(failed)?;
        let mut pieces = [const { Bytes::new() }; 64];
        let mut received = 0;
        while let Some(count) = stream.read_chunks(&mut pieces).await.map_err(failed)? {
            received += pieces[..count].iter().map(Bytes::len).sum::<usize>();
        }
        if received == bytes { Ok(()) } else { Err(format!("{received} of {bytes} bytes have arrived")) }
    }
}
