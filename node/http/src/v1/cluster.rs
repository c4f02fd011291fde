//! The node, its cluster and its networks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use hyper::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use hyper::{Method, StatusCode};
use membership::Member;
use tabledb::JoinError;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use wire::NodeName;

use super::inquiry_model::seconds;
use super::model::{
    JoinOutcome, JoinRequest, LeaveOutcome, MemberView, Members, NetworkJoinOutcome, NetworkView, Networks,
    NodeView, Peers,
};
use super::page::{Next, Page};
use super::parameters::{NoParameters, Parameters};
use super::places::NetworkPath;
use super::precondition::{OnlyIfNone, Precondition};
use crate::problem::{Names, Problem, ProblemCode};
use crate::streamed::json_list;
use networkdb::{JoinClusterError, Node};

/// The most seeds of one call: the node resolves and dials each.
const MAX_SEEDS: usize = 64;

/// The longest seed: a name of DNS, a colon and a port.
const MAX_SEED_BYTES: usize = 253 + 6;

#[derive(Clone)]
struct Cluster {
    node: Node,
    started: Instant,
}

/// The routes of the node itself, of `/members`, `/join` and `/networks`.
pub(super) fn router(node: Node, started: Instant) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(show_node))
        .routes(routes!(list_members))
        .routes(routes!(join))
        .routes(routes!(list_networks))
        .routes(routes!(show_network, join_network, leave_network))
        .routes(routes!(list_peers))
        .with_state(Cluster { node, started })
}

/// Show the responding node
#[utoipa::path(
    get,
    path = "/node",
    tag = "cluster",
    responses((status = 200, description = "The node", body = NodeView)),
)]
async fn show_node(
    State(Cluster { node, started }): State<Cluster>,
    _: Parameters<NoParameters>,
) -> Json<NodeView> {
    let id = node.id();
    Json(NodeView {
        name: id.name.to_string(),
        generation: id.generation,
        address: node.advertised_address().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: seconds(started.elapsed()),
        networks: node.tables().networks(),
    })
}

/// List the known members of the cluster
///
/// With state, labels and when each was last seen, sorted by name.
#[utoipa::path(
    get,
    path = "/members",
    tag = "cluster",
    params(Page),
    responses((status = 200, description = "The members", body = Members)),
)]
#[expect(clippy::disallowed_methods, reason = "ages are only displayed")]
async fn list_members(
    State(Cluster { node, .. }): State<Cluster>,
    Parameters(page): Parameters<Page>,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let (me, now) = (node.id().name, Instant::now());
    let (members, next) = page.of(&uri, node.members(), |member| member.name().as_str());
    let connections = node.transport().connections().into_iter().filter(|connection| connection.current);
    let round_trips = connections
        .map(|connection| (connection.peer.name, connection.round_trip))
        .collect::<BTreeMap<_, _>>();
    let view = move |member: Member| {
        let round_trip = round_trips.get(member.name()).copied();
        Some(view(&member, round_trip, &me, now))
    };
    list(next, json_list(None, "members", members, view))
}

