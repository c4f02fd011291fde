//! Whether the node works, and whether its tables can be relied on, for those who restart it or send it requests.
//! Both are answered without a token, so they name no network and no node.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use hyper::header::{CACHE_CONTROL, RETRY_AFTER};
use networkdb::{Liveness, Node, Readiness};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Problem, ProblemCode};
use super::v1::parameters::{NoParameters, Parameters};

/// How long the driver may take for a turn: far longer than any of its work, and soon enough to restart a node.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

/// The routes of the checks.
pub(super) fn router(node: Node) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).with_state(node)
}

/// Check that the node works
///
/// It asks the driver for a turn, and waits two seconds for it. Restart a node that goes on failing this. Needs no token.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    security(()),
    responses((status = 200, description = "The driver has made a turn", body = String, content_type = "text/plain")),
    extensions(("x-problems" = json!(["driver_stalled", "node_stopped"]))),
)]
async fn livez(State(node): State<Node>, _: Parameters<NoParameters>) -> Response {
    response(alive(node.liveness(TURN_TIMEOUT).await))
}

/// Check that the node holds what the members of its networks hold
///
/// It works, and has been synchronised with another member of every network that it has joined, or is alone by intent:
/// there is no other member, and no seed that should have answered. Send requests only to a node that passes this. Needs
/// no token.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
    extensions(("x-problems" = json!([
        "driver_stalled", "node_stopped", "node_leaving", "cluster_not_joined", "networks_not_synchronised",
    ]))),
)]
async fn readyz(State(node): State<Node>, _: Parameters<NoParameters>) -> Response {
    // First, because it takes no lock that a stalled driver may hold.
    let live = alive(node.liveness(TURN_TIMEOUT).await);
    response(live.and_then(|()| ready(node.readiness())))
}

fn response(outcome: Result<(), Problem>) -> Response {
    let uncached = [(CACHE_CONTROL, "no-store")];
    match outcome {
        Ok(()) => (uncached, "ok\n").into_response(),
        Err(problem) => (uncached, [(RETRY_AFTER, "1")], problem).into_response(),
    }
}

fn alive(liveness: Liveness) -> Result<(), Problem> {
    match liveness {
        Liveness::Alive => Ok(()),
        Liveness::Stopped => Err(Problem::new(ProblemCode::NodeStopped, "the node has stopped")),
        _ => {
            let sentence = format_args!("the node's driver made no turn in {TURN_TIMEOUT:?}");
            Err(Problem::new(ProblemCode::DriverStalled, sentence))
        }
    }
}

fn ready(readiness: Readiness) -> Result<(), Problem> {
    let (code, sentence) = match readiness {
        Readiness::Ready => return Ok(()),
        Readiness::Leaving => (ProblemCode::NodeLeaving, "the node leaves its cluster".to_owned()),
        Readiness::NotJoined => (
            ProblemCode::ClusterNotJoined,
            "none of the node's seeds has answered, and it knows no other member".to_owned(),
        ),
        Readiness::Unsynchronised { networks, joined } => (
            ProblemCode::NetworksNotSynchronised,
            format!(
                "{} of {joined} joined networks have not been synchronised with another member; GET /v1/networks \
                 shows which",
                networks.len()
            ),
        ),
        other => (ProblemCode::InternalError, format!("the node is {other:?}")),
    };
    Err(Problem::new(code, sentence))
}
