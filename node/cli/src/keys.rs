//! `networkdb keys`: the secrets of a running node; and the reload of a node's files at SIGHUP.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use axum::body::Body;
use hyper::Method;
use tokio::signal::unix::{Signal, SignalKind, signal};
use transport::{Fingerprint, Identity, KeySet};
use zeroize::Zeroizing;

use super::api::{Api, path};
use super::arguments::{KeysAction, KeysCommand};
use super::failure::Failure;
use super::import::open;
use super::output::{print, print_json, table};
use networkdb::Node;
use networkdb::identity::{ChangeKeysError, IdentitySource};
use networkdb_http::v1::model::Keys;

/// The most bytes of secrets that are read.
const MAX_SECRETS_BYTES: u64 = 64 << 10;

/// Calls the node, and prints its keys after the call.
pub(super) async fn keys(KeysCommand { client, action }: KeysCommand) -> Result<ExitCode, Failure> {
    let api = client.api();
    let response = match &action {
        KeysAction::List => api.request(Method::GET, "/v1/keys", None).await,
        KeysAction::Add { file } => send(api, Method::POST, file.as_deref()).await,
        KeysAction::Apply { file } => send(api, Method::PUT, file.as_deref()).await,
        KeysAction::Use { fingerprint } => {
            let path = path(&["keys", &read(fingerprint)?.to_string(), "use"]);
            api.request(Method::POST, &path, None).await
        }
        KeysAction::Remove { fingerprint } => {
            let path = path(&["keys", &read(fingerprint)?.to_string()]);
            api.request(Method::DELETE, &path, None).await
        }
    };
    let response = response.map_err(|failure| match failure {
        Failure::Problem { sentence, .. } => Failure::Refused(format!(
            "{sentence}; `networkdb run --secret-file FILE` sets the file of a node's secrets, and SIGHUP \
                 makes the node read its files again"
        )),
        other => other,
    })?;
    let keys: Keys = api.read_json(response).await?;
    if client.json {
        print_json(&keys)?;
    } else {
        print(&shown(&keys))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses a fingerprint. The error does not repeat the argument: it may be a secret that was given in entry
/// of its fingerprint.
fn read(fingerprint: &str) -> Result<Fingerprint, Failure> {
    fingerprint.parse().map_err(|_| {
        Failure::unusable(
            "the argument is not a fingerprint; a fingerprint has sixteen hexadecimal digits, as `networkdb \
             keys list` shows",
        )
    })
}

/// Sends the secrets of a file or the standard input, if they are valid and the connection is private.
async fn send(
    api: &Api,
    method: Method,
    file: Option<&Path>,
) -> Result<hyper::Response<hyper::body::Incoming>, Failure> {
    if !api.is_private() {
        return Err(Failure::unusable(format_args!(
            "secrets are not sent to {api}: they go over a node's Unix socket only, and none of a node of \
             this user was found. Run this on the node's own host and as its user, set its socket \
             with --api unix:PATH, or change its secret file there and send it SIGHUP"
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRETS_BYTES as usize));
    let read = open(file)?.take(MAX_SECRETS_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::unusable(format_args!("cannot read the secrets: {error}")))?;
    KeySet::parse(&text).map_err(|error| Failure::unusable(format_args!("no secret is sent: {error}")))?;
    let body = Some(("text/plain; charset=utf-8", Body::from(text.as_bytes().to_vec())));
    api.request(method, "/v1/keys", body).await
}

fn shown(keys: &Keys) -> String {
    let rows = keys.keys.iter().map(|key| {
        let role = match (key.primary, keys.kind == "certificates") {
            (_, true) => "authority",
            (true, false) => "primary",
            (false, false) => "accepted",
        };
        vec![key.fingerprint.clone(), role.to_owned(), key.connections.to_string()]
    });
    table(&["FINGERPRINT", "ROLE", "#CONNECTIONS"], rows)
}

/// Listens for SIGHUP, which no longer ends the process then.
pub(super) fn listen() -> Result<Signal, Failure> {
    signal(SignalKind::hangup())
        .map_err(|error| Failure::unusable(format_args!("cannot listen for signals: {error}")))
}

/// Reads the node's files again at every SIGHUP. If they are invalid, logs an error and keeps the previous
/// identity.
pub(super) async fn reload_on_hangup(mut hangup: Signal, node: Node) {
    while hangup.recv().await.is_some() {
        let reading = node.clone();
        let read = tokio::task::spawn_blocking(move || reading.reread_identity());
        match read.await {
            Ok(Ok(identity)) => log_identity(&identity, node.identity_source()),
            Ok(Err(ChangeKeysError::NoFile)) => {}
            Ok(Err(error)) => {
                tracing::error!("identity not reloaded, the previous one stays in use: {error}")
            }
            Err(error) => tracing::error!(%error, "identity not reloaded"),
        }
    }
}

fn log_identity(identity: &Identity, source: &IdentitySource) {
    let accepts = identity.accepts().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (identity, source) {
        (Identity::Secrets(keys), IdentitySource::SecretFile(path)) => tracing::info!(
            file = %path.display(), primary = %keys.primary().fingerprint(), accepts, "secrets reloaded"
        ),
        (Identity::Certificates(certificates), IdentitySource::Certificates { certificate, .. }) => {
            tracing::info!(
                file = %certificate.display(), name = %certificates.name(), accepts, "certificates reloaded"
            )
        }
        _ => {}
    }
}
