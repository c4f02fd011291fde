//! Several writes in one call: all of them, or none.

use std::borrow::Cow;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use tabledb::{BatchError, MAX_BATCH_WRITES, Operation, TableDb, Version, Write};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{Batch, BatchDelete, BatchOutcome, BatchPut, BatchWrite, only_value};
use super::parameters::{NoParameters, Parameters};
use super::places::NetworkPath;
use super::precondition::Precondition;
use crate::problem::{Names, Problem, ProblemCode};

/// The route of batches.
pub(super) fn router(db: TableDb) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(write_batch)).with_state(db)
}

/// Put and delete several entries in one step, or none
///
/// Each write is to another entry. The conditions are checked as if the writes were made one after the other. The
/// batch reaches the other nodes in one step if it fits into a datagram, about a kilobyte.
#[utoipa::path(
    post,
    path = "/networks/{network}/batch",
    tag = "entries",
    params(NetworkPath),
    request_body = Batch,
    responses((status = 200, description = "All are made", body = BatchOutcome)),
    extensions(("x-problems" = json!([
        "invalid_body", "unsupported_media_type", "network_not_joined", "invalid_length", "invalid_precondition",
        "entry_not_found", "precondition_failed", "value_too_large", "network_full",
    ]))),
)]
async fn write_batch(
    State(db): State<TableDb>,
    Names(NetworkPath { network }): Names<NetworkPath>,
    _: Parameters<NoParameters>,
    request: Result<Json<Batch>, JsonRejection>,
) -> Result<Json<BatchOutcome>, Problem> {
    let expected =
        r#"{"writes":[{"put":{"table":"t","key":"k","value":"v"}},{"delete":{"table":"t","key":"l"}}]}"#;
    let Json(Batch { writes }) = request.map_err(|error| Problem::unexpected_json(&error, expected))?;
    let read = |(index, write)| Prepared::of(write).map_err(|problem| problem.of_write(index));
    let prepared = writes.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let batch: Vec<_> = prepared.iter().map(Prepared::write).collect();
    let versions = db.write_batch(&network, &batch).map_err(|error| match error {
        BatchError::Write { index, error } => prepared[index].condition.refused(error).of_write(index),
        BatchError::Network(error) => Problem::from(error),
        BatchError::TooLong { .. } => {
            Problem::new(ProblemCode::InvalidBody, error).with_limit(MAX_BATCH_WRITES)
        }
        error => Problem::new(ProblemCode::InvalidBody, error),
    })?;
    Ok(Json(BatchOutcome { versions: versions.iter().map(Version::to_string).collect() }))
}

/// A write whose value and condition have been read.
struct Prepared<'a> {
    table: &'a str,
    key: &'a str,
    /// `None` if it deletes.
    value: Option<Cow<'a, [u8]>>,
    condition: Precondition,
}

impl<'a> Prepared<'a> {
    fn of(write: &'a BatchWrite) -> Result<Self, Problem> {
        match write {
            BatchWrite::Put(BatchPut { table, key, value, value_base64, if_match, if_none_match }) => {
                let value = only_value(value.as_deref(), value_base64.as_deref())
                    .map_err(|sentence| Problem::new(ProblemCode::InvalidBody, sentence))?;
                let condition = Precondition::of_batch(if_match.as_deref(), if_none_match.as_deref())?;
                Ok(Self { table, key, value: Some(value), condition })
            }
            BatchWrite::Delete(BatchDelete { table, key, if_match }) => {
                let condition = Precondition::of_batch(if_match.as_deref(), None)?;
                Ok(Self { table, key, value: None, condition })
            }
        }
    }

    fn write(&self) -> Write<'_> {
        let operation = match (&self.value, self.condition) {
            (Some(value), Precondition::None) => Operation::Upsert(value),
            (Some(value), Precondition::Present) => Operation::Update(value),
            (Some(value), Precondition::Absent) => Operation::Create(value),
            (Some(value), Precondition::Version(expected)) => Operation::CompareAndSet(expected, value),
            (None, Precondition::Version(expected)) => Operation::CompareAndDelete(expected),
            (None, _) => Operation::Delete,
        };
        Write { table: self.table, key: self.key, operation }
    }
}
