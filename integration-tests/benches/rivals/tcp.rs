//! Bare TCP: no encryption, and the kernel's own congestion control.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::participant::Failure;
use crate::streams::Carrier;

const CHUNK_BYTES: usize = 64 << 10;

pub(crate) struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
    /// Each is written by a task of its own.
    peers: Vec<Arc<Mutex<TcpStream>>>,
}

fn failed(error: std::io::Error) -> Failure {
    format!("TCP: {error}")
}

impl Carrier for Tcp {
    async fn bind() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, peers: Vec::new() })
    }

    fn address(&self) -> (SocketAddr, String) {
        (self.address, "-".to_owned())
    }

    async fn connect(&mut self, peer: SocketAddr, _: &str) -> Result<(), Failure> {
        let stream = TcpStream::connect(peer).await.map_err(failed)?;
        self.peers.push(Arc::new(Mutex::new(stream)));
        Ok(())
    }

    async fn accept(&mut self) -> Result<(), Failure> {
        let (stream, _) = self.listener.accept().await.map_err(failed)?;
        self.peers.push(Arc::new(Mutex::new(stream)));
        Ok(())
    }

    async fn send(&self, bytes: usize) -> Result<(), Failure> {
        let mut tasks = JoinSet::new();
        for peer in &self.peers {
            let peer = Arc::clone(peer);
            tasks.spawn(async move {
                let mut peer = peer.lock().await;
                let chunk = [7; CHUNK_BYTES];
                let mut left = bytes;
                while left > 0 {
                    let part = left.min(CHUNK_BYTES);
                    peer.write_all(&chunk[..part]).await?;
                    left -= part;
                }
                Ok(())
            });
        }
        tasks.join_all().await.into_iter().collect::<Result<(), _>>().map_err(failed)
    }

    async fn receive(&mut self, bytes: usize) -> Result<(), Failure> {
        let mut peer = self.peers.first().ok_or("nobody has connected")?.lock().await;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let part = left.min(CHUNK_BYTES);
            match peer.read(&mut buffer[..part]).await.map_err(failed)? {
                0 => return Err(format!("{left} bytes are missing")),
                read => left -= read,
            }
        }
        Ok(())
    }
}