fn list(next: Next, body: Body) -> Response {
    (next, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn view(member: &Member, round_trip: Option<Duration>, me: &NodeName, now: Instant) -> MemberView {
    let this_node = member.name() == me;
    let last_seen = if this_node { Some(now) } else { member.last_seen };
    MemberView {
        name: member.name().to_string(),
        generation: member.record.id.generation,
        address: member.record.address.to_string(),
        state: member.state.to_string(),
        state_seconds: seconds(now.saturating_duration_since(member.since)),
        labels: member.record.labels.clone(),
        last_seen_seconds: last_seen.map(|seen| seconds(now.saturating_duration_since(seen))),
        // In microseconds: within a rack it is less than a millisecond.
        round_trip_seconds: round_trip.map(|time| (time.as_secs_f64() * 1e6).round() / 1e6),
        this_node,
    }
}

/// Join a cluster through these nodes
#[utoipa::path(
    post,
    path = "/join",
    tag = "cluster",
    request_body = JoinRequest,
    responses((status = 200, description = "At least one seed answered", body = JoinOutcome)),
    extensions(("x-problems" = json!([
        "invalid_body", "unsupported_media_type", "seeds_unreachable", "admin_socket_required",
    ]))),
)]
async fn join(
    State(Cluster { node, .. }): State<Cluster>,
    _: Parameters<NoParameters>,
    request: Result<Json<JoinRequest>, JsonRejection>,
) -> Result<Json<JoinOutcome>, Problem> {
    let expected = r#"{"seeds":["host:port"]}"#;
    let Json(JoinRequest { seeds }) = request.map_err(|error| Problem::unexpected_json(&error, expected))?;
    if seeds.is_empty() {
        let sentence = "there are no seeds in the request; name at least one";
        return Err(Problem::new(ProblemCode::InvalidBody, sentence));
    }
    check_seeds(&seeds).map_err(|sentence| Problem::new(ProblemCode::InvalidBody, sentence))?;
    let answered = node
        .join(&seeds)
        .await
        .map_err(|error: JoinClusterError| Problem::new(ProblemCode::SeedsUnreachable, error))?;
    Ok(Json(JoinOutcome { answered }))
}

/// Checks the number and the lengths of seeds.
pub(crate) fn check_seeds(seeds: &[String]) -> Result<(), String> {
    match seeds.iter().find(|seed| seed.len() > MAX_SEED_BYTES) {
        _ if seeds.len() > MAX_SEEDS => Err(format!(
            "the call has {} seeds; at most {MAX_SEEDS} are allowed, and a few live ones are enough",
            seeds.len()
        )),
        Some(seed) => Err(format!("a seed has {} bytes; at most {MAX_SEED_BYTES} are allowed", seed.len())),
        None => Ok(()),
    }
}

/// List the networks of this node
///
/// With counts, digests, and how each join went, sorted by name.
#[utoipa::path(
    get,
    path = "/networks",
    tag = "networks",
    params(Page),
    responses((status = 200, description = "The networks", body = Networks)),
)]
async fn list_networks(
    State(Cluster { node, .. }): State<Cluster>,
    Parameters(page): Parameters<Page>,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let (networks, next) = page.of(&uri, node.tables().networks(), String::as_str);
    list(next, json_list(None, "networks", networks, move |network| network_view(&node, &network)))
}

/// Show counts and digest of a network
#[utoipa::path(
    get,
    path = "/networks/{network}",
    tag = "networks",
    params(NetworkPath),
    responses((status = 200, description = "The network", body = NetworkView)),
    extensions(("x-problems" = json!(["network_not_joined"]))),
)]
async fn show_network(
    State(Cluster { node, .. }): State<Cluster>,
    Names(NetworkPath { network }): Names<NetworkPath>,
    _: Parameters<NoParameters>,
) -> Result<Json<NetworkView>, Problem> {
    network_view(&node, &network).map(Json).ok_or_else(|| Problem::not_joined(&network))
}

/// List the nodes on a network, also if this node has not joined it
#[utoipa::path(
    get,
    path = "/networks/{network}/peers",
    tag = "networks",
    params(NetworkPath, Page),
    responses((status = 200, description = "Their names, sorted", body = Peers)),
)]
async fn list_peers(
    State(Cluster { node, .. }): State<Cluster>,
    Names(NetworkPath { network }): Names<NetworkPath>,
    Parameters(page): Parameters<Page>,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let (peers, next) = page.of(&uri, node.tables().network_peers(&network), |name| name.as_str());
    list(next, json_list(None, "peers", peers, |name| Some(name.to_string())))
}

