//! The endpoints below `/v1`: JSON, HTTP status codes, arbitrary names and values, streams.

pub(crate) mod cluster;
mod entries;
mod import;
mod keys;
pub mod model;
mod page;
mod parameters;
mod precondition;
#[cfg(test)]
mod tests;
mod watch;
mod watch_line;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};
use hyper::Method;
use serde_json::json;
use tokio::sync::watch::Receiver;

use self::parameters::{NoParameters, Parameters};
use super::admission::{self, Admission};
pub use crate::problem::{Problem, ProblemCode};
use networkdb::Node;

/// All calls, as `GET /v1` lists them.
const CALLS: [(&str, &str); 24] = [
    ("GET /v1/node", "the responding node"),
    ("GET /v1/members", "every known member with state, labels and when it was last seen"),
    ("POST /v1/join", "{\"seeds\":[...]}: join a cluster through these nodes"),
    ("GET /v1/keys", "the fingerprints of the secrets or authorities that the node uses and accepts"),
    ("POST /v1/keys", "accept more secrets; the body is like a secret file"),
    ("PUT /v1/keys", "replace all secrets by those in the body"),
    ("POST /v1/keys/{fingerprint}/use", "authenticate with this secret"),
    ("DELETE /v1/keys/{fingerprint}", "stop accepting this secret"),
    ("GET /v1/networks", "the networks of this node with counts, digests, and how each join went"),
    ("PUT /v1/networks/{network}", "join a network; reports whether its entries have arrived"),
    ("GET /v1/networks/{network}", "counts and digest of a network"),
    ("DELETE /v1/networks/{network}", "leave a network; reports whether the final syncs are complete"),
    ("GET /v1/networks/{network}/peers", "the nodes on a network"),
    ("GET /v1/networks/{network}/tables", "the tables of a network"),
    ("GET /v1/networks/{network}/tables/{table}/entries", "all entries, a JSON line each"),
    ("POST /v1/networks/{network}/tables/{table}/entries?mode=upsert|create", "import such lines"),
    (
        "GET /v1/networks/{network}/tables/{table}/entries/{key}",
        "an entry, with its version as the ETag; ?raw for the value's bytes; If-None-Match: \"VERSION\" for 304 if \
         it is unchanged",
    ),
    (
        "POST /v1/networks/{network}/tables/{table}/entries/{key}",
        "create; the body is the value; the new version is the ETag",
    ),
    (
        "PUT /v1/networks/{network}/tables/{table}/entries/{key}",
        "update, the same way; If-Match: \"VERSION\" only that version, If-None-Match: * only if there is no entry; \
         else 412 with the version that there is",
    ),
    (
        "DELETE /v1/networks/{network}/tables/{table}/entries/{key}",
        "delete; If-Match: \"VERSION\" only that version, else 412",
    ),
    ("GET /v1/watch?network=&table=&exclude_own", "all entries, then every change, a JSON line each"),
    ("GET /v1/agreement?nid=", "digests, for comparison with other nodes"),
    ("GET /metrics", "metrics in Prometheus' text format"),
    ("GET /help", "the diagnostic calls"),
];

/// The routes below `/v1`. Streams end when `stopping` becomes true.
///
/// A GET must never change anything: the admission check accepts it with the role read.
pub(super) fn router(
    node: Node,
    started: Instant,
    admission: Arc<Admission>,
    stopping: Receiver<bool>,
) -> Router {
    let db = node.tables().clone();
    let short = Router::new()
        .route("/", get(index))
        .merge(keys::router(node.clone()))
        .merge(cluster::router(node, started))
        .merge(entries::router(db.clone(), admission.clone()));
    with_short_requests(short, admission.clone())
        .merge(entries::import_router(db.clone(), admission.clone()))
        .merge(watch::router(db, admission, stopping))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

/// Routes whose requests are read completely before their handlers start.
fn with_short_requests(routes: Router, admission: Arc<Admission>) -> Router {
    // `buffer_body` bounds it, by a limit of the settings.
    routes.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(admission, admission::buffer_body))
}

async fn index(_: Parameters<NoParameters>) -> Json<serde_json::Value> {
    let calls = CALLS.iter().map(|(call, what)| json!({ "call": call, "what": what })).collect::<Vec<_>>();
    Json(json!({ "calls": calls }))
}

async fn unknown(OriginalUri(uri): OriginalUri) -> Problem {
    let sentence = format_args!("there is no call {}; GET /v1 lists all calls", uri.path());
    Problem::new(ProblemCode::PathNotFound, sentence)
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    let sentence = format_args!("{} does not support {method}; GET /v1 lists all calls", uri.path());
    Problem::new(ProblemCode::MethodNotAllowed, sentence)
}
