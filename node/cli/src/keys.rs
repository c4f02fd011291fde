//! `networkdb keys`: what a running node proves itself with; and reading its files again when it is told to.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use axum::body::Body;
use hyper::Method;
use tokio::signal::unix::{Signal, SignalKind, signal};
use transport::{Fingerprint, Identity, KeySet};
use zeroize::Zeroizing;

use super::api::{Api, path};
use super::failure::Failure;
use super::import::open;
use super::output::{print, print_json, table};
use super::{KeysCommand, KeysWhat};
use networkdb::Node;
use networkdb::identity::{ChangeKeysError, IdentitySource};
use networkdb_http::v1::model::Keys;

/// A secret file is much shorter, in bytes.
const MAX_SECRETS_BYTES: u64 = 64 << 10;

/// Asks the node, and prints what it works with then.
pub(super) async fn keys(KeysCommand { client, what }: KeysCommand) -> Result<ExitCode, Failure> {
    let api = &client.api;
    let answer = match &what {
        KeysWhat::List => api.ask(Method::GET, "/v1/keys", None).await,
        KeysWhat::Add { file } => send(api, Method::POST, file.as_deref()).await,
        KeysWhat::Apply { file } => send(api, Method::PUT, file.as_deref()).await,
        KeysWhat::Use { fingerprint } => {
            let path = path(&["keys", &read(fingerprint)?.to_string(), "use"]);
            api.ask(Method::POST, &path, None).await
        }
        KeysWhat::Remove { fingerprint } => {
            let path = path(&["keys", &read(fingerprint)?.to_string()]);
            api.ask(Method::DELETE, &path, None).await
        }
    };
    let answer = answer.map_err(|failure| match failure {
        Failure::Refused(sentence) => {
            Failure::Refused(format!("{sentence}; a node reads its files again when it receives SIGHUP"))
        }
        other => other,
    })?;
    let keys: Keys = api.read_json(answer).await?;
    if client.json {
        print_json(&keys)?;
    } else {
        print(&shown(&keys))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with it is told without it: it may be a secret that was taken for its fingerprint.
fn read(fingerprint: &str) -> Result<Fingerprint, Failure> {
    fingerprint.parse().map_err(|_| {
        Failure::unusable("what is given is no fingerprint; right would be sixteen hexadecimal digits, as `networkdb keys list` shows them")
    })
}

/// Sends what a file or the standard input holds, if it makes sense, and nobody on the way can read it.
async fn send(
    api: &Api,
    method: Method,
    file: Option<&Path>,
) -> Result<hyper::Response<hyper::body::Incoming>, Failure> {
    if !api.is_private() {
        return Err(Failure::unusable(format_args!(
            "secrets are not sent to {api}: HTTP would show them to everybody on the way, and no Unix socket of this user's node was \
             found. Call this on the node's own host and as its user, say with --api unix:PATH where its socket is, or change its \
             secret file there and send it SIGHUP"
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_SECRETS_BYTES as usize));
    let read = open(file)?.take(MAX_SECRETS_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::unusable(format_args!("cannot read the secrets: {error}")))?;
    KeySet::parse(&text).map_err(|error| Failure::unusable(format_args!("no secret is sent: {error}")))?;
    let body = Some(("text/plain; charset=utf-8", Body::from(text.as_bytes().to_vec())));
    api.ask(method, "/v1/keys", body).await
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

/// From here on SIGHUP does not end the process.
pub(super) fn listen() -> Result<Signal, Failure> {
    signal(SignalKind::hangup())
        .map_err(|error| Failure::unusable(format_args!("cannot listen for signals: {error}")))
}

/// Reads the node's files again at every SIGHUP. What is wrong with them is told, and the former stay in use.
pub(super) async fn keep_reading(mut hangup: Signal, node: Node) {
    while hangup.recv().await.is_some() {
        let reading = node.clone();
        let read = tokio::task::spawn_blocking(move || reading.reread_identity());
        match read.await {
            Ok(Ok(identity)) => tell(&identity, node.identity_source()),
            Ok(Err(ChangeKeysError::NoFile)) => {}
            Ok(Err(error)) => tracing::error!("what this node proves itself with stays as it was: {error}"),
            Err(error) => tracing::error!(%error, "reading the identity again failed"),
        }
    }
}

fn tell(identity: &Identity, source: &IdentitySource) {
    let accepts = identity.accepts().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (identity, source) {
        (Identity::Secrets(keys), IdentitySource::SecretFile(path)) => tracing::info!(
            file = %path.display(), primary = %keys.primary().fingerprint(), accepts, "secrets read again"
        ),
        (Identity::Certificates(certificates), IdentitySource::Certificates { certificate, .. }) => {
            tracing::info!(
                file = %certificate.display(), name = %certificates.name(), accepts, "certificates read again"
            )
        }
        _ => {}
    }
}
