//! Error responses: problem documents as in RFC 9457.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue};
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tabledb::{JoinError, LeaveError, Version, WriteError};
use utoipa::ToSchema;

pub use crate::problem_code::ProblemCode;

/// The media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The body of an error response, a problem document as in RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// A reference to the description of the code.
    pub r#type: String,
    /// The kind of problem as a sentence: the same for every response with this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened to this request, as a sentence for people.
    pub detail: String,
    /// The kind of problem, for programs.
    pub code: String,
    /// The version of the entry that a refused write found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The limit that the request exceeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Which write of a batch failed, from 0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<u64>,
    /// The query parameters that the call knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Vec<String>>,
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind of problem, which determines the HTTP status.
    pub code: ProblemCode,
    /// What happened to this request, as a sentence for people.
    pub detail: String,
    /// The version of the entry that a refused write found, if there was one.
    pub version: Option<Version>,
    /// The limit that the request exceeds, if it is one number.
    pub limit: Option<u64>,
    /// Which write of a batch failed, from 0 on.
    pub write: Option<u64>,
    /// The query parameters that the call knows, if the request has another one.
    pub known: Option<&'static [&'static str]>,
}

impl Problem {
    /// A problem of this kind with this sentence.
    pub fn new(code: ProblemCode, detail: impl std::fmt::Display) -> Self {
        Self { code, detail: detail.to_string(), version: None, limit: None, write: None, known: None }
    }

    /// The same with the limit that the request exceeds.
    pub(crate) fn with_limit(self, limit: usize) -> Self {
        Self { limit: Some(limit as u64), ..self }
    }

    /// The same for a write of a batch.
    pub(crate) fn of_write(self, index: usize) -> Self {
        let detail = format!("write {index} of the batch: {}", self.detail);
        Self { write: Some(index as u64), detail, ..self }
    }

    /// The body is not JSON, or not what the call takes.
    pub(crate) fn unexpected_json(error: &JsonRejection, expected: &str) -> Self {
        let code = match error {
            JsonRejection::MissingJsonContentType(_) => ProblemCode::UnsupportedMediaType,
            _ => ProblemCode::InvalidBody,
        };
        Self::new(code, format_args!("{}; expected {expected} as application/json", error.body_text()))
    }

    /// This node has not joined the network.
    pub fn not_joined(network: &str) -> Self {
        Self::new(ProblemCode::NetworkNotJoined, format_args!("network {network} is not joined on this node"))
    }

    /// The body of the response.
    pub(crate) fn document(&self) -> ProblemDocument {
        let Self { code, detail, version, limit, write, known } = self;
        ProblemDocument {
            r#type: format!("/v1/docs#{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            detail: detail.clone(),
            code: code.as_str().to_owned(),
            version: version.map(|version| version.to_string()),
            limit: *limit,
            write: *write,
            known: known.map(|known| known.iter().map(|&name| name.to_owned()).collect()),
        }
    }

    /// The body of the response as JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(&self.document()).expect("texts and numbers have a JSON form")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let tag = self.version.map(|version| [(ETAG, entity_tag(version))]);
        let kind = [(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))];
        (self.code.status(), tag, kind, self.json()).into_response()
    }
}

/// The `ETag` of an entry of this version.
pub(crate) fn entity_tag(version: Version) -> String {
    format!("\"{version}\"")
}

/// The names in a path. Invalid names are refused with a [`Problem`].
pub(crate) struct Names<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Names<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(error) => Err(Problem::new(
                ProblemCode::InvalidPath,
                format_args!("a name in the path is invalid: {}", error.body_text()),
            )),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        let code = match &error {
            WriteError::NotJoined { .. } => ProblemCode::NetworkNotJoined,
            WriteError::NotFound { .. } => ProblemCode::EntryNotFound,
            WriteError::AlreadyExists { .. } => ProblemCode::EntryExists,
            WriteError::VersionMismatch { .. } => ProblemCode::PreconditionFailed,
            WriteError::Length { what: "value", .. } => ProblemCode::ValueTooLarge,
            WriteError::Length { .. } => ProblemCode::InvalidLength,
            WriteError::NetworkFull { .. }
            | WriteError::TooManyTables { .. }
            | WriteError::NetworkBytes { .. } => ProblemCode::NetworkFull,
            _ => ProblemCode::InternalError,
        };
        let version = match &error {
            WriteError::AlreadyExists { found, .. } => Some(*found),
            WriteError::VersionMismatch { found, .. } => *found,
            _ => None,
        };
        let limit = match &error {
            WriteError::Length { allowed, .. } => Some(*allowed.end() as u64),
            WriteError::NetworkFull { limit, .. }
            | WriteError::TooManyTables { limit, .. }
            | WriteError::NetworkBytes { limit, .. } => Some(*limit as u64),
            _ => None,
        };
        Self { version, limit, ..Self::new(code, error) }
    }
}

impl From<JoinError> for Problem {
    fn from(error: JoinError) -> Self {
        let (code, limit) = match &error {
            JoinError::AlreadyJoined { .. } => (ProblemCode::NetworkLeaving, None),
            JoinError::Length { allowed, .. } => (ProblemCode::InvalidLength, Some(*allowed.end() as u64)),
            JoinError::TooManyNetworks { limit } => (ProblemCode::TooManyNetworks, Some(*limit as u64)),
            _ => (ProblemCode::InternalError, None),
        };
        Self { limit, ..Self::new(code, error) }
    }
}

impl From<LeaveError> for Problem {
    fn from(error: LeaveError) -> Self {
        let code = match &error {
            LeaveError::NotJoined { .. } => ProblemCode::NetworkNotJoined,
            _ => ProblemCode::InternalError,
        };
        Self::new(code, error)
    }
}
