//! Who may call what: tokens, pages of other origins, host names.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;

use http_client_for_tests::Request;
use networkdb_http::access::{Access, TokenStore, Tokens};
use networkdb_http::admin_socket::AdminSocket;
use networkdb_http::diagnostic::PATHS;
use networkdb_http::{HttpAdvice, HttpConfig, HttpListener, ListenError};

use super::host::{Host, TIMEOUT, off_the_runtime, waiting};

const READ: &str = "read-0123456789abcdefghij";
const CHANGE: &str = "change-0123456789abcdefghij";
const ADMIN: &str = "admin-0123456789abcdefghij";

fn with_tokens() -> HttpConfig {
    let tokens = Tokens::parse(&format!("read {READ}\nchange {CHANGE}\nadmin {ADMIN}\n")).unwrap();
    HttpConfig { access: Access::Tokens(Arc::new(TokenStore::new(tokens))), ..HttpConfig::default() }
}

/// Every call of the node but the checks of its health, which take no token: method, path, and the token that it needs.
async fn calls(host: &Host) -> Vec<(String, String, &'static str)> {
    let index = host.ask("GET", "/v1", &bearer(READ), "").await;
    let index: serde_json::Value = serde_json::from_str(&index.body).unwrap();
    let listed = index["calls"].as_array().unwrap().iter().map(|call| {
        let (method, path) = call["call"].as_str().unwrap().split_once(' ').unwrap();
        let path = path.split('?').next().unwrap().replace(['{', '}'], "");
        let admin = matches!(&*path, "/v1/join" | "/v1/leave") || path.starts_with("/v1/keys");
        let token = if path == "/v1/log" {
            ADMIN
        } else if method == "GET" {
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
    let listed = listed.filter(|(_, path, _)| !["/livez", "/readyz"].contains(&path.as_str()));
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
                    response.status == 403 && response.body.contains("over its Unix socket only"),
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
    let problem: serde_json::Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(problem["detail"], "this token is for reading; the call needs one for changing");
    assert_eq!(problem["code"], "role_required");
    assert!(response.head.contains("content-type: application/problem+json"), "{response:?}");
    assert!(host.node.tables().get("net", "t", "k").is_none());
    let response = host.ask("GET", create, &bearer(CHANGE), "").await;
    assert_eq!((response.status, response.body.as_str()), (200, "OK"));
    assert!(host.node.tables().get("net", "t", "k").is_some());
    let metrics = host.ask("GET", "/metrics", &bearer(READ), "").await.body;
    for (reason, count) in [("unauthorized", 1), ("forbidden", 2)] {
        let line = format!("networkdb_http_refused_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    for check in ["/livez", "/readyz"] {
        assert_eq!(host.get(check).await.status, 200, "{check} takes no token");
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
    assert_eq!(host.refused("foreign_page").await, 56);
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
    assert_eq!(host.refused("foreign_host").await, 13);
    for name in ["localhost", "127.0.0.1", "[::1]", "db.example", "DB.example."] {
        let response = host.ask("GET", "/ready", &format!("host: {name}:{port}\r\n"), "").await;
        assert_eq!((response.status, response.body.as_str()), (200, "OK\nOK"), "{name}");
    }
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

/// Entries `web/1` and `dns/1` in the networks `net` and `red`, and tokens that are limited to `net`, or to keys
/// that begin with `web/` there.
async fn with_limited_tokens() -> Host {
    let tokens =
        format!("change {CHANGE} network=net of net\nchange {WEB} network=net prefix=web/\nread {READ}\n");
    let access = Access::Tokens(Arc::new(TokenStore::new(Tokens::parse(&tokens).unwrap())));
    let host = Host::start(HttpConfig { access, ..HttpConfig::default() }).await;
    host.node.join_network("red").await.unwrap();
    for network in ["net", "red"] {
        for key in ["web/1", "dns/1"] {
            host.node.tables().create(network, "t", key, b"v".as_slice()).unwrap();
        }
    }
    host
}

const WEB: &str = "web-0123456789abcdefghij";

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_reaches_its_networks_and_keys_and_nothing_else() {
    let host = with_limited_tokens().await;
    // Which of the two tokens may make the call: that of the network, that of the keys.
    for (method, path, allowed) in [
        ("GET", "/v1", [true, true]),
        ("GET", "/v1/networks/net", [true, false]),
        ("GET", "/v1/networks/red", [false, false]),
        ("GET", "/v1/networks/%ff", [false, false]),
        ("GET", "/v1/networks/net/peers", [true, true]),
        ("GET", "/v1/networks/red/peers", [false, false]),
        ("GET", "/v1/networks/net/tables", [true, false]),
        ("GET", "/v1/networks/net/tables/t/entries", [true, false]),
        ("GET", "/v1/networks/net/tables/t/entries?prefix=web/", [true, true]),
        ("GET", "/v1/networks/net/tables/t/entries?prefix=web%2F1", [true, true]),
        ("GET", "/v1/networks/net/tables/t/entries?prefix=we", [true, false]),
        ("GET", "/v1/networks/red/tables/t/entries?prefix=web/", [false, false]),
        ("GET", "/v1/networks/net/tables/t/entries/web%2F1", [true, true]),
        ("GET", "/v1/networks/net/tables/t/entries/dns%2F1", [true, false]),
        ("GET", "/v1/networks/%72ed/tables/t/entries/web%2F1", [false, false]),
        ("PUT", "/v1/networks/net/tables/t/entries/web%2F2", [true, true]),
        ("PUT", "/v1/networks/net/tables/t/entries/", [true, false]),
        ("PUT", "/v1/networks/red/tables/t/entries/web%2F2", [false, false]),
        ("DELETE", "/v1/networks/red/tables/t/entries/web%2F1", [false, false]),
        ("POST", "/v1/networks/net/tables/t/entries", [true, false]),
        ("POST", "/v1/networks/net/tables/t/entries?prefix=web/", [true, false]),
        ("POST", "/v1/networks/red/tables/t/entries", [false, false]),
        ("DELETE", "/v1/networks/red", [false, false]),
        ("PUT", "/v1/networks/new", [false, false]),
        ("GET", "/v1/networks/net/tables/t/entries/web%2F1/explain", [true, true]),
        ("GET", "/v1/networks/net/tables/t/entries/dns%2F1/explain", [true, false]),
        ("GET", "/v1/networks/red/tables/t/entries/web%2F1/explain", [false, false]),
        ("POST", "/v1/networks/net/batch", [true, false]),
        ("POST", "/v1/networks/red/batch", [false, false]),
        ("GET", "/v1/networks/net/agreement", [true, false]),
        ("GET", "/v1/networks/red/agreement", [false, false]),
        ("GET", "/v1/members/host/explain", [false, false]),
        ("GET", "/v1/watch?network=red&prefix=web/", [false, false]),
        ("GET", "/v1/watch", [false, false]),
        ("GET", "/v1/watch?network=red", [false, false]),
        ("GET", "/v1/watch?%6eetwork=red", [false, false]),
        ("GET", "/v1/watch?network=net&network=red", [false, false]),
        ("GET", "/v1/networks", [false, false]),
        ("GET", "/v1/members", [false, false]),
        ("GET", "/v1/node", [false, false]),
        ("GET", "/v1/unknown", [false, false]),
        ("GET", "/metrics", [false, false]),
        ("GET", "/gettable?nid=net&tname=t", [false, false]),
        ("POST", "/createentry?nid=red&tname=t&key=k&value=", [false, false]),
        ("GET", "/watchedtableentries?tname=t", [false, false]),
        ("DELETE", "/v1/networks/net", [true, false]),
    ] {
        // The keys' token first: the last call leaves the network.
        for (token, allowed) in [(WEB, allowed[1]), (CHANGE, allowed[0])] {
            let response = host.ask(method, path, &bearer(token), "").await;
            let refused = response.status == 403 && response.body.contains("limited to networks or keys");
            assert_eq!(refused, !allowed, "{method} {path} with {token}: {response:?}");
        }
    }
    assert_eq!(host.node.tables().networks(), ["red"]);
    let watch = format!("GET /v1/watch?network=net HTTP/1.1\r\n{}\r\n", bearer(CHANGE));
    let mut watch = waiting(&host, 1, &watch).await.remove(0);
    let head = off_the_runtime(move || {
        let mut head = [0; 12];
        watch.read_exact(&mut head).unwrap();
        head
    });
    assert_eq!(&head.await, b"HTTP/1.1 200", "a watch of its network");
    assert_eq!(host.node.tables().entries("red", "t").len(), 2, "nothing of it was changed");
    assert_eq!(host.ask("GET", "/v1/networks", &bearer(READ), "").await.status, 200, "it has no limits");
    let invalid = host.ask("GET", "/v1/networks/%ff", &bearer(READ), "").await;
    assert!(invalid.body.contains("\"code\":\"invalid_path\""), "{invalid:?}");
    host.end().await;
}
