//! The HTTP server: its listener, a bounded number of connections, and a shutdown within a bounded time.

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
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::access::Unprotected;
use super::admin_socket::AdminSocket;
use super::admission::{Admission, HttpConfig};
use super::client_origin::ClientOrigin;
use super::client_stream::ClientStream;
use super::endpoints;
use super::limits::HttpLimits;
use super::permits::{Caller, Permit, Permits, share};
use super::problem::{PROBLEM_JSON, Problem, ProblemCode};
use super::program::Program;
use super::tls::CertificateStore;
use networkdb::Node;

/// The most concurrent connections beyond the limit, which serve health and metrics only. A further one
/// closes the oldest, so that idle connections cannot block health checks.
const RESERVED_CONNECTIONS: usize = 32;

/// The most concurrent connections of the node's own user over the Unix socket.
const OWNER_CONNECTIONS: usize = 32;

/// The longest duration of a reserved connection.
const RESERVED_TIME: Duration = Duration::from_secs(2);

/// The response to a client that began a request and did not complete its head.
const TOO_SLOW: &str = "the head of the request did not arrive in time";

/// The pause after the system refused a connection, for example because it has no free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another program has the port.
    #[error("the HTTP address {0} is in use by another program")]
    InUse(SocketAddr),
    /// The system refused the address, for example because it is not an address of this host.
    #[error("cannot listen for HTTP on {0}: {1}")]
    Unusable(SocketAddr, io::Error),
    /// Other hosts could reach it, and the settings neither require tokens nor declare it open.
    #[error(transparent)]
    Unprotected(#[from] Unprotected),
}

/// A bound port on which nothing is served yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    local_address: SocketAddr,
    socket: Option<AdminSocket>,
    program: Program,
    config: HttpConfig,
}

impl HttpListener {
    /// Binds `address`; with port 0 the system chooses a port. An address that other hosts can reach is
    /// refused, unless `config` requires tokens or declares it open.
    pub async fn bind(address: SocketAddr, config: HttpConfig) -> Result<Self, ListenError> {
        config.access.check(address)?;
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address),
            _ => ListenError::Unusable(address, error),
        })?;
        let local_address = listener.local_addr().map_err(|error| ListenError::Unusable(address, error))?;
        Ok(Self { listener, local_address, socket: None, program: Program::default(), config })
    }

    /// The address on which it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Also serves the node's own user on `socket`.
    pub fn with_socket(self, socket: AdminSocket) -> Self {
        Self { socket: Some(socket), ..self }
    }

    /// Also offers this of the program that runs the node.
    pub fn with_program(self, program: Program) -> Self {
        Self { program, ..self }
    }

    /// Serves the endpoints of `node` from now on.
    pub fn serve(self, node: Node) -> HttpServer {
        let (stopping, stopped) = watch::channel(false);
        let certificate = self.config.certificate.clone();
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let admission = Admission::new(self.config);
        let router = endpoints::router(node, self.program, admission.clone(), stopped.clone());
        let endpoints = Endpoints { router, admission, stopped };
        let serving = tokio::spawn(serve(self.listener, self.socket, certificate, endpoints));
        HttpServer { local_address: self.local_address, scheme, stopping, serving }
    }
}

/// A running server. Dropping it stops it at once.
#[derive(Debug)]
pub struct HttpServer {
    local_address: SocketAddr,
    scheme: &'static str,
    stopping: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl HttpServer {
    /// The address on which it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Its URL, without a path: `https://ADDRESS:PORT` if it has a certificate.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.local_address)
    }

