//! The admission check of a real node's HTTP server: tokens, pages of other origins, and limits.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http_client_for_tests::{Request, Response};
use networkdb::{Node, NodeConfig};
use networkdb_http::access::{Access, TokenStore, Tokens};
use networkdb_http::admin_socket::AdminSocket;
use networkdb_http::diagnostic::PATHS;
use networkdb_http::{HttpAdvice, HttpConfig, HttpLimits, HttpListener, HttpServer, ListenError};
use transport::KeySet;
use wire::NodeName;

const TIMEOUT: Duration = Duration::from_secs(20);
const READ: &str = "read-0123456789abcdefghij";
const CHANGE: &str = "change-0123456789abcdefghij";
const ADMIN: &str = "admin-0123456789abcdefghij";

struct Host {
    node: Node,
    http: HttpServer,
}

fn with_tokens() -> HttpConfig {
    let tokens = Tokens::parse(&format!("read {READ}\nchange {CHANGE}\nadmin {ADMIN}\n")).unwrap();
    HttpConfig { access: Access::Tokens(Arc::new(TokenStore::new(tokens))), ..HttpConfig::default() }
}

fn with_limits(limits: HttpLimits) -> HttpConfig {
    HttpConfig { limits, ..HttpConfig::default() }
}

impl Host {
    async fn start(config: HttpConfig) -> Self {
        Self::start_with(config, None).await
    }

    async fn start_with(config: HttpConfig, socket: Option<AdminSocket>) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let node_config = NodeConfig {
            membership: membership::Config::loopback(),
            ..NodeConfig::new(NodeName::new("host").unwrap(), loopback, KeySet::development())
        };
        let node = Node::start(node_config).await.unwrap();
        let listener = HttpListener::bind(loopback, config).await.unwrap();
        let listener = match socket {
            Some(socket) => listener.with_socket(socket),
            None => listener,
        };
        let http = listener.serve(node.clone());
        node.join_network("net").await.unwrap();
        Self { node, http }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http.local_address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    /// The response to one request with these header lines, each with a line end.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let address = self.http.local_address();
        let request = Request::new(method, path).headers(headers).body(body);
        off_the_runtime(move || request.send(address, TIMEOUT).unwrap()).await
    }

    async fn get(&self, path: &str) -> Response {
        self.ask("GET", path, "", "").await
    }

    async fn counter(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").await.body;
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(&format!("networkdb_http_{name}_total ")));
        line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
    }

    async fn end(self) {
        self.http.shutdown(Duration::from_secs(1)).await;
        self.node.shutdown(Duration::from_secs(1)).await;
    }
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn read_response(stream: &mut impl Read) -> Response {
    Response::read(stream, TIMEOUT).unwrap()
}

/// Every call of the node: method, path, and the token that it needs.
async fn calls(host: &Host) -> Vec<(String, String, &'static str)> {
    let index = host.ask("GET", "/v1", &bearer(READ), "").await;
    let index: serde_json::Value = serde_json::from_str(&index.body).unwrap();
    let listed = index["calls"].as_array().unwrap().iter().map(|call| {
        let (method, path) = call["call"].as_str().unwrap().split_once(' ').unwrap();
        let path = path.split('?').next().unwrap().replace(['{', '}'], "");
        let admin = path == "/v1/join" || path.starts_with("/v1/keys");
        let token = if method == "GET" {
            READ
        } else if admin {
            ADMIN
        } else {
            CHANGE
        };
        (method.to_owned(), path, token)
    });
    let changing =
        ["/joinnetwork", "/leavenetwork", "/createentry", "/updateentry", "/deleteentry", "/watchtable"];
    let diagnostic = PATHS.into_iter().flat_map(|path| {
        ["GET", "POST", "OPTIONS", "HEAD"].map(|method| {
            let token = if path == "/join" {
                ADMIN
            } else if changing.contains(&path) {
                CHANGE
            } else {
                READ
            };
            (method.to_owned(), path.to_owned(), token)
        })
    });
    let diagnostic = diagnostic.filter(|(_, path, _)| path != "/v1");
    listed.chain(diagnostic).collect()
}

