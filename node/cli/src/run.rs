//! `networkdb run`: one node until it is told to end.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use wire::NodeName;

use super::failure::Failure;
use super::{keys, logging, tokens};
use crate::settings::values::LogFormat;
use crate::settings::{RunOptions, Settings};
use networkdb::{Node, NodeConfig};
use networkdb_http::access::Access;
use networkdb_http::admin_socket::AdminSocket;
use networkdb_http::{HttpListener, HttpServer};

/// The pause after the first try to join that failed; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two tries to join.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Threads that may block, besides those of watches.
const OTHER_BLOCKING_THREADS: usize = 32;

/// HTTP calls under way get this long to finish when the node ends.
const HTTP_LEAVE_TIME: Duration = Duration::from_secs(1);

/// Runs a node, or with `check` only shows what it would run with.
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
    logging::start(&settings.log_level, settings.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Of watches each takes one; the others are bounded by what HTTP has under way.
        .max_blocking_threads(settings.http.config.limits.watches + OTHER_BLOCKING_THREADS)
        .build()
        .map_err(|error| Failure::unusable(format_args!("the system refused what a node needs: {error}")))?;
    let outcome = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(settings: Settings) -> Result<ExitCode, Failure> {
    let mut stop = Stop::listen()?;
    let hangup = keys::listen()?;
    // The HTTP port comes first: a node that cannot be asked does not join for a moment only to leave again.
    let listener = match settings.http.address {
        None => None,
        Some(address) => {
            let listener = HttpListener::bind(address, settings.http.config.clone()).await;
            Some(with_admin_socket(
                listener.map_err(Failure::unusable)?,
                settings.http.admin_socket.as_deref(),
            )?)
        }
    };
    let node = Node::start(node_config(&settings)).await.map_err(Failure::unusable)?;
    let http = listener.map(|listener| listener.serve(node.clone()));
    announce(&settings, &node, http.as_ref());
    let joining = tokio::spawn(keep_joining(node.clone(), settings.seeds.clone()));
    let rereading =
        tokio::spawn(tokens::keep_reading(settings.http.token_file.clone(), settings.http.config.clone()));
    let keys = tokio::spawn(keys::keep_reading(hangup, node.clone()));
    stop.told().await;
    joining.abort();
    keys.abort();
    rereading.abort();
    tracing::info!("leaving the cluster; a second signal ends the node at once");
    let leaving = async {
        let web = async {
            if let Some(server) = http {
                server.shutdown(HTTP_LEAVE_TIME).await;
            }
        };
        tokio::join!(node.shutdown(settings.leave_time), web)
    };
    tokio::select! {
        _ = leaving => Ok(ExitCode::SUCCESS),
        number = stop.told() => {
            node.abort();
            // As the shell tells a process that a signal ended.
            Ok(ExitCode::from(128 + number))
        }
    }
}

/// Makes the socket for the node's own user. One that nobody asked for is done without if it cannot be had.
fn with_admin_socket(listener: HttpListener, path: Option<&Path>) -> Result<HttpListener, Failure> {
    let socket = match path {
        Some(path) if path.as_os_str().is_empty() => return Ok(listener),
        Some(path) => AdminSocket::bind(path).map_err(Failure::unusable)?,
        None => match AdminSocket::bind_default(listener.local_address()) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!("{error}; until then `networkdb keys` and `join` need a token for admin");
                return Ok(listener);
            }
        },
    };
    tracing::debug!(socket = %socket.path().display(), "answering this user");
    Ok(listener.with_socket(socket))
}

/// Without the seeds: they are joined by [`keep_joining`], which tells how that goes.
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

/// Tells people, or programs, who runs here and where it can be asked.
fn announce(settings: &Settings, node: &Node, http: Option<&HttpServer>) {
    let (name, cluster): (NodeName, _) = (node.id().name, &settings.cluster);
    let address = node.advertised_address();
    let seeds = match settings.seeds.as_slice() {
        [] => "none (waits for others to join)".to_owned(),
        seeds => seeds.join(", "),
    };
    let url = http.map_or("off".to_owned(), |http| format!("http://{}/help", http.local_address()));
    match settings.log_format {
        LogFormat::Json => {
            tracing::info!(%name, %cluster, %address, bind = %settings.bind, seeds, diagnostics = url, "node started");
        }
        LogFormat::Text => {
            let line =
                format!("node {name} of cluster {cluster} at {address}; seeds: {seeds}; diagnostics: {url}");
            // A node does its work whether or not somebody reads this.
            let _ = super::output::print(&format!("networkdb {}: {line}\n", env!("CARGO_PKG_VERSION")));
        }
    }
    if let Some(path) = settings.http.token_file.as_deref().filter(|path| others_can_read(path)) {
        let path = path.display();
        tracing::warn!(
            "other users of this host can read the HTTP tokens in {path}; keep them to yourself with chmod 600 {path}"
        );
    }
    if let (Some(address), Access::Open) = (settings.http.address, &settings.http.config.access) {
        tracing::warn!("HTTP is open: whoever reaches {address} can read and change everything");
    }
    if let Some(path) = settings.source.private_file().filter(|path| others_can_read(path)) {
        let path = path.display();
        tracing::warn!(
            "other users of this host can read the secret in {path}; keep it to yourself with chmod 600 {path}"
        );
    }
    if settings.identity.is_development() {
        tracing::warn!(
            "no secret: this node uses the development secret that everybody knows, and talks to this host only; make one \
             with `networkdb keygen --out secret` and give it with --secret-file secret"
        );
    }
}

fn others_can_read(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

/// Joins through the seeds, and tries again until it has worked once; after that the node sees to it.
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

    /// Waits for the next one and gives its number.
    async fn told(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}
