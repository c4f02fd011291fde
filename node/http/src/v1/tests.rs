//! The calls about tables, called without HTTP's socket.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use networkdb::{ClusterName, Node, NodeConfig};
use tabledb::TableDb;
use tokio::sync::watch::{Sender, channel};
use transport::KeySet;
use wire::NodeName;

use super::model::EntryRecord;
use super::{entries, unknown, watch, with_short_requests, wrong_method};
use crate::admission::Admission;
use crate::problem::{Problem, ProblemCode};
use crate::{HttpConfig, HttpLimits};

/// A smaller limit than the default, so that the test reaches it.
const WATCHES: usize = 3;

/// A shorter timeout than the default.
const BODY_TIME: Duration = Duration::from_millis(100);

/// Timeout of a response.
const TIMEOUT: Duration = Duration::from_secs(10);

struct Server {
    db: TableDb,
    router: Router,
    stop: Sender<bool>,
}

impl Server {
    async fn new() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = NodeConfig::new(NodeName::new("n1").unwrap(), loopback, KeySet::development());
        let node = Node::start(config).await.unwrap();
        node.join_network("net").await.unwrap();
        let db = node.tables().clone();
        let (stop, stopping) = channel(false);
        let limits = HttpLimits { watches: WATCHES, body_time: BODY_TIME, ..HttpLimits::default() };
        let admission = Admission::new(HttpConfig { limits, ..HttpConfig::default() });
        let (router, _) = with_short_requests(entries::router(node, admission.clone()), admission.clone())
            .merge(entries::import_router(db.clone(), admission.clone()))
            .merge(watch::router(db.clone(), &ClusterName::default(), admission, stopping))
            .split_for_parts();
        let router = router.fallback(unknown).method_not_allowed_fallback(wrong_method);
        Self { db, router, stop }
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
        TowerToHyperService::new(self.router.clone()).call(request).await.unwrap()
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> (u16, String) {
        let response = self.send(method, path, body).await;
        let status = response.status().as_u16();
        let text = tokio::time::timeout(TIMEOUT, text(response)).await;
        (status, text.unwrap_or_else(|_| panic!("{path} is answered without an end, with status {status}")))
    }
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

fn problem(code: ProblemCode, sentence: &str) -> (u16, String) {
    (code.status().as_u16(), Problem::new(code, sentence).json())
}

#[tokio::test]
async fn an_entry_is_created_read_updated_and_deleted() {
    let (server, path) = (Server::new().await, "/networks/net/tables/tab/entries/k");
    let none = problem(ProblemCode::EntryNotFound, "entry k of table tab in network net does not exist");
    assert_eq!(server.ask(Method::GET, path, "").await, none);
    assert_eq!(server.ask(Method::POST, path, "1").await.0, 201);
    let version = server.db.get("net", "tab", "k").unwrap().version();
    let exists = format!(
        "entry k of table tab in network net exists already, with version {version}; update it, or choose another key"
    );
    let exists = Problem { version: Some(version), ..Problem::new(ProblemCode::EntryExists, exists) };
    assert_eq!(server.ask(Method::POST, path, "2").await, (409, exists.json()));
    let entry = format!(r#"{{"key":"k","value":"1","owner":"n1","version":"{version}"}}"#);
    assert_eq!(server.ask(Method::GET, path, "").await, (200, entry));
    assert_eq!(server.ask(Method::PUT, path, "2").await.0, 200);
    assert_eq!(server.ask(Method::GET, &format!("{path}?raw"), "").await, (200, "2".to_owned()));
    assert_eq!(server.ask(Method::DELETE, path, "").await, (204, String::new()));
    assert_eq!(server.ask(Method::GET, path, "").await, none);
    assert_eq!(server.ask(Method::DELETE, path, "").await.0, 404);
    assert_eq!(server.ask(Method::PUT, path, "3").await.0, 201);
}

#[tokio::test]
async fn any_name_and_any_bytes() {
    let server = Server::new().await;
    for key in ["a/b", "żółw", "..", "?&=#%", " ", ""] {
        let name = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/networks/net/tables/%2Ft%2F/entries/{name}");
        assert_eq!(server.ask(Method::POST, &path, vec![0xff, 0]).await.0, 201, "{key:?}");
        let response = server.send(Method::GET, &format!("{path}?raw"), "").await;
        assert_eq!(response.headers()["x-networkdb-owner"], "n1");
        assert_eq!(response.headers()["content-type"], "application/octet-stream");
        assert_eq!(*response.into_body().collect().await.unwrap().to_bytes(), [0xff, 0], "{key:?}");
        assert_eq!(*server.db.get("net", "/t/", key).unwrap().value(), [0xff, 0], "{key:?}");
    }
}

#[tokio::test]
async fn tables_are_listed_with_their_sizes() {
    let server = Server::new().await;
    assert_eq!(
        server.ask(Method::GET, "/networks/net/tables", "").await,
        (200, r#"{"tables":[]}"#.to_owned())
    );
    for (table, key) in [("b", "1"), ("a", "1"), ("b", "2")] {
        server.db.create("net", table, key, b"v".as_slice()).unwrap();
    }
    let tables = r#"{"tables":[{"table":"a","entries":1},{"table":"b","entries":2}]}"#;
    assert_eq!(server.ask(Method::GET, "/networks/net/tables", "").await, (200, tables.to_owned()));
}

#[tokio::test]
async fn a_table_is_read_in_parts() {
    let server = Server::new().await;
    for key in ["a/1", "a/2", "a/ż", "a/4", "b"] {
        server.db.create("net", "tab", key, b"v".as_slice()).unwrap();
    }
    let mut parts = Vec::new();
    let mut next = Some("/networks/net/tables/tab/entries?prefix=a%2F&limit=3".to_owned());
    while let Some(path) = next {
        let response = server.send(Method::GET, &path, "").await;
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        next = link
            .map(|link| link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned());
        let lines = text(response).await;
        let keys = lines.lines().map(|line| serde_json::from_str::<EntryRecord>(line).unwrap().key);
        parts.push(keys.collect::<Vec<_>>());
    }
    assert_eq!(parts, [vec!["a/1", "a/2", "a/4"], vec!["a/ż"]]);
    for wrong in ["limit=0", "limit=-1", "limit=x", "hidden=yes"] {
        let refused = server.ask(Method::GET, &format!("/networks/net/tables/tab/entries?{wrong}"), "").await;
        assert_eq!((refused.0, refused.1.contains("invalid_parameter")), (400, true), "{wrong}: {refused:?}");
    }
}

#[tokio::test]
async fn a_network_that_is_not_joined_is_an_error() {
    let server = Server::new().await;
    let not_joined = problem(ProblemCode::NetworkNotJoined, "network other is not joined on this node");
    for path in ["tables", "tables/t/entries", "tables/t/entries/k"] {
        assert_eq!(
            server.ask(Method::GET, &format!("/networks/other/{path}"), "").await,
            not_joined,
            "{path}"
        );
    }
    assert_eq!(server.ask(Method::POST, "/networks/other/tables/t/entries", "").await, not_joined);
    assert_eq!(server.ask(Method::POST, "/networks/other/tables/t/entries/k", "v").await.0, 404);
}

#[tokio::test]
async fn an_export_can_be_imported_again() {
    let (server, path) = (Server::new().await, "/networks/net/tables/tab/entries");
    for index in 0..5000 {
        server.db.create("net", "tab", &format!("k{index:05}"), vec![0xff; index % 50]).unwrap();
    }
    let response = server.send(Method::GET, path, "").await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let export = text(response).await;
    assert_eq!(export.lines().count(), 5000);
    let other = Server::new().await;
    let outcome = |created, unchanged| {
        format!(r#"{{"created":{created},"updated":0,"unchanged":{unchanged},"failed":0,"errors":[]}}"#)
    };
    assert_eq!(other.ask(Method::POST, path, export.clone()).await, (200, outcome(5000, 0)));
    assert_eq!(other.ask(Method::POST, path, export.clone()).await, (200, outcome(0, 5000)));
    let again = text(other.send(Method::GET, path, "").await).await;
    assert_eq!(without_versions(&again), without_versions(&export));
    assert_ne!(again, export, "an import writes new versions");
    let wrong = other.ask(Method::POST, &format!("{path}?mode=merge"), export).await;
    let unknown = "the parameter mode cannot be \"merge\"; it takes upsert (the default) and create";
    assert_eq!(wrong, problem(ProblemCode::InvalidParameter, unknown));
}

/// The entries of an export, without what an import ignores.
fn without_versions(export: &str) -> Vec<EntryRecord> {
    let records = export.lines().map(|line| serde_json::from_str::<EntryRecord>(line).unwrap());
    records.map(|record| EntryRecord { version: None, ..record }).collect()
}

#[tokio::test]
async fn a_value_beyond_all_limits_is_not_even_read() {
    let server = Server::new().await;
    let path = "/networks/net/tables/tab/entries/k";
    let (status, sentence) = server.ask(Method::POST, path, vec![0; (4 << 20) + 1]).await;
    assert_eq!(status, 413, "{sentence}");
    let (status, sentence) = server.ask(Method::POST, path, vec![0; (1 << 20) + 1]).await;
    assert_eq!(status, 413, "{sentence}");
    assert!(sentence.contains("1048577"), "{sentence}");
    let long = "k".repeat(1025);
    assert_eq!(
        server.ask(Method::POST, &format!("/networks/net/tables/tab/entries/{long}"), "v").await.0,
        400
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_present_entries_then_changes_and_ends_with_the_server() {
    let server = Server::new().await;
    server.db.create("net", "tab", "before", b"1".as_slice()).unwrap();
    let mut body = server.send(Method::GET, "/watch?network=net&table=tab", "").await.into_body();
    let mut lines = Vec::new();
    let next = async |lines: &mut Vec<String>, body: &mut Body, wanted| {
        while lines.len() < wanted {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            lines.extend(std::str::from_utf8(&piece).unwrap().lines().map(str::to_owned));
        }
    };
    next(&mut lines, &mut body, 2).await;
    let created = server.db.get("net", "tab", "before").unwrap().version();
    let updated = server.db.update("net", "tab", "before", b"2".as_slice()).unwrap();
    server.db.create("net", "other", "k", b"x".as_slice()).unwrap();
    server.db.delete("net", "tab", "before").unwrap();
    next(&mut lines, &mut body, 4).await;
    let entry = r#""network":"net","table":"tab","key":"before""#;
    let owner = r#""owner":"n1""#;
    let cursors: Vec<String> = lines
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["cursor"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected = [
        format!(r#"{{"event":"put",{entry},"value":"1",{owner},"version":"{created}""#),
        r#"{"event":"synchronised","compared":false"#.to_owned(),
        format!(r#"{{"event":"put",{entry},"value":"2","previous":"1",{owner},"version":"{updated}""#),
        format!(r#"{{"event":"delete",{entry},"previous":"2",{owner},"reason":"deleted""#),
    ];
    let complete =
        expected.iter().zip(&cursors).map(|(line, cursor)| format!(r#"{line},"cursor":"{cursor}"}}"#));
    assert_eq!(lines, complete.collect::<Vec<_>>());
    // Resumed behind the end of the snapshot, also with the cursor in the header.
    for header in [false, true] {
        let path = if header {
            "/watch?network=net&table=tab"
        } else {
            &format!("/watch?network=net&table=tab&cursor={}", cursors[1])
        };
        let mut request = Request::builder().uri(path);
        if header {
            request = request.header("Last-Event-ID", &cursors[1]);
        }
        let response =
            TowerToHyperService::new(server.router.clone()).call(request.body(Body::empty()).unwrap());
        let mut resumed = response.await.unwrap().into_body();
        let mut again = Vec::new();
        next(&mut again, &mut resumed, 3).await;
        assert_eq!(again[..2], lines[2..]);
        assert!(again[2].starts_with(r#"{"event":"synchronised""#), "{again:?}");
    }
    let mut other =
        server.send(Method::GET, &format!("/watch?network=net&cursor={}", cursors[1]), "").await.into_body();
    let mut again = Vec::new();
    next(&mut again, &mut other, 1).await;
    assert!(again[0].starts_with(r#"{"event":"reset","reason":"other_filter""#), "{again:?}");
    server.stop.send_replace(true);
    let last = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let last = std::str::from_utf8(&last).unwrap();
    assert_eq!(last, format!("{{\"event\":\"closing\",\"cursor\":\"{}\"}}\n", cursors[3]));
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_watch_that_cannot_be_answered_is_refused() {
    let server = Server::new().await;
    let refused = async |path: &str, accept: &str| {
        let request = Request::builder().uri(path).header("accept", accept).body(Body::empty()).unwrap();
        let response = TowerToHyperService::new(server.router.clone()).call(request).await.unwrap();
        (response.status().as_u16(), text(response).await)
    };
    for (path, accept, status, code) in [
        ("/watch?cursor=x", "*/*", 400, "bad_cursor"),
        ("/watch?cursor=", "*/*", 400, "bad_cursor"),
        ("/watch", "text/html", 406, "not_acceptable"),
    ] {
        let (found, document) = refused(path, accept).await;
        assert!(found == status && document.contains(&format!(r#""code":"{code}""#)), "{path}: {document}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_beyond_the_limit_are_refused_until_one_ends() {
    let server = Server::new().await;
    let mut watchers = Vec::new();
    for _ in 0..WATCHES {
        let response = server.send(Method::GET, "/watch", "").await;
        assert_eq!(response.status(), StatusCode::OK);
        watchers.push(response);
    }
    assert_eq!(server.ask(Method::GET, "/watch", "").await.0, 503);
    watchers.pop();
    for _ in 0..1000 {
        if server.send(Method::GET, "/watch", "").await.status() == StatusCode::OK {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("five seconds after a watch ended its permit is still taken");
}

#[tokio::test]
async fn an_unknown_call_points_to_the_list_of_calls() {
    let server = Server::new().await;
    let (status, sentence) = server.ask(Method::GET, "/nosuch", "").await;
    let nosuch = problem(ProblemCode::PathNotFound, "there is no call /nosuch; GET /v1 lists all calls");
    assert_eq!((status, sentence), nosuch);
    let entries = "/networks/net/tables/t/entries";
    let refused = server.send(Method::PATCH, entries, "").await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["allow"]),
        (405, &"GET,HEAD,POST".parse().unwrap())
    );
    let sentence = text(refused).await;
    assert!(sentence.contains("/networks/net/tables/t/entries does not support PATCH"), "{sentence}");
    let (status, sentence) = server.ask(Method::GET, "/networks/net/tables/t/entries/%ff", "").await;
    assert_eq!(status, 400);
    assert!(sentence.contains("a name in the path is invalid"), "{sentence}");
}