    /// Accepts no more requests, completes those in progress, and ends streams. Aborts the rest after
    /// `limit`.
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

/// What each connection is served with.
#[derive(Debug, Clone)]
struct Endpoints {
    router: Router,
    admission: Arc<Admission>,
    /// Whether the server is shutting down.
    stopped: watch::Receiver<bool>,
}

async fn serve(
    listener: TcpListener,
    socket: Option<AdminSocket>,
    certificate: Option<Arc<CertificateStore>>,
    endpoints: Endpoints,
) {
    let Endpoints { admission, mut stopped, .. } = endpoints.clone();
    let permits = Permits::new(admission.limits.connections, admission.limits.connections);
    let graceful = GracefulShutdown::new();
    // The connections end with this task: a JoinSet aborts what it holds when it is dropped.
    let (mut connections, mut owners) = (JoinSet::new(), JoinSet::new());
    let mut reserved = Reserved::default();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => Accepted::Caller(accepted),
            accepted = accept_owner(socket.as_ref()) => Accepted::Owner(accepted),
        };
        let accepted = match accepted {
            Accepted::Caller(accepted) => accepted,
            Accepted::Owner(accepted) => {
                while owners.try_join_next().is_some() {}
                match accepted {
                    // A limit of its own, so that other clients cannot block the node's user.
                    Ok(stream) if owners.len() < OWNER_CONNECTIONS => {
                        let client = ClientOrigin { caller: Caller::Owner, reserved: false };
                        let (endpoints, watcher) = (endpoints.clone(), graceful.watcher());
                        owners.spawn(serve_connection(stream, client, None, endpoints, watcher));
                    }
                    Ok(_) => admission.counters.refused_too_many_connections.increment(),
                    Err(error) => {
                        tracing::debug!(%error, "connection not accepted");
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
                tracing::debug!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection broke");
            continue;
        }
        let permit = permits.take_of(caller, admission.limits.connections_of(caller), 1);
        let is_reserved = permit.is_none();
        let client = ClientOrigin { caller, reserved: is_reserved };
        let (endpoints, watcher) = (endpoints.clone(), graceful.watcher());
        let task = match &certificate {
            None => connections.spawn(serve_connection(stream, client, permit, endpoints, watcher)),
            Some(certificate) => {
                let acceptor = certificate.acceptor();
                connections.spawn(serve_over_tls(acceptor, stream, client, permit, endpoints, watcher))
            }
        };
        if is_reserved {
            admission.counters.refused_too_many_connections.increment();
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
    /// Adds a connection, and closes the oldest one if there are too many: of this caller, or else of all.
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

/// An accepted connection.
enum Accepted {
    Caller(io::Result<(TcpStream, SocketAddr)>),
    Owner(io::Result<UnixStream>),
}

/// The next connection of the node's user. Waits for ever if there is no socket.
async fn accept_owner(socket: Option<&AdminSocket>) -> io::Result<UnixStream> {
    match socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    }
}

/// The time that a client has for the head of a request, or for a TLS handshake.
fn head_time(client: ClientOrigin, limits: &HttpLimits) -> Duration {
    if client.reserved { limits.head_time.min(RESERVED_TIME) } else { limits.head_time }
}

/// Serves one connection over TLS. The client has a permit for it before the handshake begins.
async fn serve_over_tls(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    client: ClientOrigin,
    permit: Option<Permit>,
    mut endpoints: Endpoints,
    watcher: Watcher,
) {
    let counters = &endpoints.admission.counters;
    let limit = head_time(client, &endpoints.admission.limits);
    let handshake = tokio::select! {
        _ = endpoints.stopped.wait_for(|stop| *stop) => return,
        handshake = tokio::time::timeout(limit, acceptor.accept(stream)) => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => serve_connection(stream, client, permit, endpoints, watcher).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, from = %client.caller, "TLS handshake failed");
            // A client that disconnects has done nothing wrong: some only look whether the port is open.
            if error.kind() == io::ErrorKind::InvalidData {
                counters.refused_invalid_handshake.increment();
            }
        }
        Err(_) => {
            tracing::debug!(from = %client.caller, "TLS handshake not completed in time");
            counters.refused_handshake_too_slow.increment();
        }
    }
}

/// Serves one connection until either side closes it. A reserved connection serves only health and metrics,
/// for a short time.
async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    client: ClientOrigin,
    permit: Option<Permit>,
    endpoints: Endpoints,
    watcher: Watcher,
) {
    let Endpoints { router, admission, .. } = endpoints;
    let limits = &admission.limits;
    let (stream, handle) = ClientStream::new(stream, limits.body_time);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time(client, limits))
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let connection = watcher.watch(connection);
    let longest = if client.reserved { RESERVED_TIME } else { Duration::MAX };
    let _permit = permit;
    let Ok(ended) = tokio::time::timeout(longest, connection).await else { return };
    if let Some(status) = handle.bare_refusal() {
        admission.counters.refused_invalid_head.increment();
        let refusal = refusal_of_a_head(status);
        let text = final_response(&refusal, handle.is_v1());
        handle.send_final_response(text).await;
        return;
    }
    let Err(error) = ended else { return };
    tracing::debug!(%error, "connection broke");
    if handle.is_stalled() {
        admission.counters.refused_reader_too_slow.increment();
    } else if error.is_timeout() && handle.is_unanswered() {
        admission.counters.refused_head_too_slow.increment();
        let refusal = Problem::new(ProblemCode::RequestTimeout, TOO_SLOW);
        let text = final_response(&refusal, handle.is_v1());
        handle.send_final_response(text).await;
    }
}

/// Why the HTTP library refused a head.
fn refusal_of_a_head(status: u16) -> Problem {
    match status {
        414 => Problem::new(
            ProblemCode::UriTooLong,
            "the address of a request may have 65,534 bytes; send longer parameters in the body of a POST as \
             application/x-www-form-urlencoded",
        )
        .with_limit(65_534),
        431 => Problem::new(
            ProblemCode::HeadTooLarge,
            "the head of the request is longer than the limit, or has more than 100 headers; send longer \
             parameters in the body of a POST as application/x-www-form-urlencoded",
        ),
        _ => Problem::new(ProblemCode::MalformedRequest, "this is not an HTTP/1.1 request"),
    }
}

/// A response to a request that the HTTP library could not read: a problem document below `/v1`, else text.
fn final_response(problem: &Problem, is_v1: bool) -> String {
    let (kind, body) = match is_v1 {
        true => (PROBLEM_JSON, problem.json()),
        false => ("text/plain; charset=utf-8", format!("{}\r\n", problem.detail)),
    };
    let (status, length) = (problem.code.status(), body.len());
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n\
         {body}"
    )
}
