//! What the members know about an entry, about a member, and whether they agree: asked over the cluster's transport.

use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use networkdb::{InquiryError, MAX_WITHIN, Node};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::inquiry_model::{Agreement, EntryAtMember, EntryExplained, MemberAtMember, MemberExplained};
use super::openapi::ENTRIES_PATH;
use super::parameters::{FromParameters, Given, Parameters};
use super::places::{EntryPath, MemberPath, NetworkPath};
use crate::problem::{Names, Problem, ProblemCode};

/// The time for answers that is not set: members answer within a round trip, or hang.
pub(super) const WITHIN: Duration = Duration::from_secs(1);

/// What `within` takes, for errors.
const WITHIN_TAKES: &str = "a time from 1ms to 20s, such as 500ms or 2s";

/// The routes of explanations and of agreement.
pub(super) fn router(node: Node) -> OpenApiRouter {
    // A key may be empty, but a path parameter may not.
    let (schemas, paths, explain) = routes!(explain_entry);
    OpenApiRouter::new()
        .route(&format!("{ENTRIES_PATH}//explain"), explain.clone())
        .routes((schemas, paths, explain))
        .routes(routes!(explain_member))
        .routes(routes!(agreement))
        .with_state(node)
}

/// How long answers are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Within(Duration);

impl FromStr for Within {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 1),
            None => (text.strip_suffix('s').ok_or(())?, 1000),
        };
        // `parse` also takes a sign.
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let count: u64 = digits.then(|| number.parse().ok()).flatten().ok_or(())?;
        let within = Duration::from_millis(count.saturating_mul(unit));
        (!within.is_zero() && within <= MAX_WITHIN).then_some(Self(within)).ok_or(())
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WithinParameter {
    /// How long to wait for the answers of other members, from 1ms to 20s. A member that does not answer in time is
    /// shown without an answer.
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s)$", example = "1s")]
    pub(super) within: Duration,
}

impl FromParameters for WithinParameter {
    const KNOWN: &'static [&'static str] = &["within"];

    fn read(given: &Given) -> Result<Self, Problem> {
        Ok(Self { within: within(given)?.unwrap_or(WITHIN) })
    }
}

/// The time in the parameter `within`, if it is there.
pub(super) fn within(given: &Given) -> Result<Option<Duration>, Problem> {
    let within: Option<Within> = given.parsed("within", WITHIN_TAKES)?;
    Ok(within.map(|within| within.0))
}

impl From<InquiryError> for Problem {
    fn from(error: InquiryError) -> Self {
        let (code, limit) = match &error {
            InquiryError::NotJoined { .. } => (ProblemCode::NetworkNotJoined, None),
            InquiryError::UnknownMember { .. } => (ProblemCode::MemberNotFound, None),
            InquiryError::TooMany { limit } => (ProblemCode::TooManyInquiries, Some(*limit as u64)),
            _ => (ProblemCode::InternalError, None),
        };
        Self { limit, ..Self::new(code, error) }
    }
}

/// Explain an entry, by every member of the network
///
/// Its version, who wrote it, how it came to each member, and why readers see it or not.
#[utoipa::path(
    get,
    path = "/networks/{network}/tables/{table}/entries/{key}/explain",
    tag = "entries",
    params(EntryPath, WithinParameter),
    responses((status = 200, description = "What each member knows, or why it did not answer", body = EntryExplained)),
    extensions(("x-problems" = json!(["network_not_joined", "too_many_inquiries", "internal_error"]))),
)]
async fn explain_entry(
    State(node): State<Node>,
    Names(EntryPath { network, table, key }): Names<EntryPath>,
    Parameters(WithinParameter { within }): Parameters<WithinParameter>,
) -> Result<Json<EntryExplained>, Problem> {
    let rows = node.explain_entry(&network, &table, &key, within).await?;
    let me = node.id().name;
    let members = rows.iter().map(|row| EntryAtMember::new(row, &me)).collect();
    Ok(Json(EntryExplained { node: me.to_string(), network, table, key, members }))
}

/// Explain a member, by every active member of the cluster
///
/// When it last answered and how fast, and who accused it.
#[utoipa::path(
    get,
    path = "/members/{name}/explain",
    tag = "cluster",
    params(MemberPath, WithinParameter),
    responses((status = 200, description = "What each member knows, or why it did not answer", body = MemberExplained)),
    extensions(("x-problems" = json!(["member_not_found", "too_many_inquiries", "internal_error"]))),
)]
async fn explain_member(
    State(node): State<Node>,
    Names(MemberPath { name }): Names<MemberPath>,
    Parameters(WithinParameter { within }): Parameters<WithinParameter>,
) -> Result<Json<MemberExplained>, Problem> {
    let rows = node.explain_member(&name, within).await?;
    let me = node.id().name;
    let members = rows.iter().map(|row| MemberAtMember::new(row, &me)).collect();
    Ok(Json(MemberExplained { node: me.to_string(), name, members }))
}

/// Show whether the members of a network show the same entries
///
/// First by digests, then with the keys that differ, and why.
#[utoipa::path(
    get,
    path = "/networks/{network}/agreement",
    tag = "networks",
    params(NetworkPath, WithinParameter),
    responses((status = 200, description = "What each member holds, and the differences", body = Agreement)),
    extensions(("x-problems" = json!(["network_not_joined", "too_many_inquiries", "internal_error"]))),
)]
async fn agreement(
    State(node): State<Node>,
    Names(NetworkPath { network }): Names<NetworkPath>,
    Parameters(WithinParameter { within }): Parameters<WithinParameter>,
) -> Result<Json<Agreement>, Problem> {
    let report = node.compare_members(&network, within).await?;
    Ok(Json(Agreement::new(&report, &node.id().name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_answers_are_bounded() {
        for (text, milliseconds) in [("1ms", 1), ("500ms", 500), ("2s", 2_000), ("20s", 20_000)] {
            assert_eq!(text.parse(), Ok(Within(Duration::from_millis(milliseconds))), "{text}");
        }
        for text in ["", "1", "s", "ms", "0s", "+1s", "1.5s", "21s", "20001ms", "99999999999999999999s", "1m"]
        {
            assert_eq!(text.parse::<Within>(), Err(()), "{text}");
        }
    }
}