fn bearer(token: &str) -> String {
    format!("host: node.example\r\nauthorization: Bearer {token}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_takes_the_token_of_its_role() {
    let host = Host::start(with_tokens()).await;
    let calls = calls(&host).await;
    assert!(calls.len() > 80, "{}", calls.len());
    for (method, path, token) in calls {
        let status = async |headers: &str| host.ask(&method, &path, headers, "").await.status;
        let what = format!("{method} {path}");
        assert_eq!(status("").await, 401, "{what} without a token");
        assert_eq!(status(&bearer("not-0123456789abcdefghij")).await, 401, "{what} with an unknown token");
        let tokens = [READ, CHANGE, ADMIN];
        let least = tokens.iter().position(|known| *known == token).unwrap();
        for (rank, token) in tokens.into_iter().enumerate() {
            if rank < least {
                assert_eq!(status(&bearer(token)).await, 403, "{what} with {token}");
            } else if path == "/v1/keys" && method != "GET" {
                let response = host.ask(&method, &path, &bearer(token), "").await;
                assert!(
                    response.status == 403 && response.body.contains("exposes secrets"),
                    "{what}: {response:?}"
                );
            } else if path != "/v1/watch" {
                // The response of a watch does not end.
                assert!(![401, 403].contains(&status(&bearer(token)).await), "{what} with {token}");
            }
        }
    }
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_sufficient_token_changes_nothing_and_learns_what_it_needs() {
    let host = Host::start(with_tokens()).await;
    let create = "/createentry?unsafe&nid=net&tname=t&key=k&value=v";
    let response = host.get(create).await;
    assert_eq!(
        (response.status, response.head.contains("www-authenticate: bearer")),
        (401, true),
        "{response:?}"
    );
    assert!(response.body.starts_with("FAIL\nError: this node requires a token"), "{response:?}");
    let response = host.ask("GET", create, &bearer(READ), "").await;
    assert_eq!(response.body, "FAIL\nError: this token is for reading; the call needs one for changing");
    let response = host.ask("POST", "/v1/networks/net/tables/t/entries/k", &bearer(READ), "v").await;
    assert_eq!(
        response.body, r#"{"error":"this token is for reading; the call needs one for changing"}"#,
        "{response:?}"
    );
    assert!(host.node.tables().get("net", "t", "k").is_none());
    let response = host.ask("GET", create, &bearer(CHANGE), "").await;
    assert_eq!((response.status, response.body.as_str()), (200, "OK"));
    assert!(host.node.tables().get("net", "t", "k").is_some());
    let metrics = host.ask("GET", "/metrics", &bearer(READ), "").await.body;
    for line in ["networkdb_http_unauthorized_total 1", "networkdb_http_forbidden_total 2"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    host.end().await;
}

#[tokio::test]
async fn an_address_that_other_hosts_reach_is_bound_only_with_tokens_or_as_open() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = HttpListener::bind(everywhere, HttpConfig::default()).await.unwrap_err();
    assert!(matches!(refused, ListenError::Unprotected(_)), "{refused}");
    let open = HttpConfig { access: Access::Open, ..HttpConfig::default() };
    assert!(HttpListener::bind(everywhere, open).await.is_ok());
    assert!(HttpListener::bind(everywhere, with_tokens()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_the_nodes_user_decides_which_nodes_are_in_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let socket = AdminSocket::bind(&path).unwrap();
    let host = Host::start_with(HttpConfig::default(), Some(socket)).await;
    let calls = [
        ("GET", "/join?members=127.0.0.1:1"),
        ("POST", "/v1/join"),
        ("POST", "/v1/keys"),
        ("PUT", "/v1/keys"),
        ("POST", "/v1/keys/0123456789abcdef/use"),
        ("DELETE", "/v1/keys/0123456789abcdef"),
    ];
    for (method, call) in calls {
        let response = host.ask(method, call, "", "").await;
        assert_eq!(response.status, 403, "{method} {call}: {response:?}");
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let request = Request::new(method, call);
        let response = off_the_runtime(move || request.send_over(&mut stream, TIMEOUT).unwrap()).await;
        assert!(![401, 403].contains(&response.status), "{method} {call}: {response:?}");
    }
    host.end().await;
    assert!(!path.exists(), "the socket is removed with the node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_changes_nothing() {
    let host = Host::start(HttpConfig::default()).await;
    let port = host.http.local_address().port();
    let create = "/createentry?unsafe&nid=net&tname=t&key=k&value=v";
    let browser = format!("host: 127.0.0.1:{port}\r\nuser-agent: Mozilla/5.0\r\n");
    for (method, path) in [
        ("GET", create),
        ("OPTIONS", create),
        ("POST", create),
        ("GET", "/leavenetwork?nid=net"),
        ("POST", "/watchtable?tname=t"),
        ("POST", "/v1/networks/net/tables/t/entries/k"),
        ("DELETE", "/v1/networks/net"),
    ] {
        for origin in [
            "origin: http://evil.example\r\n",
            "origin: null\r\n",
            "sec-fetch-site: cross-site\r\n",
            "sec-fetch-site: same-site\r\n",
            "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n",
            "sec-fetch-site: none\r\norigin: null\r\n",
            "referer: http://evil.example/\r\n",
            "",
        ] {
            let response = host.ask(method, path, &format!("{browser}{origin}"), "v").await;
            assert_eq!(response.status, 403, "{method} {path} {origin}: {response:?}");
        }
    }
    assert_eq!(host.counter("foreign_page").await, 56);
    assert!(host.node.tables().get("net", "t", "k").is_none());
    assert_eq!(host.node.tables().networks(), ["net"]);
    // A program such as curl may make the same calls. An address typed into a browser, or a link in a mail,
    // may only read.
    let response =
        host.ask("GET", create, &format!("host: 127.0.0.1:{port}\r\nuser-agent: curl/8.5.0\r\n"), "").await;
    assert_eq!((response.status, response.body.as_str()), (200, "OK"));
    let typed = format!("{browser}sec-fetch-site: none\r\nsec-fetch-mode: navigate\r\n");
    let response = host.ask("GET", "/deleteentry?nid=net&tname=t&key=k", &typed, "").await;
    assert_eq!(response.status, 403, "{response:?}");
    assert!(response.body.contains("a link from a mail"), "{response:?}");
    assert_eq!(host.ask("GET", "/getentry?nid=net&tname=t&key=k", &typed, "").await.status, 200);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_name_is_refused() {
    let advice = HttpAdvice { unknown_host: "ask its operator", ..HttpAdvice::default() };
    let config = HttpConfig { names: vec!["db.example".to_owned()], advice, ..HttpConfig::default() };
    let host = Host::start(config).await;
    let port = host.http.local_address().port();
    for name in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"] {
        // The browser considers this the page's own origin.
        let same =
            format!("host: {name}:{port}\r\norigin: http://{name}:{port}\r\nsec-fetch-site: same-origin\r\n");
        for path in ["/gettable?nid=net&tname=t", "/leavenetwork?nid=net", "/v1/node", "/metrics"] {
            let response = host.ask("GET", path, &same, "").await;
            assert_eq!(response.status, 403, "{path}: {response:?}");
            assert!(response.body.contains("use its address or localhost; ask its operator"), "{response:?}");
        }
    }
    let response =
        host.ask("GET", &format!("http://evil.example:{port}/v1/node"), "host: localhost\r\n", "").await;
    assert_eq!(response.status, 403, "{response:?}");
    assert_eq!(host.counter("foreign_host").await, 13);
    for name in ["localhost", "127.0.0.1", "[::1]", "db.example", "DB.example."] {
        let response = host.ask("GET", "/ready", &format!("host: {name}:{port}\r\n"), "").await;
        assert_eq!((response.status, response.body.as_str()), (200, "OK\nOK"), "{name}");
    }
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_in_size_and_time_on_every_route() {
    let limits =
        HttpLimits { body_bytes: 1000, body_time: Duration::from_millis(200), ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    let entry = "/v1/networks/net/tables/t/entries/k";
    assert_eq!(host.ask("POST", entry, "", &"v".repeat(1000)).await.status, 201);
    for (method, path) in [("PUT", entry), ("POST", "/createentry"), ("PUT", "/v1/networks/other")] {
        let send = async |header: &str, body: &str| {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n\r\n{body}"
            );
            let mut stream = host.connect();
            off_the_runtime(move || {
                stream.write_all(request.as_bytes()).unwrap();
                read_response(&mut stream)
            })
            .await
        };
        let announced = send("content-length: 1001", "").await;
        assert_eq!(announced.status, 413, "{path}: {announced:?}");
        assert!(announced.body.contains("1000 bytes"), "{announced:?}");
        let piecewise = send("transfer-encoding: chunked", &format!("3e9\r\n{}\r\n", "v".repeat(1001))).await;
        assert_eq!(piecewise.status, 413, "{path}: {piecewise:?}");
        let slow = send("content-length: 10", "v").await;
        assert_eq!(slow.status, 408, "{path}: {slow:?}");
        assert!(slow.body.contains("0.2 seconds"), "{slow:?}");
    }
    assert_eq!(host.counter("bodies_too_large").await, 6);
    assert_eq!(host.counter("bodies_too_slow").await, 3);
    assert_eq!(host.node.tables().networks(), ["net"]);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_arrive_in_time_is_answered_408() {
    let limits = HttpLimits { head_time: Duration::from_millis(200), ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    // One byte at a time, so that the connection is never idle.
    let mut dripping = host.connect();
    let response = off_the_runtime(move || {
        let mut other = dripping.try_clone().unwrap();
        std::thread::spawn(move || {
            for byte in b"GET /ready HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat_n(&b'x', 1000)) {
                if other.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut response = [0; 1000];
        let length = dripping.read(&mut response).unwrap();
        let _ = dripping.shutdown(Shutdown::Both);
        String::from_utf8(response[..length].to_vec()).unwrap()
    })
    .await;
    assert!(
        response.starts_with("HTTP/1.1 408 ") && response.contains("did not arrive in time"),
        "{response}"
    );
    assert_eq!(host.counter("heads_too_slow").await, 1);
    // A connection without a request is closed without a response.
    let mut silent = host.connect();
    assert_eq!(off_the_runtime(move || silent.read(&mut [0; 10]).unwrap()).await, 0);
    let mut idle = host.connect();
    let response = off_the_runtime(move || {
        idle.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        read_response(&mut idle)
    })
    .await;
    assert_eq!((response.status, response.body.as_str()), (200, "OK\nOK"));
    assert_eq!(host.counter("heads_too_slow").await, 1);
    host.end().await;
}

/// Repeats a GET until its status is `status`, for five seconds.
async fn until_status(host: &Host, path: &str, status: u16) -> Response {
    for _ in 0..1000 {
        let response = host.get(path).await;
        if response.status == status {
            return response;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("five seconds later {path} is still not answered with {status}")
}

/// The refusal of a GET of `/v1/node` while `request` waits with the last permit, and the connection of that.
/// The request that comes first takes the permit, so a `request` that was refused is sent again.
async fn refused_beside(host: &Host, request: &str) -> (Response, TcpStream) {
    let mut waits = waiting(host, 1, request).await.remove(0);
    for _ in 0..1000 {
        let response = host.get("/v1/node").await;
        if response.status == 503 {
            return (response, waits);
        }
        waits.set_nonblocking(true).unwrap();
        if waits.read(&mut [0; 12]).is_ok() {
            waits = waiting(host, 1, request).await.remove(0);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("five seconds later /v1/node is still answered beside {request:?}")
}

/// Open connections on which `request` was sent.
async fn waiting(host: &Host, count: usize, request: &str) -> Vec<TcpStream> {
    let mut streams = (0..count).map(|_| host.connect()).collect::<Vec<_>>();
    let request = request.to_owned();
    off_the_runtime(move || {
        streams.iter_mut().for_each(|stream| stream.write_all(request.as_bytes()).unwrap());
        streams
    })
    .await
}

/// Waits until responses have begun to arrive on `count` of the connections, without reading them.
async fn until_begun(streams: Vec<TcpStream>, count: usize) -> Vec<TcpStream> {
    streams.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    for _ in 0..1000 {
        if streams.iter().filter(|stream| stream.peek(&mut [0]).is_ok_and(|bytes| bytes > 0)).count() >= count
        {
            return streams;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("five seconds later fewer than {count} responses have begun")
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_serve_only_health_until_one_closes() {
    let limits = HttpLimits { connections: 3, requests: 1, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    // More than are reserved for health: idle connections must not block health checks.
    let mut held = waiting(&host, 3 + 100, "").await;
    for path in ["/ready", "/metrics"] {
        assert_eq!(host.get(path).await.status, 200, "{path}");
    }
    let response = host.get("/v1/node").await;
    assert_eq!((response.status, response.head.contains("connection: close")), (503, true), "{response:?}");
    assert!(response.body.contains("the limit of connections is reached"), "{response:?}");
    assert!(host.counter("connections_refused").await > 100);
    held.clear();
    until_status(&host, "/v1/node", 200).await;
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_leaves_connections_to_others() {
    let host = Host::start(with_limits(HttpLimits { connections: 8, ..HttpLimits::default() })).await;
    let _held = waiting(&host, 40, "").await;
    assert_eq!(host.get("/v1/node").await.status, 503);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let stream = socket.connect(host.http.local_address()).await.unwrap().into_std().unwrap();
    let response = off_the_runtime(move || {
        let mut stream = stream;
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"GET /v1/node HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        read_response(&mut stream)
    })
    .await;
    assert_eq!(response.status, 200, "{response:?}");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_arrive_hold_no_permits() {
    let host = Host::start(with_limits(HttpLimits { requests: 2, ..HttpLimits::default() })).await;
    let head =
        "POST /v1/networks/net/tables/t/entries/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nv";
    let _waiting = waiting(&host, 64, head).await;
    for _ in 0..20 {
        assert_eq!(host.get("/v1/node").await.status, 200);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(host.counter("requests_refused").await, 0);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_in_total() {
    let limits = HttpLimits { body_bytes: 1000, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    let entry = "/v1/networks/net/tables/t/entries/k";
    let head = format!("POST {entry} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n");
    let mut held = waiting(&host, 12, &(head + &"v".repeat(999))).await;
    let mut refused = 0;
    for _ in 0..1000 {
        refused = host.counter("bodies_refused").await;
        if host.ask("POST", entry, "", &"v".repeat(999)).await.status == 503 {
            break;
        }
        assert_eq!(host.ask("DELETE", entry, "", "").await.status, 204);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(host.counter("bodies_refused").await, refused + 1, "three quarters of sixteen are taken");
    held.pop();
    for _ in 0..1000 {
        if host.ask("POST", entry, "", &"v".repeat(999)).await.status == 201 {
            return host.end().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("five seconds after a body was dropped its bytes are still taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_beyond_the_limit_are_refused_and_watches_do_not_count_as_requests() {
    let limits = HttpLimits { requests: 1, watches: 2, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    host.node.tables().create("net", "t", "k", b"v".as_slice()).unwrap();
    // Two watches are in progress: each has received a response's head.
    let mut watches = waiting(&host, 2, "GET /v1/watch HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let _watches = off_the_runtime(move || {
        for watch in &mut watches {
            let mut head = [0; 12];
            watch.read_exact(&mut head).unwrap();
            assert_eq!(&head, b"HTTP/1.1 200");
        }
        watches
    })
    .await;
    let third = host.get("/v1/watch").await;
    assert_eq!(third.status, 503, "{third:?}");
    assert!(third.body.contains("the limit of 2 concurrent watches"), "{third:?}");
    assert_eq!(host.get("/v1/node").await.status, 200);
    assert_eq!(host.counter("watches_refused").await, 1);
    host.end().await;
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn large_responses_are_rendered_as_they_are_read_and_end_with_their_clients() {
    const ENTRIES: usize = 32;
    let host = Host::start(HttpConfig::default()).await;
    for index in 0..ENTRIES {
        host.node.tables().create("net", "t", &format!("{index:02}"), vec![b'x'; 1 << 20]).unwrap();
    }
    // The default limit of concurrent large responses; as a whole, each would be 32 MiB or more.
    let at_a_time = HttpLimits::default().requests / 8;
    let before = resident();
    for path in [
        "/gettable?nid=net&tname=t",
        "/gettable?nid=net&tname=t&json=pretty",
        "/v1/networks/net/tables/t/entries",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        for round in 0..3 {
            // The clients read nothing and disconnect.
            let begun = until_begun(waiting(&host, 60, &request).await, at_a_time).await;
            let grown = resident().saturating_sub(before);
            drop(begun);
            assert!(grown < 150 << 20, "after {} disconnects of {path}: {} MiB", 60 * round, grown >> 20);
        }
        until_status(&host, path, 200).await;
    }
    let response = host.get("/gettable?nid=net&tname=t&unsafe").await;
    let lines: usize =
        (0..ENTRIES).map(|index| format!("{index}) k:`00` -> v:`` owner:`host`\n").len() + (1 << 20)).sum();
    assert_eq!(response.body.len(), "OK\ntotal entries: 32\n".len() + lines);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_large_responses_beyond_the_limit_are_refused() {
    let limits = HttpLimits { requests: 2, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    for index in 0..64 {
        host.node.tables().create("net", "t", &format!("{index}"), vec![b'x'; 1 << 20]).unwrap();
    }
    let table = "GET /gettable?nid=net&tname=t HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut stalled = waiting(&host, 1, table).await;
    let stalled = off_the_runtime(move || {
        stalled[0].read_exact(&mut [0; 12]).unwrap();
        stalled
    })
    .await;
    let second = host.get("/v1/networks/net/tables/t/entries").await;
    assert_eq!(second.status, 503, "{second:?}");
    assert!(second.body.contains("the limit of 1 concurrent large responses"), "{second:?}");
    assert_eq!(host.counter("large_responses_refused").await, 1);
    let (refused, waits) = refused_beside(&host, table).await;
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    assert!(refused.body.contains("the limit of 2 concurrent requests"), "{refused:?}");
    assert_eq!(host.get("/ready").await.status, 200, "health has permits of its own");
    assert!(host.counter("requests_refused").await > 0);
    // Their clients disconnect, so that the server need not wait for them.
    drop((stalled, waits));
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_request_is_refused_with_an_explanation() {
    let host = Host::start(HttpConfig::default()).await;
    let long = "x".repeat(200 << 10);
    for (request, status, words) in [
        (
            "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\nconnection: close\r\n\r\n"
                .to_owned(),
            501,
            "not a proxy",
        ),
        ("GET /ready HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), 400, "0 Host headers"),
        (
            "GET /ready HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                .to_owned(),
            400,
            "2 Host headers",
        ),
        (
            "GET /v1/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(),
            404,
            "GET /v1 lists",
        ),
        ("nonsense\r\n\r\n".to_owned(), 400, "not an HTTP/1.1 request"),
        (
            format!("GET /ready?{} HTTP/1.1\r\nhost: localhost\r\n\r\n", &long[..100 << 10]),
            414,
            "in the body of a POST",
        ),
        (
            format!("GET /ready HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"),
            431,
            "in the body of a POST",
        ),
    ] {
        let mut stream = host.connect();
        let response = off_the_runtime(move || {
            stream.write_all(request.as_bytes()).unwrap();
            read_response(&mut stream)
        })
        .await;
        assert_eq!((response.status, response.body.contains(words)), (status, true), "{words}: {response:?}");
    }
    let old = "GET /ready HTTP/1.0\r\n\r\n";
    let mut stream = waiting(&host, 1, old).await.remove(0);
    assert_eq!(off_the_runtime(move || read_response(&mut stream)).await.status, 200, "HTTP/1.0 has no Host");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_large_values_and_unclean_paths_work_as_in_the_original() {
    let host = Host::start(HttpConfig::default()).await;
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let value = "v".repeat(1 << 20);
    let create = format!("nid=net&tname=t&key=k&unsafe&value={value}");
    let response = host.ask("POST", "/createentry?key=other", form, &create).await;
    assert_eq!(response.body, "OK");
    assert_eq!(host.node.tables().get("net", "t", "k").unwrap().value.len(), 1 << 20);
    let response = host
        .ask("POST", "/createentry?nid=net&tname=t&key=l", "content-type: text/plain\r\n", "value=")
        .await;
    assert!(response.body.starts_with("missing parameter"), "{response:?}");
    let response = host.ask("POST", "//getentry?nid=net", form, "").await;
    assert_eq!(response.status, 307, "{response:?}");
    assert!(response.head.contains("location: /getentry?nid=net\r\n"), "{response:?}");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_node_serves_programs_under_any_host_name_and_browsers_only_under_its_own() {
    let host = Host::start(HttpConfig { access: Access::Open, ..HttpConfig::default() }).await;
    let status = async |headers: &str| host.ask("GET", "/clusterpeers", headers, "").await.status;
    assert_eq!(status("host: node-7.example:2000\r\nuser-agent: Go-http-client/1.1\r\n").await, 200);
    let joined = host.get("/join?members=127.0.0.1:1").await;
    assert!(joined.body.starts_with("FAIL\nError: /join error in the DB join"), "{joined:?}");
    assert_eq!(host.ask("POST", "/v1/keys", "", "").await.status, 403, "secrets are not open");
    for browser in ["user-agent: Mozilla/5.0\r\n", "user-agent: x\r\naccept-language: en\r\n"] {
        assert_eq!(status(&format!("host: node-7.example:2000\r\n{browser}")).await, 403, "{browser}");
        assert_eq!(status(&format!("host: localhost:2000\r\n{browser}")).await, 200, "{browser}");
    }
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_leave_permits_for_short_requests() {
    let host = Host::start(with_limits(HttpLimits { requests: 4, ..HttpLimits::default() })).await;
    let import = "POST /v1/networks/net/tables/t/entries HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"key\":\"a\",\"value\":\"1\"}\n";
    let mut first = host.connect();
    let _first = off_the_runtime(move || {
        first.write_all(import.as_bytes()).unwrap();
        first
    })
    .await;
    while host.node.tables().get("net", "t", "a").is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = host.ask("POST", "/v1/networks/net/tables/t/entries", "", "{}").await;
    assert_eq!(second.status, 503, "{second:?}");
    assert!(second.body.contains("the limit of 1 concurrent imports"), "{second:?}");
    assert_eq!(host.counter("imports_refused").await, 1);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_closed_if_the_client_does_not_read_the_response() {
    let limits = HttpLimits { body_time: Duration::from_millis(500), requests: 1, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    // More than the buffers of both sockets can store.
    for index in 0..64 {
        host.node.tables().create("net", "t", &format!("{index}"), vec![b'x'; 1 << 20]).unwrap();
    }
    let mut stalled = host.connect();
    let _stalled = off_the_runtime(move || {
        stalled
            .write_all(b"GET /v1/networks/net/tables/t/entries HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        stalled.read_exact(&mut [0; 12]).unwrap();
        stalled
    })
    .await;
    assert_eq!(host.get("/v1/node").await.status, 503, "the only permit is taken");
    until_status(&host, "/v1/node", 200).await;
    assert_eq!(host.counter("readers_too_slow").await, 1);
    host.end().await;
}
