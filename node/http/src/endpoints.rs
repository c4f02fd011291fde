//! All HTTP endpoints of a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, LOCATION};
use hyper::{Method, StatusCode, Uri};
use membership::Member;
use tokio::runtime::Handle;
use tokio::sync::watch::Receiver;

use super::admission::{self, Admission, RequestPermits};
use super::audit::Target;
use super::diagnostic::{self, Call, TableCall};
use super::health;
use super::metrics::Metrics;
use super::permits::Permit;
use super::problem::Problem;
use super::program::Program;
use super::query::Query;
use super::reply::{Details, Peer, Reply, ReplyWriter, Spelling};
use super::streamed::streamed;
use super::ui;
use super::v1;
use super::watched_tables::WatchedTables;
use networkdb::Node;

/// The media type of a body with parameters.
const FORM: &str = "application/x-www-form-urlencoded";

/// The state of the handlers.
#[derive(Debug)]
struct Endpoints {
    node: Node,
    watched_tables: WatchedTables,
    started: Instant,
    admission: Arc<Admission>,
}

/// The router of all endpoints of `node`, behind `admission`. To be called on the runtime that serves them. Streams end when `stopping` becomes true;
/// watches of tables end with the router.
#[expect(clippy::disallowed_methods, reason = "uptime is only displayed")]
pub(super) fn router(
    node: Node,
    program: Program,
    admission: Arc<Admission>,
    stopping: Receiver<bool>,
) -> Router {
    let started = Instant::now();
    let watched_tables = WatchedTables::new(node.tables().clone(), Handle::current());
    let endpoints =
        Arc::new(Endpoints { node: node.clone(), watched_tables, started, admission: admission.clone() });
    let (health, documented) = health::router(node.clone()).split_for_parts();
    Router::new()
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(v1::wrong_method)
        // Like the original, unknown paths get a response, and all methods are treated alike.
        .fallback(diagnose)
        .with_state(endpoints)
        .merge(health.method_not_allowed_fallback(v1::wrong_method))
        .merge(ui::router())
        // `buffer_body` bounds it, by a limit of the settings.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(admission.clone(), admission::buffer_body))
        .nest("/v1", v1::router(node, program, started, admission.clone(), stopping, &documented))
        // The last layer processes a request first.
        .layer(from_fn_with_state(admission, admission::pass))
}

async fn diagnose(
    State(endpoints): State<Arc<Endpoints>>,
    Extension(permits): Extension<RequestPermits>,
    (method, uri, headers): (Method, Uri, HeaderMap),
    body: Bytes,
) -> Response {
    let path = uri.path();
    if let Some(clean) = clean_path(path) {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        // This status keeps the method: a POST must not become a GET.
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, clean + &query)]).into_response();
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
        && matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let form = if is_form { &body[..] } else { b"" };
    let query = Query::parse_form(form, uri.query().unwrap_or_default());
    let target = Target::of_query(&query);
    let spelling = if Call::is_text_only(path) { Spelling::Text } else { Spelling::of(&query) };
    let body = match Call::parse(path, &query) {
        Ok(call) => {
            tracing::debug!(path, "diagnostic call");
            endpoints.handle(call, spelling, &permits).await
        }
        Err(reply) => reply.render(spelling).into(),
    };
    let headers = [(CONTENT_TYPE, spelling.content_type()), (CACHE_CONTROL, "no-store")];
    (Extension(target), headers, body).into_response()
}

/// The path without empty parts, `.` and `..`, if it has any: the original redirects callers there.
fn clean_path(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    let clean = format!("/{}{end}", parts.join("/"));
    (clean != path && path.starts_with('/')).then_some(clean)
}

