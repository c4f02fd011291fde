//! The node's identity. Responses contain the fingerprints of secrets, never the secrets.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use transport::{Fingerprint, Identity, KeySet, KeySetError};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::model::{KeyView, Keys};
use super::parameters::{NoParameters, Parameters};
use super::places::KeyPath;
use crate::problem::{Names, Problem, ProblemCode};
use networkdb::Node;
use networkdb::identity::{ChangeKeysError, IdentitySource, KeyChange};

/// The routes below `/keys`.
pub(super) fn router(node: Node) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, add, replace))
        .routes(routes!(remove))
        .routes(routes!(make_primary))
        .with_state(node)
}

/// List the secrets or authorities that the node uses and accepts
///
/// By their fingerprints.
#[utoipa::path(
    get,
    path = "/keys",
    tag = "keys",
    operation_id = "list_keys",
    responses((status = 200, description = "The keys", body = Keys)),
)]
async fn list(State(node): State<Node>, _: Parameters<NoParameters>) -> Json<Keys> {
    Json(view(&node))
}

/// Accept more secrets
#[utoipa::path(
    post,
    path = "/keys",
    tag = "keys",
    operation_id = "add_keys",
    request_body(
        content = String,
        content_type = "text/plain",
        description = "Secrets in the format of a secret file",
    ),
    responses((status = 200, description = "The keys now", body = Keys)),
    extensions(("x-problems" = json!([
        "invalid_body", "admin_socket_required", "keys_unchanged", "internal_error", "too_many_keys",
    ]))),
)]
async fn add(
    State(node): State<Node>,
    _: Parameters<NoParameters>,
    body: Bytes,
) -> Result<Json<Keys>, Problem> {
    change(node, KeyChange::Add(parse(&body)?)).await
}

/// Replace all secrets
#[utoipa::path(
    put,
    path = "/keys",
    tag = "keys",
    operation_id = "replace_keys",
    request_body(
        content = String,
        content_type = "text/plain",
        description = "Secrets in the format of a secret file",
    ),
    responses((status = 200, description = "The keys now", body = Keys)),
    extensions(("x-problems" = json!([
        "invalid_body", "admin_socket_required", "keys_unchanged", "internal_error", "too_many_keys",
    ]))),
)]
async fn replace(
    State(node): State<Node>,
    _: Parameters<NoParameters>,
    body: Bytes,
) -> Result<Json<Keys>, Problem> {
    change(node, KeyChange::Replace(parse(&body)?)).await
}

/// Stop accepting a secret
#[utoipa::path(
    delete,
    path = "/keys/{fingerprint}",
    tag = "keys",
    operation_id = "remove_key",
    params(KeyPath),
    responses((status = 200, description = "The keys now", body = Keys)),
    extensions(("x-problems" = json!([
        "admin_socket_required", "key_not_found", "keys_unchanged", "internal_error",
    ]))),
)]
async fn remove(
    State(node): State<Node>,
    Names(KeyPath { fingerprint: text }): Names<KeyPath>,
    _: Parameters<NoParameters>,
) -> Result<Json<Keys>, Problem> {
    change(node, KeyChange::Remove(fingerprint(&text)?)).await
}

/// Authenticate with a secret from now on
#[utoipa::path(
    post,
    path = "/keys/{fingerprint}/use",
    tag = "keys",
    operation_id = "use_key",
    params(KeyPath),
    responses((status = 200, description = "The keys now", body = Keys)),
    extensions(("x-problems" = json!([
        "admin_socket_required", "key_not_found", "keys_unchanged", "internal_error",
    ]))),
)]
async fn make_primary(
    State(node): State<Node>,
    Names(KeyPath { fingerprint: text }): Names<KeyPath>,
    _: Parameters<NoParameters>,
) -> Result<Json<Keys>, Problem> {
    change(node, KeyChange::Use(fingerprint(&text)?)).await
}

async fn change(node: Node, change: KeyChange) -> Result<Json<Keys>, Problem> {
    // It writes a file and syncs it to disk.
    let changed = tokio::task::spawn_blocking(move || {
        node.change_keys(&change)?;
        Ok(view(&node))
    });
    match changed.await {
        Ok(changed) => changed.map(Json).map_err(refused),
        Err(error) => Err(Problem::new(ProblemCode::InternalError, error)),
    }
}

/// Parses a body in the format of a secret file. The error does not contain the secret.
fn parse(body: &[u8]) -> Result<KeySet, Problem> {
    let wrong = |error: &dyn std::fmt::Display| {
        Problem::new(ProblemCode::InvalidBody, format_args!("the body is not a secret file: {error}"))
    };
    KeySet::parse(std::str::from_utf8(body).map_err(|_| wrong(&"it is not text"))?)
        .map_err(|error| wrong(&error))
}

fn fingerprint(text: &str) -> Result<Fingerprint, Problem> {
    text.parse().map_err(|error| Problem::new(ProblemCode::InvalidPath, error))
}

fn refused(error: ChangeKeysError) -> Problem {
    let code = match &error {
        ChangeKeysError::Keys(KeySetError::Unknown(_)) => ProblemCode::KeyNotFound,
        ChangeKeysError::Keys(KeySetError::TooMany) => ProblemCode::TooManyKeys,
        ChangeKeysError::Keys(_)
        | ChangeKeysError::NoFile
        | ChangeKeysError::Certificates
        | ChangeKeysError::FileDiffers(_)
        | ChangeKeysError::Identity(_) => ProblemCode::KeysUnchanged,
        // The node cannot read or write its file.
        _ => ProblemCode::InternalError,
    };
    Problem::new(code, error)
}

fn view(node: &Node) -> Keys {
    let identity = node.transport().identity();
    let connections = node.transport().connections();
    let secrets = matches!(identity, Identity::Secrets(_));
    let keys = identity.accepts().into_iter().enumerate().map(|(index, fingerprint)| KeyView {
        fingerprint: fingerprint.to_string(),
        primary: secrets && index == 0,
        connections: connections.iter().filter(|connection| connection.authority == fingerprint).count(),
    });
    let (kind, file) = match node.identity_source() {
        IdentitySource::SecretFile(path) => ("secret-file", Some(path)),
        IdentitySource::Certificates { certificate, .. } => ("certificates", Some(certificate)),
        IdentitySource::Program if identity.is_development() => ("development", None),
        IdentitySource::Program => ("program", None),
    };
    Keys {
        kind: kind.to_owned(),
        file: file.map(|path| path.to_string_lossy().into_owned()),
        keys: keys.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_command_line_can_send_the_answers_too() {
        let answer = refused(ChangeKeysError::NoFile);
        assert_eq!(answer.code, ProblemCode::KeysUnchanged);
        assert!(answer.detail.contains("without a secret file"), "{answer:?}");
        assert!(!answer.detail.contains("--"), "{answer:?}");
    }
}
