//! A node with an HTTP server, and clients of it.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http_client_for_tests::{Request, Response};
use networkdb::{Node, NodeConfig};
use networkdb_http::admin_socket::AdminSocket;
use networkdb_http::{HttpConfig, HttpLimits, HttpListener, HttpServer};
use transport::KeySet;
use wire::NodeName;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) http: HttpServer,
}

pub(crate) fn with_limits(limits: HttpLimits) -> HttpConfig {
    HttpConfig { limits, ..HttpConfig::default() }
}

impl Host {
    /// A node on the network `net`.
    pub(crate) async fn start(config: HttpConfig) -> Self {
        Self::start_with(config, None).await
    }

    pub(crate) async fn start_with(config: HttpConfig, socket: Option<AdminSocket>) -> Self {
        let host = Self::off_networks("host", config, socket).await;
        host.node.join_network("net").await.unwrap();
        host
    }

    pub(crate) async fn off_networks(name: &str, config: HttpConfig, socket: Option<AdminSocket>) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let node_config = NodeConfig {
            membership: membership::Config::loopback(),
            ..NodeConfig::new(NodeName::new(name).unwrap(), loopback, KeySet::development())
        };
        let node = Node::start(node_config).await.unwrap();
        let listener = HttpListener::bind(loopback, config).await.unwrap();
        let listener = match socket {
            Some(socket) => listener.with_socket(socket),
            None => listener,
        };
        let http = listener.serve(node.clone());
        Self { node, http }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http.local_address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// The response to one request with these header lines, each with a line end.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let address = self.http.local_address();
        let request = Request::new(method, path).headers(headers).body(body);
        off_the_runtime(move || request.send(address, TIMEOUT).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask("GET", path, "", "").await
    }

    /// How many requests and connections were refused for this reason.
    pub(crate) async fn refused(&self, reason: &str) -> u64 {
        let metrics = self.get("/metrics").await.body;
        let sample = format!("networkdb_http_refused_total{{reason=\"{reason}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&sample));
        line.unwrap_or_else(|| panic!("{reason} is not in\n{metrics}")).parse().unwrap()
    }

    pub(crate) async fn end(self) {
        self.http.shutdown(Duration::from_secs(1)).await;
        self.node.shutdown(Duration::from_secs(1)).await;
    }
}

pub(crate) async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

pub(crate) fn read_response(stream: &mut impl Read) -> Response {
    Response::read(stream, TIMEOUT).unwrap()
}

/// Open connections on which `request` was sent.
pub(crate) async fn waiting(host: &Host, count: usize, request: &str) -> Vec<TcpStream> {
    let mut streams = (0..count).map(|_| host.connect()).collect::<Vec<_>>();
    let request = request.to_owned();
    off_the_runtime(move || {
        streams.iter_mut().for_each(|stream| stream.write_all(request.as_bytes()).unwrap());
        streams
    })
    .await
}

/// Repeats a GET until its status is `status`, for five seconds.
pub(crate) async fn until_status(host: &Host, path: &str, status: u16) -> Response {
    for _ in 0..1000 {
        let response = host.get(path).await;
        if response.status == status {
            return response;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("five seconds later {path} is still not answered with {status}")
}
