//! The document against the routes of a node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;
use networkdb::{Node, NodeConfig};
use serde_json::Value;
use tokio::sync::watch;
use transport::KeySet;
use wire::NodeName;

use super::super::model::{EntryRecord, JoinRequest, ProblemDocument};
use super::calls;
use crate::admission::{Admission, is_check};
use crate::{HttpConfig, Program};

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
async fn router() -> Router {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = NodeConfig::new(NodeName::new("n1").unwrap(), loopback, KeySet::development());
    let node = Node::start(config).await.unwrap();
    let admission = Admission::new(HttpConfig::default());
    let (_, stopping) = watch::channel(false);
    let (health, documented) = crate::health::router(node.clone()).split_for_parts();
    let below =
        super::super::router(node, Program::default(), Instant::now(), admission, stopping, &documented);
    Router::new().merge(health).nest("/v1", below)
}

async fn ask(router: &Router, method: &str, path: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    TowerToHyperService::new(router.clone()).call(request).await.unwrap()
}

async fn json(response: Response<Body>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_has_every_route_with_its_methods_and_parameters() {
    let router = router().await;
    let document = json(ask(&router, "GET", "/v1/openapi.json").await).await;
    let documented = document["paths"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    // The router shows its routes to people who find faults, and nowhere else.
    let shown = format!("{router:?}");
    let is_route = |text: &&str| text.starts_with("/v1") && !text.contains("{*") || is_check(text);
    let routes = shown.split('"').filter(is_route).map(str::to_owned);
    assert_eq!(routes.collect::<BTreeSet<_>>(), documented);
    for path in &documented {
        let sent = path.replace(['{', '}'], "");
        let refused = ask(&router, "OPTIONS", &sent).await;
        assert_eq!(refused.status(), 405, "{path}");
        let allowed = refused.headers()["allow"].to_str().unwrap().to_owned();
        let allowed = allowed.split(',').filter(|method| *method != "HEAD").collect::<BTreeSet<_>>();
        let methods = document["paths"][path].as_object().unwrap().keys().map(|method| method.to_uppercase());
        assert_eq!(
            methods.collect::<BTreeSet<_>>(),
            allowed.iter().map(|&method| method.to_owned()).collect()
        );
    }
    for (method, path, operation) in calls(&document) {
        let refused = ask(&router, &method, &(path.replace(['{', '}'], "") + "?no-such")).await;
        assert_eq!(refused.status(), 400, "{method} {path}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let query = parameters.filter(|parameter| parameter["in"] == "query");
        let names = query.map(|parameter| parameter["name"].as_str().unwrap()).collect::<BTreeSet<_>>();
        let known = json(refused).await["known"].clone();
        let known = known.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        assert_eq!(known.collect::<BTreeSet<_>>(), names, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_document_parse_and_the_page_shows_all_of_it() {
    let router = router().await;
    let document = json(ask(&router, "GET", "/v1/openapi.json").await).await;
    assert_eq!(document["openapi"], "3.1.0");
    let schemas = &document["components"]["schemas"];
    serde_json::from_value::<JoinRequest>(schemas["JoinRequest"]["example"].clone()).unwrap();
    serde_json::from_value::<EntryRecord>(schemas["EntryRecord"]["example"].clone()).unwrap();
    let response = ask(&router, "GET", "/v1/docs").await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let page = response.into_body().collect().await.unwrap().to_bytes();
    let page = std::str::from_utf8(&page).unwrap();
    let mut examples = 0;
    for (method, path, operation) in calls(&document) {
        assert!(page.contains(&format!("<code>{method} {path}</code>")), "{method} {path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let problems = response["content"]["application/problem+json"]["examples"].as_object();
            for (code, example) in problems.into_iter().flatten() {
                let problem = serde_json::from_value::<ProblemDocument>(example["value"].clone()).unwrap();
                assert_eq!((&problem.code, problem.status.to_string()), (code, status.clone()));
                assert_eq!(problem.r#type, format!("/v1/docs#{code}"));
                assert!(page.contains(&format!("<tr id=\"{code}\">")), "{code}");
                examples += 1;
            }
        }
    }
    assert!(examples > 300, "{examples}");
}
