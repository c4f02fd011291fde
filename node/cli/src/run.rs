//! `networkdb run`: runs one node until a signal ends it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use wire::NodeName;

use super::advice::advised;
use super::failure::Failure;
use super::{certificate, keys, logging, tokens};
use crate::settings::http::HttpSettings;
use crate::settings::values::{LogFormat, SocketPath};
use crate::settings::{RunOptions, Settings};
use networkdb::{Node, NodeConfig};
use networkdb_http::access::Access;
use networkdb_http::admin_socket::AdminSocket;
use networkdb_http::{HttpListener, HttpServer, LogTail, Program};

/// The pause after the first failed join. It doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two joins.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The most threads for work that blocks. Further work waits.
const BLOCKING_THREADS: usize = 32;

/// Timeout for HTTP calls in progress when the node ends.
const HTTP_LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a node; with `check`, only prints its settings.
pub(super) fn run(options: RunOptions, check: bool) -> Result<ExitCode, Failure> {
    let host_name = gethostname::gethostname().to_string_lossy().into_owned();
    let mut settings = Settings::resolve(options, &host_name).map_err(Failure::unusable)?;
    if check {
        super::output::print(&settings.to_toml())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(ip) = settings.advertised_ip().map_err(Failure::unusable)? {
        settings.advertise = Some((ip, settings.bind.port()).into());
    }
    let log = LogTail::default();
    logging::start(&settings.log_level, settings.log_format, Some(&log));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| Failure::unusable(format_args!("cannot start the async runtime: {error}")))?;
    let outcome = runtime.block_on(serve(settings, log));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(settings: Settings, log: LogTail) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let (hangup, hangup_for_http) = (keys::listen()?, keys::listen()?);
    // The HTTP port comes first: if it cannot be bound, the node must not have joined the cluster yet.
    let listener = match settings.http.address {
        None => None,
        Some(address) => {
            let listener = HttpListener::bind(address, settings.http.config.clone()).await;
            Some(with_admin_socket(
                listener.map_err(|error| Failure::unusable(advised(&error)))?,
                settings.http.admin_socket.as_ref(),
            )?)
        }
    };
    let node = Node::start(node_config(&settings)).await.map_err(Failure::unusable)?;
    let leave = Arc::new(Notify::new());
    let mut program = Program::default();
    (program.leave, program.log) = (Some(leave.clone()), Some(log));
    // Before its health is shown: a node that has to join a cluster must not be taken for one that is alone by intent.
    let joining = tokio::spawn(keep_joining(node.clone(), settings.seeds.clone()));
    let http = listener.map(|listener| listener.with_program(program).serve(node.clone()));
    announce(&settings, &node, http.as_ref());
    let token_reload = tokio::spawn(tokens::reload_on_hangup(
        settings.http.token_file.clone(),
        settings.http.config.clone(),
    ));
    let HttpSettings { certificate_files, config, .. } = settings.http.clone();
    let certificate_reload = certificate_files
        .zip(config.certificate)
        .map(|(files, store)| tokio::spawn(certificate::reload_on_hangup(hangup_for_http, files, store)));
    let identity_reload = tokio::spawn(keys::reload_on_hangup(hangup, node.clone()));
    tokio::select! {
        _ = stop.received() => {}
        () = leave.notified() => {}
    }
    joining.abort();
    identity_reload.abort();
    token_reload.abort();
    if let Some(reload) = certificate_reload {
        reload.abort();
    }
    tracing::info!("leaving the cluster; a second signal ends the node at once");
    let leaving = async {
        let web = async {
            if let Some(server) = http {
                server.shutdown(HTTP_LEAVE_TIMEOUT).await;
            }
        };
        tokio::join!(node.shutdown(settings.leave_time), web)
    };
    tokio::select! {
        _ = leaving => Ok(ExitCode::SUCCESS),
        number = stop.received() => {
            node.abort();
            // The exit status of a process that a signal ended.
            Ok(ExitCode::from(128 + number))
        }
    }
}

