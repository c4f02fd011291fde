//! The page at `/ui`: its files and their headers.

use std::sync::Arc;

use http_client_for_tests::Response;
use networkdb_http::HttpConfig;
use networkdb_http::access::{Access, TokenStore, Tokens};
use serde_json::Value;

use super::host::Host;

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let found = response.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    found.unwrap_or_else(|| panic!("no {name} in {response:?}"))
}

/// The names of the files that `text` refers to.
fn references(text: &str) -> Vec<String> {
    let quoted = text.split('"').skip(1).step_by(2).map(|name| name.trim_start_matches("./"));
    quoted
        .filter(|name| [".js", ".css", ".svg"].iter().any(|end| name.ends_with(end)))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_all_files_that_it_names_are_served_without_a_token_and_under_a_strict_policy() {
    let tokens = Tokens::parse("read read-0123456789abcdefghij\n").unwrap();
    let access = Access::Tokens(Arc::new(TokenStore::new(tokens)));
    let host = Host::start(HttpConfig { access, ..HttpConfig::default() }).await;
    let begin = host.get("/ui").await;
    assert_eq!((begin.status, header(&begin, "location")), (308, "ui/"));

    let (mut waiting, mut seen) = (vec![String::new()], Vec::new());
    while let Some(name) = waiting.pop() {
        if seen.contains(&name) {
            continue;
        }
        let file = host.get(&format!("/ui/{name}")).await;
        assert_eq!(file.status, 200, "{name}");
        let kind = match name.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(header(&file, "content-type"), kind, "{name}");
        let policy = header(&file, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(header(&file, "x-content-type-options"), "nosniff");
        assert_eq!(header(&file, "referrer-policy"), "no-referrer");
        assert_eq!(header(&file, "cache-control"), "no-cache");

        let known = format!("if-none-match: \"other\", W/{}\r\n", header(&file, "etag"));
        let same = host.ask("GET", &format!("/ui/{name}"), &known, "").await;
        assert_eq!((same.status, same.body.as_str()), (304, ""), "{name}");
        waiting.extend(references(&file.body));
        seen.push(name);
    }
    assert!(seen.len() > 20, "{seen:?}");
    host.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_file_of_the_page_is_a_problem() {
    let host = Host::start(HttpConfig::default()).await;
    for (method, path, status, code) in [
        ("GET", "/ui/x", 404, "path_not_found"),
        ("GET", "/ui/main.js/", 404, "path_not_found"),
        ("GET", "/ui/../Cargo.toml", 404, "path_not_found"),
        ("GET", "/ui/%2e%2e/Cargo.toml", 404, "path_not_found"),
        ("POST", "/ui", 405, "method_not_allowed"),
        ("DELETE", "/ui/main.js", 405, "method_not_allowed"),
    ] {
        let refused = host.ask(method, path, "", "").await;
        assert_eq!(refused.status, status, "{method} {path}: {refused:?}");
        assert_eq!(header(&refused, "content-type"), "application/problem+json", "{method} {path}");
        let problem: Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!(problem["code"], code, "{method} {path}");
    }
    let page = host.http.local_address();
    let foreign = format!("host: {page}\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n");
    assert_eq!(
        host.ask("GET", "/ui/main.js", &foreign, "").await.status,
        403,
        "a page of another origin loads nothing"
    );
    let linked = format!("host: {page}\r\nsec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n");
    assert_eq!(
        host.ask("GET", "/ui/", &linked, "").await.status,
        200,
        "a page of another origin may link to it"
    );
    let rebound = "host: evil.example\r\n";
    assert_eq!(host.ask("GET", "/ui/", rebound, "").await.status, 403, "another name is not served");
    host.end().await;
}
