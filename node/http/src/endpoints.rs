//! All endpoints of one node, tied to it.

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
use tokio::sync::watch::Receiver;

use super::audit::Place;
use super::diagnostic::{self, Call, TableCall};
use super::guard::{self, Guard, Held};
use super::metrics::{Metrics, membership_counts, replication_counts};
use super::mirror::Mirrors;
use super::permits::Permit;
use super::query::Query;
use super::reply::{Details, Peer, Reply, ReplyWriter, Spelling};
use super::streamed::streamed;
use super::v1::{self, Refused};
use networkdb::Node;

/// What a body of parameters calls itself.
const FORM: &str = "application/x-www-form-urlencoded";

/// What the handlers share.
#[derive(Debug)]
struct Endpoints {
    node: Node,
    mirrors: Mirrors,
    started: Instant,
    guard: Arc<Guard>,
}

/// All endpoints of `node`, behind `guard`. Streams end when `stopping` becomes true; followers of tables end with the router.
#[expect(clippy::disallowed_methods, reason = "this is the shell: uptime is told to people")]
pub(super) fn router(node: Node, guard: Arc<Guard>, stopping: Receiver<bool>) -> Router {
    let started = Instant::now();
    let mirrors = Mirrors::new(node.tables().clone());
    let endpoints = Arc::new(Endpoints { node: node.clone(), mirrors, started, guard: guard.clone() });
    Router::new()
        .route("/metrics", get(metrics))
        // Whatever is not known is answered too, and any method is as good as GET: so does the original.
        .fallback(diagnose)
        .with_state(endpoints)
        // Bounded already, and by a limit that can be set.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(guard.clone(), guard::take_short))
        .nest("/v1", v1::router(node, started, guard.clone(), stopping))
        // The last layer is the first that a request meets.
        .layer(from_fn_with_state(guard, guard::pass))
}

async fn diagnose(
    State(endpoints): State<Arc<Endpoints>>,
    Extension(held): Extension<Held>,
    (method, uri, headers): (Method, Uri, HeaderMap),
    body: Bytes,
) -> Response {
    let path = uri.path();
    if let Some(clean) = clean_path(path) {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        // The method stays: what a POST does is not to be asked for by GET.
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, clean + &query)]).into_response();
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM))
        && matches!(method, Method::POST | Method::PUT | Method::PATCH);
    let form = if is_form { &body[..] } else { b"" };
    let query = Query::parse_form(form, uri.query().unwrap_or_default());
    let place = Place::of_query(&query);
    let spelling = if Call::speaks_text_only(path) { Spelling::Text } else { Spelling::of(&query) };
    let body = match Call::parse(path, &query) {
        Ok(call) => {
            tracing::debug!(path, "diagnostic call");
            endpoints.answer(call, spelling, &held).await
        }
        Err(reply) => reply.render(spelling).into(),
    };
    let headers = [(CONTENT_TYPE, spelling.content_type()), (CACHE_CONTROL, "no-store")];
    (Extension(place), headers, body).into_response()
}

/// The path without empty parts, `.` and `..`, if it has any: the original sends callers there.
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
    async fn answer(self: Arc<Self>, call: Call, spelling: Spelling, held: &Held) -> Body {
        let guard = self.guard.clone();
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
            Call::JoinNetwork(network) => diagnostic::done(self.node.join_network(&network).await),
            Call::LeaveNetwork(network) => {
                diagnostic::done(self.node.leave_network(&network).await.map(drop))
            }
            Call::Table(TableCall::Table { network, table, values }) => {
                let work = move |gone: &AtomicBool| {
                    self.node
                        .tables()
                        .entries_while(&network, &table, || !gone.load(Ordering::Relaxed))
                        .map(|entries| Reply::ok(Details::Entries(entries, values)).writer(spelling))
                };
                return large(guard.large_answer(held, work).await, spelling);
            }
            Call::Table(call) => diagnostic::answer_table_call(self.node.tables(), call),
            Call::WatchTable(table) => {
                let work = move |_: &AtomicBool| -> Option<ReplyWriter> {
                    let mut whole = Some(diagnostic::watch_table(&self.mirrors, &table));
                    Some(Box::new(move |piece| {
                        piece.extend_from_slice(&whole.take().unwrap_or_default());
                        false
                    }))
                };
                return large(guard.large_answer(held, work).await, spelling);
            }
            Call::WatchedTableEntries(table) => {
                let work =
                    move |_: &AtomicBool| Some(diagnostic::watched_table_entries(&self.mirrors, &table));
                return large(guard.large_answer(held, work).await, spelling);
            }
        };
        streamed(reply.writer(spelling))
    }

    /// The members that are not known to have failed or left, sorted by name.
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
        // By itself: the replica stays locked to the end of the statement.
        let replication = replication_counts(&db.replica().counters());
        let clock_skew = db.replica().clock_skew();
        Metrics {
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            members,
            clock_skew,
            networks: networks.filter_map(|name| db.statistics(&name).map(|found| (name, found))).collect(),
            parts: vec![
                ("transport", self.node.transport().statistics().iter().collect()),
                ("membership", membership_counts(&self.node.membership_statistics())),
                ("replication", replication),
                ("http", self.guard.counters.iter()),
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

/// The body of an answer that grows with the data, which holds its permit; empty for a caller who is gone.
fn large(made: Result<(Option<ReplyWriter>, Permit), Refused>, spelling: Spelling) -> Body {
    match made {
        Ok((Some(mut writer), permit)) => streamed(move |piece| {
            let _permit = &permit;
            writer(piece)
        }),
        Ok((None, _)) => Body::empty(),
        Err(refused) => Reply::fail(refused.sentence).render(spelling).into(),
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
