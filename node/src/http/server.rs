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
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::access::Unprotected;
use super::client_stream::{ClientStream, last_word};
use super::endpoints;
use super::guard::{Guard, HttpConfig};
use super::limits::count;
use super::places::{Place, Places};
use crate::Node;

/// At most this many of those that are turned away are told why at a time; the rest are only cut off.
const LAST_WORDS: usize = 16;

/// To whom there is no room for.
const NO_ROOM: &str = "as many connections as may are open already; try again later";

/// To whom has begun a request and did not go on.
const TOO_SLOW: &str = "the head of the request did not arrive in time";

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
    /// Other hosts could ask, and nobody said that they may.
    #[error(transparent)]
    Unprotected(#[from] Unprotected),
}

/// A port that was taken, so that nobody else gets it; nothing is answered yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    local_address: SocketAddr,
    config: HttpConfig,
}

impl HttpListener {
    /// Takes `address`; with port 0 the system chooses one. An address that other hosts reach is refused, unless
    /// `config` asks for tokens or says that it is open.
    pub async fn bind(address: SocketAddr, config: HttpConfig) -> Result<Self, ListenError> {
        config.access.check(address)?;
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address),
            _ => ListenError::Unusable(address, error),
        })?;
        let local_address = listener.local_addr().map_err(|error| ListenError::Unusable(address, error))?;
        Ok(Self { listener, local_address, config })
    }

    /// Serves the endpoints of `node` from now on.
    pub fn serve(self, node: Node) -> HttpServer {
        let (stopping, stopped) = watch::channel(false);
        let guard = Guard::new(self.config);
        let router = endpoints::router(node, guard.clone(), stopped.clone());
        let serving = tokio::spawn(serve(self.listener, router, guard, stopped));
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

async fn serve(
    listener: TcpListener,
    router: Router,
    guard: Arc<Guard>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Places::new(guard.limits.connections, guard.limits.connections_of_a_host());
    let graceful = GracefulShutdown::new();
    // The connections end with this task: a JoinSet aborts what it holds when it is dropped.
    let (mut connections, mut last_words) = (JoinSet::new(), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        while last_words.try_join_next().is_some() {}
        let (stream, place) = match accepted {
            Ok((stream, caller)) => (stream, places.take(caller.ip())),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection broke");
            continue;
        }
        match place {
            Some(place) => {
                connections.spawn(serve_connection(stream, place, router.clone(), guard.clone(), &graceful));
            }
            None => {
                count(&guard.counters.connections_refused);
                if last_words.len() < LAST_WORDS {
                    last_words.spawn(last_word(stream, plain_answer("503 Service Unavailable", NO_ROOM)));
                }
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Serves one caller until either side ends it.
fn serve_connection(
    stream: TcpStream,
    place: Place,
    router: Router,
    guard: Arc<Guard>,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let limits = &guard.limits;
    let (stream, kept) = ClientStream::new(stream, limits.body_time);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    async move {
        let _place = place;
        let Err(error) = connection.await else { return };
        tracing::debug!(%error, "a connection broke");
        if kept.is_stalled() {
            count(&guard.counters.readers_too_slow);
        } else if error.is_timeout() && kept.is_unanswered() {
            count(&guard.counters.heads_too_slow);
            kept.last_word(plain_answer("408 Request Timeout", TOO_SLOW)).await;
        }
    }
}

/// What is answered where no request was understood.
fn plain_answer(status: &str, sentence: &str) -> String {
    let length = sentence.len() + 2;
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{sentence}\r\n"
    )
}
