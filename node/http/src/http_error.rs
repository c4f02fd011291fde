//! Error responses: a status and a sentence.

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::ETAG;
use hyper::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tabledb::{JoinError, LeaveError, Version, WriteError};

/// The body of an error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error, as a sentence.
    pub error: String,
    /// The version of the entry that a refused write found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    /// The HTTP status, for programs.
    pub status: StatusCode,
    /// The error as a sentence, for people.
    pub sentence: String,
    /// The version of the entry that a refused write found, if there was one.
    pub version: Option<Version>,
}

impl HttpError {
    /// An error response with this status and sentence.
    pub fn new(status: StatusCode, sentence: impl std::fmt::Display) -> Self {
        Self { status, sentence: sentence.to_string(), version: None }
    }

    /// This node has not joined the network.
    pub fn not_joined(network: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format_args!("network {network} is not joined on this node"))
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let Self { status, sentence, version } = self;
        let tag = version.map(|version| [(ETAG, entity_tag(version))]);
        let body = ErrorBody { error: sentence, version: version.map(|version| version.to_string()) };
        (status, tag, Json(body)).into_response()
    }
}

/// The `ETag` of an entry of this version.
pub(crate) fn entity_tag(version: Version) -> String {
    format!("\"{version}\"")
}

/// The names in a path. Invalid names are refused with an [`HttpError`].
pub(crate) struct Names<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Names<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(error) => Err(HttpError::new(
                error.status(),
                format_args!("a name in the path is invalid: {}", error.body_text()),
            )),
        }
    }
}

impl From<WriteError> for HttpError {
    fn from(error: WriteError) -> Self {
        let status = match &error {
            WriteError::NotJoined { .. } | WriteError::NotFound { .. } => StatusCode::NOT_FOUND,
            WriteError::AlreadyExists { .. } => StatusCode::CONFLICT,
            WriteError::VersionMismatch { .. } => StatusCode::PRECONDITION_FAILED,
            WriteError::Length { what: "value", .. } => StatusCode::PAYLOAD_TOO_LARGE,
            WriteError::Length { .. } => StatusCode::BAD_REQUEST,
            WriteError::NetworkFull { .. }
            | WriteError::TooManyTables { .. }
            | WriteError::NetworkBytes { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let version = match &error {
            WriteError::AlreadyExists { found, .. } => Some(*found),
            WriteError::VersionMismatch { found, .. } => *found,
            _ => None,
        };
        Self { version, ..Self::new(status, error) }
    }
}

impl From<JoinError> for HttpError {
    fn from(error: JoinError) -> Self {
        let status = match &error {
            JoinError::AlreadyJoined { .. } => StatusCode::CONFLICT,
            JoinError::Length { .. } => StatusCode::BAD_REQUEST,
            JoinError::TooManyNetworks { .. } => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

impl From<LeaveError> for HttpError {
    fn from(error: LeaveError) -> Self {
        let status = match &error {
            LeaveError::NotJoined { .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}