impl Endpoints {
    async fn handle(self: Arc<Self>, call: Call, spelling: Spelling, permits: &RequestPermits) -> Body {
        let admission = self.admission.clone();
        let reply = match call {
            Call::Ready => diagnostic::ready(),
            Call::Help => diagnostic::help(),
            Call::MyIp => return format!("{}\n", self.node.advertised_address().ip()).into(),
            Call::Join(seeds) => match v1::cluster::check_seeds(&seeds) {
                Ok(()) => diagnostic::joined(self.node.join(&seeds).await),
                Err(sentence) => Reply::fail(sentence),
            },
            Call::ClusterPeers => diagnostic::peers(self.cluster_peers()),
            Call::NetworkPeers(network) => diagnostic::peers(self.network_peers(&network)),
            Call::JoinNetwork(network) => diagnostic::joined_network(self.node.join_network(&network).await),
            Call::LeaveNetwork(network) => diagnostic::left_network(self.node.leave_network(&network).await),
            Call::Table(TableCall::Table { network, table, values }) => {
                let work = move |gone: &AtomicBool| {
                    self.node
                        .tables()
                        .entries_while(&network, &table, || !gone.load(Ordering::Relaxed))
                        .map(|entries| Reply::ok(Details::Entries(entries, values)).writer(spelling))
                };
                return large(admission.large_response(permits, work).await, spelling);
            }
            Call::Table(call) => diagnostic::handle_table_call(self.node.tables(), call),
            Call::WatchTable(table) => {
                let work = move |_: &AtomicBool| -> Option<ReplyWriter> {
                    let mut whole = Some(diagnostic::watch_table(&self.watched_tables, &table));
                    Some(Box::new(move |chunk| {
                        chunk.extend_from_slice(&whole.take().unwrap_or_default());
                        false
                    }))
                };
                return large(admission.large_response(permits, work).await, spelling);
            }
            Call::WatchedTableEntries(table) => {
                let work = move |_: &AtomicBool| {
                    Some(diagnostic::watched_table_entries(&self.watched_tables, &table))
                };
                return large(admission.large_response(permits, work).await, spelling);
            }
        };
        streamed(reply.writer(spelling))
    }

    /// The members that have neither failed nor left, sorted by name.
    fn cluster_peers(&self) -> Vec<Peer> {
        let members = self.node.members();
        members.iter().filter(|member| member.state.is_active()).map(peer).collect()
    }

    fn network_peers(&self, network: &str) -> Vec<Peer> {
        let members = self.node.members();
        let known = members.iter().map(|member| (member.name(), peer(member))).collect::<BTreeMap<_, _>>();
        let names = self.node.tables().network_peers(network);
        names
            .iter()
            .map(|name| known.get(name).cloned().unwrap_or(Peer { name: name.to_string(), ip: None }))
            .collect()
    }

    fn metrics(&self) -> Metrics {
        let mut members = ["alive", "suspect", "failed", "left"].map(|state| (state.to_owned(), 0)).to_vec();
        for member in self.node.members() {
            let state = member.state.to_string();
            if let Some((_, count)) = members.iter_mut().find(|(name, _)| *name == state) {
                *count += 1;
            }
        }
        let db = self.node.tables();
        let networks = db.networks().into_iter();
        // A statement of its own: the replica is locked to the end of the statement.
        let replication = db.counters().iter().collect();
        let clock_skew = db.clock_skew();
        Metrics {
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            members,
            clock_skew,
            watches: db.watch_statistics(),
            networks: networks.filter_map(|name| db.statistics(&name).map(|found| (name, found))).collect(),
            latencies: db.latencies(),
            requests: self.admission.durations.snapshot(),
            parts: vec![
                ("transport", self.node.transport().statistics().iter().collect()),
                ("membership", self.node.membership_statistics().iter().collect()),
                ("replication", replication),
                ("inquiries", self.node.inquiry_statistics().iter().collect()),
                ("http", self.admission.counters.snapshot().iter().collect()),
            ],
        }
    }
}

fn peer(member: &Member) -> Peer {
    Peer { name: member.name().to_string(), ip: Some(member.record.address.ip()) }
}

async fn metrics(State(endpoints): State<Arc<Endpoints>>) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, endpoints.metrics().text()).into_response()
}

/// The body of a response that grows with the data. It holds its permit. It is empty if the client has
/// disconnected.
fn large(made: Result<(Option<ReplyWriter>, Permit), Problem>, spelling: Spelling) -> Body {
    match made {
        Ok((Some(mut writer), permit)) => streamed(move |chunk| {
            let _permit = &permit;
            writer(chunk)
        }),
        Ok((None, _)) => Body::empty(),
        Err(refused) => Reply::fail(refused.detail).render(spelling).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::clean_path;

    #[test]
    fn paths_are_cleaned_as_the_original_does() {
        for (path, clean) in [
            ("//ready", Some("/ready")),
            ("/./ready", Some("/ready")),
            ("/a/../ready", Some("/ready")),
            ("//evil.example//x/", Some("/evil.example/x/")),
            ("/../..", Some("/")),
            ("/", None),
            ("/ready", None),
            ("/ready/", None),
            ("*", None),
        ] {
            assert_eq!(clean_path(path).as_deref(), clean, "{path}");
        }
    }
}
