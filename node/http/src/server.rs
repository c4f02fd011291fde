//! The HTTP server: a listener, a bounded number of connections, and an end within a bounded time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::access::Unprotected;
use super::admin_socket::AdminSocket;
use super::client_stream::ClientStream;
use super::endpoints;
use super::guard::{Guard, HttpConfig, Peer};
use super::limits::count;
use super::permits::{Caller, Permit, Permits, share};
use networkdb::Node;

/// Connections beyond the limit that are open at a time, so that the node's health can be asked for all the same. A further one
/// ends the oldest: who holds one without asking cannot keep others out, for it takes a moment to ask.
const RESERVED_CONNECTIONS: usize = 32;

/// Connections of the node's own user at a time, over the Unix socket.
const OWNER_CONNECTIONS: usize = 32;

/// How long one of those that are reserved lasts.
const RESERVED_TIME: Duration = Duration::from_secs(2);

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
    socket: Option<AdminSocket>,
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
        Ok(Self { listener, local_address, socket: None, config })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Answers the node's own user on `socket` as well.
    pub fn with_socket(self, socket: AdminSocket) -> Self {
        Self { socket: Some(socket), ..self }
    }

    /// Serves the endpoints of `node` from now on.
    pub fn serve(self, node: Node) -> HttpServer {
        let (stopping, stopped) = watch::channel(false);
        let guard = Guard::new(self.config);
        let router = endpoints::router(node, guard.clone(), stopped.clone());
        let serving = tokio::spawn(serve(self.listener, self.socket, router, guard, stopped));
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
    socket: Option<AdminSocket>,
    router: Router,
    guard: Arc<Guard>,
    mut stopping: watch::Receiver<bool>,
) {
    let permits = Permits::new(guard.limits.connections, guard.limits.connections);
    let graceful = GracefulShutdown::new();
    // The connections end with this task: a JoinSet aborts what it holds when it is dropped.
    let (mut connections, mut owners) = (JoinSet::new(), JoinSet::new());
    let mut reserved = Reserved::default();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => Accepted::Caller(accepted),
            accepted = accept_owner(socket.as_ref()) => Accepted::Owner(accepted),
        };
        let accepted = match accepted {
            Accepted::Caller(accepted) => accepted,
            Accepted::Owner(accepted) => {
                while owners.try_join_next().is_some() {}
                match accepted {
                    // Those of the node's user are few, and not to be kept out by anybody's.
                    Ok(stream) if owners.len() < OWNER_CONNECTIONS => {
                        let peer = Peer { caller: Caller::Owner, reserved: false };
                        let (router, guard) = (router.clone(), guard.clone());
                        owners.spawn(serve_connection(stream, peer, None, router, guard, &graceful));
                    }
                    Ok(_) => count(&guard.counters.connections_refused),
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (stream, caller) = match accepted {
            Ok((stream, address)) => (stream, Caller::at(address.ip())),
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
        let permit = permits.take_of(caller, guard.limits.connections_of(caller), 1);
        let is_reserved = permit.is_none();
        let peer = Peer { caller, reserved: is_reserved };
        let task = connections.spawn(serve_connection(
            stream,
            peer,
            permit,
            router.clone(),
            guard.clone(),
            &graceful,
        ));
        if is_reserved {
            count(&guard.counters.connections_refused);
            reserved.add(caller, task);
        }
    }
    drop((listener, socket));
    graceful.shutdown().await;
}

/// The connections beyond the limit, the oldest first.
#[derive(Debug, Default)]
struct Reserved(Vec<(Caller, AbortHandle)>);

impl Reserved {
    /// Takes in another one, and ends the oldest if there are too many: of this caller, or else of all.
    fn add(&mut self, caller: Caller, task: AbortHandle) {
        self.0.retain(|(_, task)| !task.is_finished());
        let own = self.0.iter().filter(|(other, _)| *other == caller).count();
        let oldest = if own >= share(RESERVED_CONNECTIONS) {
            self.0.iter().position(|(other, _)| *other == caller)
        } else {
            (self.0.len() >= RESERVED_CONNECTIONS).then_some(0)
        };
        if let Some(oldest) = oldest {
            self.0.remove(oldest).1.abort();
        }
        self.0.push((caller, task));
    }
}

/// Who has come.
enum Accepted {
    Caller(io::Result<(TcpStream, SocketAddr)>),
    Owner(io::Result<UnixStream>),
}

/// The next connection of the node's user; none ever without a socket.
async fn accept_owner(socket: Option<&AdminSocket>) -> io::Result<UnixStream> {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}

/// Serves one caller until either side ends it; a reserved connection only what shows the node's health, and not for long.
fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    permit: Option<Permit>,
    router: Router,
    guard: Arc<Guard>,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<S> {
    let limits = &guard.limits;
    let (stream, kept) = ClientStream::new(stream, limits.body_time);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let head_time = if peer.reserved { limits.head_time.min(RESERVED_TIME) } else { limits.head_time };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    async move {
        let longest = if peer.reserved { RESERVED_TIME } else { Duration::MAX };
        let _permit = permit;
        let Ok(ended) = tokio::time::timeout(longest, connection).await else { return };
        if let Some(status) = kept.bare_refusal() {
            count(&guard.counters.heads_refused);
            kept.last_word(refusal_of_a_head(status)).await;
            return;
        }
        let Err(error) = ended else { return };
        tracing::debug!(%error, "a connection broke");
        if kept.is_stalled() {
            count(&guard.counters.readers_too_slow);
        } else if error.is_timeout() && kept.is_unanswered() {
            count(&guard.counters.heads_too_slow);
            kept.last_word(plain_answer("408 Request Timeout", TOO_SLOW)).await;
        }
    }
}

/// What is answered to a head that the HTTP library refused.
fn refusal_of_a_head(status: u16) -> String {
    match status {
        414 => plain_answer(
            "414 URI Too Long",
            "the address of a request may have 65,534 bytes; parameters that take more go into the body of a POST as \
             application/x-www-form-urlencoded",
        ),
        431 => plain_answer(
            "431 Request Header Fields Too Large",
            "the head of a request is longer than this node reads, or has more than 100 headers; parameters that take more go \
             into the body of a POST as application/x-www-form-urlencoded",
        ),
        _ => plain_answer("400 Bad Request", "this is no request of HTTP/1.1"),
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