/// Join a network, or find it joined
///
/// The outcome says whether the entries of other members have arrived.
#[utoipa::path(
    put,
    path = "/networks/{network}",
    tag = "networks",
    params(NetworkPath, OnlyIfNone),
    responses(
        (status = 201, description = "It is joined now", body = NetworkJoinOutcome, headers(("Location" = String))),
        (status = 200, description = "It was joined already; how that went", body = NetworkJoinOutcome),
    ),
    extensions(("x-problems" = json!([
        "invalid_precondition", "invalid_length", "network_leaving", "precondition_failed",
        "too_many_networks",
    ]))),
)]
async fn join_network(
    State(Cluster { node, .. }): State<Cluster>,
    Names(NetworkPath { network }): Names<NetworkPath>,
    _: Parameters<NoParameters>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let condition = Precondition::of(&headers)?;
    if !matches!(condition, Precondition::None | Precondition::Absent) {
        return Err(condition.unsupported(&Method::PUT));
    }
    let outcome = |outcome: Option<tabledb::JoinOutcome>| Json(NetworkJoinOutcome::from(outcome));
    match node.join_network(&network).await {
        Ok(joined) => {
            Ok((StatusCode::CREATED, [(LOCATION, uri.path())], outcome(Some(joined))).into_response())
        }
        Err(JoinError::AlreadyJoined { .. }) if node.tables().networks().contains(&network) => {
            if condition == Precondition::Absent {
                let sentence = format_args!("network {network} is joined on this node already");
                return Err(Problem::new(ProblemCode::PreconditionFailed, sentence));
            }
            Ok((StatusCode::OK, outcome(node.join_outcome(&network))).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// Leave a network
///
/// The outcome says whether other members have what only this node had.
#[utoipa::path(
    delete,
    path = "/networks/{network}",
    tag = "networks",
    params(NetworkPath),
    responses((status = 200, description = "The final syncs", body = LeaveOutcome)),
    extensions(("x-problems" = json!(["network_not_joined"]))),
)]
async fn leave_network(
    State(Cluster { node, .. }): State<Cluster>,
    Names(NetworkPath { network }): Names<NetworkPath>,
    _: Parameters<NoParameters>,
) -> Result<Json<LeaveOutcome>, Problem> {
    let final_syncs = node.leave_network(&network).await?;
    Ok(Json(LeaveOutcome {
        saved: final_syncs.saved(),
        wanted: final_syncs.wanted,
        completed: final_syncs.completed,
        outcome: final_syncs.to_string(),
    }))
}

fn network_view(node: &Node, network: &str) -> Option<NetworkView> {
    Some(NetworkView::new(network, &node.tables().statistics(network)?, node.join_outcome(network)))
}

#[cfg(test)]
mod tests {
    use membership::{NodeRecord, State};
    use wire::NodeId;

    use super::*;

    #[test]
    fn seeds_are_bounded() {
        let seeds = |count, length| vec!["x".repeat(length); count];
        assert!(check_seeds(&seeds(64, 259)).is_ok());
        assert!(check_seeds(&seeds(65, 1)).unwrap_err().contains("at most 64"));
        assert!(check_seeds(&seeds(1, 260)).unwrap_err().contains("259"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_member_is_shown_with_its_ages() {
        fn name(name: &str) -> NodeName {
            NodeName::new(name).unwrap()
        }
        let now = Instant::now() + Duration::from_secs(60);
        let member = Member {
            record: NodeRecord {
                id: NodeId::new(name("n2"), 7),
                address: "10.0.0.2:7946".parse().unwrap(),
                labels: [("zone".to_owned(), "a".to_owned())].into(),
            },
            incarnation: 3,
            state: State::Suspect,
            since: now - Duration::from_millis(2500),
            last_seen: Some(now - Duration::from_millis(1500)),
        };
        let round_trip = Some(Duration::from_nanos(234_567));
        let view = |me: &str| serde_json::to_string(&view(&member, round_trip, &name(me), now)).unwrap();
        assert_eq!(
            view("n1"),
            concat!(
                r#"{"name":"n2","generation":7,"address":"10.0.0.2:7946","state":"suspect","state_seconds":2.5,"#,
                r#""labels":{"zone":"a"},"last_seen_seconds":1.5,"#,
                r#""round_trip_seconds":0.000235,"this_node":false}"#
            )
        );
        assert!(
            view("n2").contains(r#""last_seen_seconds":0.0,"#)
                && view("n2").ends_with(r#""this_node":true}"#)
        );
    }
}
