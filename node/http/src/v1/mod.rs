//! The endpoints below `/v1`: JSON, HTTP status codes, arbitrary names and values, streams.

mod batch;
pub(crate) mod cluster;
mod docs_page;
mod entries;
mod import;
mod inquiries;
pub mod inquiry_model;
mod keys;
pub mod model;
mod openapi;
mod page;
pub(crate) mod parameters;
mod places;
mod precondition;
mod program;
mod receipts;
mod scoped;
#[cfg(test)]
mod tests;
mod watch;
mod watch_cursor;
mod watch_form;
mod watch_line;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, OriginalUri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json, Router};
use hyper::Method;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde_json::Value;
use tokio::sync::watch::Receiver;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::model::{CallView, Calls};
use self::parameters::{NoParameters, Parameters};
use super::admission::{self, Admission};
use crate::Program;
pub use crate::problem::{Problem, ProblemCode};
use networkdb::Node;

/// What the node publishes about its calls.
#[derive(Debug)]
struct Published {
    document: Value,
    page: String,
    policy: String,
}

/// The routes below `/v1`. Streams end when `stopping` becomes true. The document has the calls of `beside`, too, at
/// their paths.
///
/// A GET must never change anything: the admission check accepts it with the role read.
pub(super) fn router(
    node: Node,
    program: Program,
    started: Instant,
    admission: Arc<Admission>,
    stopping: Receiver<bool>,
    beside: &OpenApi,
) -> Router {
    let db = node.tables().clone();
    let cluster = node.transport().cluster().clone();
    let short = OpenApiRouter::new()
        .routes(routes!(index))
        .routes(routes!(show_document))
        .routes(routes!(show_page))
        .merge(keys::router(node.clone()))
        .merge(inquiries::router(node.clone()))
        .merge(cluster::router(node.clone(), started))
        .merge(batch::router(db.clone()))
        .merge(entries::router(node, admission.clone()))
        .merge(program::router(program, admission.clone(), stopping.clone()));
    let (router, handlers) = with_short_requests(short, admission.clone())
        .merge(entries::import_router(db.clone(), admission.clone()))
        .merge(watch::router(db, &cluster, admission.clone(), stopping))
        .split_for_parts();
    let document = openapi::complete(&handlers, beside);
    let (page, policy) = (docs_page::page(&document), docs_page::policy());
    let published = Arc::new(Published { document, page, policy });
    let router = router.fallback(unknown).method_not_allowed_fallback(wrong_method);
    // The last layer processes a request first.
    router.layer(Extension(published)).layer(from_fn_with_state(admission, scoped::pass))
}

/// Routes whose requests are read completely before their handlers start.
fn with_short_requests(routes: OpenApiRouter, admission: Arc<Admission>) -> OpenApiRouter {
    // `buffer_body` bounds it, by a limit of the settings.
    routes.layer(DefaultBodyLimit::disable()).layer(from_fn_with_state(admission, admission::buffer_body))
}

/// List all calls
#[utoipa::path(
    get,
    path = "/",
    tag = "documentation",
    responses((status = 200, description = "The calls", body = Calls))
)]
async fn index(Extension(published): Extension<Arc<Published>>, _: Parameters<NoParameters>) -> Json<Calls> {
    let calls = openapi::calls(&published.document).map(|(method, path, operation)| CallView {
        call: format!("{method} {path}"),
        what: operation["summary"].as_str().unwrap_or_default().to_owned(),
    });
    Json(Calls { calls: calls.collect() })
}

/// Show the OpenAPI document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "documentation",
    responses((status = 200, description = "The document, of OpenAPI 3.1", body = Object))
)]
async fn show_document(
    Extension(published): Extension<Arc<Published>>,
    _: Parameters<NoParameters>,
) -> Json<Value> {
    Json(published.document.clone())
}

/// Show the documentation as a page
#[utoipa::path(
    get,
    path = "/docs",
    tag = "documentation",
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html"))
)]
async fn show_page(Extension(published): Extension<Arc<Published>>, _: Parameters<NoParameters>) -> Response {
    let headers =
        [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, published.policy.as_str())];
    (headers, published.page.clone()).into_response()
}

async fn unknown(OriginalUri(uri): OriginalUri) -> Problem {
    let sentence = format_args!("there is no call {}; GET /v1 lists all calls", uri.path());
    Problem::new(ProblemCode::PathNotFound, sentence)
}

pub(crate) async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    let sentence = format_args!("{} does not support {method}; GET /v1 lists all calls", uri.path());
    Problem::new(ProblemCode::MethodNotAllowed, sentence)
}
