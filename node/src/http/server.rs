//! The HTTP server: a listener, a bounded number of connections, and an end within a bounded time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::endpoints;
use crate::Node;

/// At most this many connections are served at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;

/// The head of a request must have arrived within this time.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// The most bytes of a request's head, values in the query string included.
const HEAD_BYTES: usize = 128 << 10;

/// How long to wait when the system refuses another connection, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port.
    #[error(
        "the HTTP address {0} is in use by another program; choose another one with --http, or port 0 for any that is free"
    )]
    InUse(SocketAddr),
    /// The address is none of this host's, or something else is wrong with it.
    #[error("cannot listen for HTTP on {0}: {1}; choose an address of this host with --http")]
    Unusable(SocketAddr, io::Error),
}

/// A port that was taken, so that nobody else gets it; nothing is answered yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    local_address: SocketAddr,
}

impl HttpListener {
    /// Takes `address`; with port 0 the system chooses one.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address),
            _ => ListenError::Unusable(address, error),
        })?;
        let local_address = listener.local_addr().map_err(|error| ListenError::Unusable(address, error))?;
        Ok(Self { listener, local_address })
    }

    /// Serves the endpoints of `node` from now on.
    pub fn serve(self, node: Node) -> HttpServer {
        let (stopping, stopped) = watch::channel(false);
        let router = endpoints::router(node, stopped.clone());
        let serving = tokio::spawn(serve(self.listener, router, stopped));
        HttpServer { local_address: self.local_address, stopping, serving }
    }
}

/// A running server. Dropping it ends it at once.
#[derive(Debug)]
pub struct HttpServer {
    local_address: SocketAddr,
    stopping: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl HttpServer {
    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Takes no more requests, answers those that are under way, ends streams, and gives up on the rest after `limit`.
    pub async fn shutdown(mut self, limit: Duration) {
        self.stopping.send_replace(true);
        if tokio::time::timeout(limit, &mut self.serving).await.is_err() {
            self.serving.abort();
            let _ = (&mut self.serving).await;
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stopping.send_replace(true);
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    // The connections end with this task: a JoinSet aborts what it holds when it is dropped.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _from) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}
