//! The endpoints beside the original's: JSON, honest status codes, any names, any bytes, streams.

pub(crate) mod cluster;
mod entries;
mod import;
mod keys;
pub mod model;
mod refused;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Json, Router};
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch::Receiver;

pub use refused::Refused;

use super::guard::{self, Guard};
use networkdb::Node;

/// What can be asked, as `GET /v1` tells it.
const CALLS: [(&str, &str); 24] = [
    ("GET /v1/node", "the node that answers"),
    ("GET /v1/members", "every known member with state, labels and when it was last seen"),
    ("POST /v1/join", "{\"seeds\":[...]}: join a cluster through these nodes"),
    ("GET /v1/keys", "the fingerprints of what the node proves itself with, and accepts"),
    ("POST /v1/keys", "accept more secrets; the body is like a secret file"),
    ("PUT /v1/keys", "work with exactly the secrets in the body"),
    ("POST /v1/keys/{fingerprint}/use", "prove itself by this secret"),
    ("DELETE /v1/keys/{fingerprint}", "accept this secret no longer"),
    ("GET /v1/networks", "the networks of this node with counts and digests"),
    ("PUT /v1/networks/{network}", "join a network"),
    ("GET /v1/networks/{network}", "counts and digest of a network"),
    ("DELETE /v1/networks/{network}", "leave a network; says whether what only this node knew is saved"),
    ("GET /v1/networks/{network}/peers", "the nodes on a network"),
    ("GET /v1/networks/{network}/tables", "the tables of a network"),
    ("GET /v1/networks/{network}/tables/{table}/entries", "all entries, a JSON line each"),
    ("POST /v1/networks/{network}/tables/{table}/entries?mode=upsert|create", "import such lines"),
    ("GET /v1/networks/{network}/tables/{table}/entries/{key}", "an entry; ?raw for the value's bytes"),
    ("POST /v1/networks/{network}/tables/{table}/entries/{key}", "create; the body is the value"),
    ("PUT /v1/networks/{network}/tables/{table}/entries/{key}", "update; the body is the value"),
    ("DELETE /v1/networks/{network}/tables/{table}/entries/{key}", "delete"),
    ("GET /v1/watch?network=&table=&exclude_own", "what is there, then every change, a JSON line each"),
    ("GET /v1/agreement?nid=", "digests, for comparison with other nodes"),
    ("GET /metrics", "counts in Prometheus' text format"),
    ("GET /help", "the diagnostic calls"),
];

/// Everything below `/v1`. Streams end when `stopping` becomes true.
///
/// A GET never changes anything: the gate lets it pass with the right to read.
pub(super) fn router(node: Node, started: Instant, guard: Arc<Guard>, stopping: Receiver<bool>) -> Router {
    let db = node.tables().clone();
    let short = Router::new()
        .route("/", get(index))
        .merge(keys::router(node.clone()))
        .merge(cluster::router(node, started))
        .merge(entries::router(db.clone(), guard.clone()));
    with_short_requests(short, guard.clone())
        .merge(entries::import_router(db.clone(), guard.clone()))
        .merge(watch::router(db, guard, stopping))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

/// Routes whose requests are read whole before their handlers begin.
fn with_short_requests(routes: Router, guard: Arc<Guard>) -> Router {
    // Bounded already, and by a limit that can be set.
    routes.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(guard, guard::take_short))
}

async fn index() -> Json<serde_json::Value> {
    let calls = CALLS.iter().map(|(call, what)| json!({ "call": call, "what": what })).collect::<Vec<_>>();
    Json(json!({ "calls": calls }))
}

async fn unknown(OriginalUri(uri): OriginalUri) -> Refused {
    let sentence = format_args!("there is nothing at {}; GET /v1 lists what there is", uri.path());
    Refused::new(StatusCode::NOT_FOUND, sentence)
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Refused {
    let sentence = format_args!("{} does not know {method}; GET /v1 lists what it knows", uri.path());
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, sentence)
}
