//! What one client, or all, may take: connections, requests, bytes, time and memory.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use http_client_for_tests::Response;
use networkdb_http::HttpLimits;

use super::host::{Host, off_the_runtime, read_response, until_status, waiting, with_limits};

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
        let is_problem = announced.body.contains("\"code\":\"body_too_large\"");
        assert_eq!(is_problem, path.starts_with("/v1"), "{path}: {announced:?}");
        let piecewise = send("transfer-encoding: chunked", &format!("3e9\r\n{}\r\n", "v".repeat(1001))).await;
        assert_eq!(piecewise.status, 413, "{path}: {piecewise:?}");
        let slow = send("content-length: 10", "v").await;
        assert_eq!(slow.status, 408, "{path}: {slow:?}");
        assert!(slow.body.contains("0.2 seconds"), "{slow:?}");
    }
    assert_eq!(host.refused("body_too_large").await, 6);
    assert_eq!(host.refused("body_too_slow").await, 3);
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
            for byte in b"GET /v1 HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat_n(&b'x', 1000)) {
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
        response.starts_with("HTTP/1.1 408 ") && response.contains("\"code\":\"request_timeout\""),
        "{response}"
    );
    assert_eq!(host.refused("head_too_slow").await, 1);
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
    assert_eq!(host.refused("head_too_slow").await, 1);
    host.end().await;
}

/// Entries of 1 MiB: more than Linux lets the buffers of two sockets grow to, 36 MiB.
const UNBUFFERED: usize = 40;

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

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_serve_only_health_until_one_closes() {
    let limits = HttpLimits { connections: 3, requests: 1, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    // More than are reserved for health: idle connections must not block health checks.
    let mut held = waiting(&host, 3 + 100, "").await;
    for path in ["/ready", "/livez", "/readyz", "/metrics"] {
        assert_eq!(host.get(path).await.status, 200, "{path}");
    }
    let response = host.get("/v1/node").await;
    assert_eq!((response.status, response.head.contains("connection: close")), (503, true), "{response:?}");
    assert!(response.body.contains("the limit of connections is reached"), "{response:?}");
    assert!(host.refused("too_many_connections").await > 100);
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
    assert_eq!(host.refused("too_many_requests").await, 0);
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
        refused = host.refused("too_many_bodies").await;
        if host.ask("POST", entry, "", &"v".repeat(999)).await.status == 503 {
            break;
        }
        assert_eq!(host.ask("DELETE", entry, "", "").await.status, 204);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(host.refused("too_many_bodies").await, refused + 1, "three quarters of sixteen are taken");
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
    assert_eq!(host.refused("too_many_watches").await, 1);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_large_responses_beyond_the_limit_are_refused() {
    let limits = HttpLimits { requests: 2, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    for index in 0..UNBUFFERED {
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
    assert_eq!(host.refused("too_many_large_responses").await, 1);
    let (refused, waits) = refused_beside(&host, table).await;
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    assert!(refused.body.contains("the limit of 2 concurrent requests"), "{refused:?}");
    for path in ["/ready", "/livez", "/readyz"] {
        assert_eq!(host.get(path).await.status, 200, "health has permits of its own");
    }
    assert!(host.refused("too_many_requests").await > 0);
    // Their clients disconnect, so that the server need not wait for them.
    drop((stalled, waits));
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
    assert_eq!(host.refused("too_many_imports").await, 1);
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_closed_if_the_client_does_not_read_the_response() {
    let limits = HttpLimits { body_time: Duration::from_millis(500), requests: 1, ..HttpLimits::default() };
    let host = Host::start(with_limits(limits)).await;
    for index in 0..UNBUFFERED {
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
    assert_eq!(host.refused("reader_too_slow").await, 1);
    host.end().await;
}