/// Creates the admin socket for the node's own user. If the default one cannot be created, the node runs
/// without it.
fn with_admin_socket(listener: HttpListener, path: Option<&SocketPath>) -> Result<HttpListener, Failure> {
    let socket = match path {
        Some(SocketPath::Off) => return Ok(listener),
        Some(SocketPath::At(path)) => {
            AdminSocket::bind(path).map_err(|error| Failure::unusable(advised(&error)))?
        }
        None => match AdminSocket::bind_default(listener.local_address()) {
            Ok(socket) => socket,
            Err(error) => {
                let error = advised(&error);
                tracing::warn!(
                    "{error}; without the socket, `networkdb keys` and `join` need a token for admin"
                );
                return Ok(listener);
            }
        },
    };
    tracing::debug!(socket = %socket.path().display(), "admin socket created");
    Ok(listener.with_socket(socket))
}

/// The node's configuration without the seeds: [`keep_joining`] joins through them and logs the outcomes.
fn node_config(settings: &Settings) -> NodeConfig {
    NodeConfig {
        cluster: settings.cluster.clone(),
        advertise: settings.advertise,
        networks: settings.networks.clone(),
        labels: settings.labels.clone(),
        membership: settings.limits.members.apply(settings.preset.membership()),
        limits: settings.limits.tables.clone(),
        transport: settings.limits.transport.clone(),
        reap_time: settings.reap_time,
        identity_source: settings.source.clone(),
        ..NodeConfig::new(settings.name.clone(), settings.bind, settings.identity.clone())
    }
}

/// Prints or logs the node's name, addresses and URL, and logs warnings about the settings.
fn announce(settings: &Settings, node: &Node, http: Option<&HttpServer>) {
    let (name, cluster): (NodeName, _) = (node.id().name, &settings.cluster);
    let address = node.advertised_address();
    let seeds = match settings.seeds.as_slice() {
        [] => "none (waits for others to join)".to_owned(),
        seeds => seeds.join(", "),
    };
    let url = http.map_or("off".to_owned(), |http| format!("{}/help", http.url()));
    match settings.log_format {
        LogFormat::Json => {
            let bind = settings.bind;
            tracing::info!(%name, %cluster, %address, %bind, seeds, diagnostics = url, "node started");
        }
        LogFormat::Text => {
            let line =
                format!("node {name} of cluster {cluster} at {address}; seeds: {seeds}; diagnostics: {url}");
            // A closed standard output does not stop the node.
            let _ = super::output::print(&format!("networkdb {}: {line}\n", env!("CARGO_PKG_VERSION")));
        }
    }
    if let Some(path) = settings.http.token_file.as_deref().filter(|path| others_can_read(path)) {
        let path = path.display();
        tracing::warn!(
            "other users of this host can read the HTTP tokens in {path}; protect the file with chmod 600 \
             {path}"
        );
    }
    let key_file = settings.http.certificate_files.as_ref().map(|files| files.key.as_path());
    if let Some(path) = key_file.filter(|path| others_can_read(path)) {
        let path = path.display();
        tracing::warn!(
            "other users of this host can read the key of the HTTP certificate in {path}; protect the file \
             with chmod 600 {path}"
        );
    }
    if let (Some(address), Access::Open) = (settings.http.address, &settings.http.config.access) {
        tracing::warn!("HTTP is open: every client that reaches {address} can read and change everything");
    }
    if let Some(path) = settings.source.private_file().filter(|path| others_can_read(path)) {
        let path = path.display();
        tracing::warn!(
            "other users of this host can read the secret in {path}; protect the file with chmod 600 {path}"
        );
    }
    if settings.identity.is_development() {
        tracing::warn!(
            "no secret: this node uses the public development secret and connects to nodes on this host \
             only; generate a secret with `networkdb keygen --out secret` and use it with --secret-file \
             secret"
        );
    }
}

fn others_can_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

/// Joins through the seeds, and retries until the first success. After that, the node itself rejoins when
/// needed.
async fn keep_joining(node: Node, seeds: Vec<String>) {
    if seeds.is_empty() {
        return;
    }
    let mut pause = FIRST_PAUSE;
    loop {
        match node.join(&seeds).await {
            Ok(answered) => {
                tracing::info!(
                    answered,
                    seeds = seeds.len(),
                    members = node.members().len(),
                    "joined the cluster"
                );
                return;
            }
            Err(error) => tracing::warn!("{error}; trying again in {} s", pause.as_secs()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The signals that end a node.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::unusable(format_args!("cannot listen for signals: {error}")))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next signal and returns its number.
    async fn received(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}
