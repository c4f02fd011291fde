//! Requests that are invalid or unusual.

use std::io::Write as _;

use networkdb_http::HttpConfig;

use super::host::{Host, off_the_runtime, read_response, waiting};

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
        ("GET /v1/ nonsense\r\n\r\n".to_owned(), 400, "\"code\":\"malformed_request\""),
        (
            format!("GET /v1?{} HTTP/1.1\r\nhost: localhost\r\n\r\n", &long[..100 << 10]),
            414,
            "\"code\":\"uri_too_long\"",
        ),
        (
            format!("GET /v1/node HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"),
            431,
            "\"code\":\"head_too_large\"",
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
    assert_eq!(host.node.tables().get("net", "t", "k").unwrap().value().len(), 1 << 20);
    let response = host
        .ask("POST", "/createentry?nid=net&tname=t&key=l", "content-type: text/plain\r\n", "value=")
        .await;
    assert!(response.body.starts_with("missing parameter"), "{response:?}");
    let response = host.ask("POST", "//getentry?nid=net", form, "").await;
    assert_eq!(response.status, 307, "{response:?}");
    assert!(response.head.contains("location: /getentry?nid=net\r\n"), "{response:?}");
    host.end().await;
}
