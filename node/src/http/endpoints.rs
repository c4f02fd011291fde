//! All endpoints of one node, tied to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::Uri;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use membership::Member;
use tokio::sync::watch::Receiver;

use super::diagnostic::{self, Call, TableCall};
use super::guard::{self, Guard};
use super::metrics::{Metrics, membership_counts, replication_counts};
use super::mirror::Mirrors;
use super::query::Query;
use super::reply::{Peer, Reply, Spelling};
use super::v1;
use crate::Node;

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
        .nest("/v1", v1::router(node, started, guard.clone(), stopping))
        // The last layer is the first that a request meets.
        .layer(from_fn_with_state(guard, guard::pass))
}

async fn diagnose(State(endpoints): State<Arc<Endpoints>>, uri: Uri) -> Response {
    let query = Query::parse(uri.query().unwrap_or_default());
    let path = uri.path();
    let spelling = if Call::speaks_text_only(path) { Spelling::Text } else { Spelling::of(&query) };
    let body = match Call::parse(path, &query) {
        Ok(call) => {
            tracing::debug!(path, "diagnostic call");
            endpoints.answer(call, spelling).await
        }
        Err(reply) => reply.render(spelling),
    };
    ([(CONTENT_TYPE, spelling.content_type()), (CACHE_CONTROL, "no-store")], body).into_response()
}

impl Endpoints {
    async fn answer(self: Arc<Self>, call: Call, spelling: Spelling) -> Vec<u8> {
        let reply = match call {
            Call::Ready => diagnostic::ready(),
            Call::Help => diagnostic::help(),
            Call::MyIp => return format!("{}\n", self.node.advertised_address().ip()).into_bytes(),
            Call::Join(seeds) => diagnostic::joined(self.node.join(&seeds).await),
            Call::ClusterPeers => diagnostic::peers(self.cluster_peers()),
            Call::NetworkPeers(network) => diagnostic::peers(self.network_peers(&network)),
            Call::JoinNetwork(network) => diagnostic::done(self.node.join_network(&network).await),
            Call::LeaveNetwork(network) => {
                diagnostic::done(self.node.leave_network(&network).await.map(drop))
            }
            // What may copy a whole table does not hold up those who ask for less.
            Call::Table(call @ TableCall::Table { .. }) => {
                return off_the_runtime(move || {
                    diagnostic::answer_table_call(self.node.tables(), call).render(spelling)
                })
                .await;
            }
            Call::Table(call) => diagnostic::answer_table_call(self.node.tables(), call),
            Call::WatchTable(table) => {
                return off_the_runtime(move || diagnostic::watch_table(&self.mirrors, &table)).await;
            }
            Call::WatchedTableEntries(table) => {
                return off_the_runtime(move || diagnostic::watched_table_entries(&self.mirrors, &table))
                    .await;
            }
        };
        reply.render(spelling)
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

async fn off_the_runtime(work: impl FnOnce() -> Vec<u8> + Send + 'static) -> Vec<u8> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Reply::fail(error).render(Spelling::Text))
}
