//! The settings of `networkdb run`: flags have precedence over the environment, the environment over the
//! file, and the file over defaults.

mod error;
mod file;
pub mod http;
pub mod limits;
pub mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use transport::{ClusterName, Identity, KeySet};
use wire::NodeName;

use crate::settings::file::File;
use crate::settings::http::{HttpOptions, HttpSettings};
use crate::settings::limits::{Limits, limit};
use crate::settings::values::{DEFAULT_PORT, ListenAddress, LogFormat, Preset, label, log_filter};
pub use error::SettingsError;
use networkdb::identity::IdentitySource;

/// Settings on the command line or in the environment. Missing ones are read from the file.
#[derive(Debug, Clone, Default, clap::Args)]
// Exhaustive: the command line builds it.
pub struct RunOptions {
    /// A TOML file with settings named like the flags; flags and environment have precedence
    #[arg(long, env = "NETWORKDB_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// This node's name, unique in its cluster [default: the host's name]
    #[arg(long, env = "NETWORKDB_NAME", hide_env_values = true)]
    pub name: Option<NodeName>,
    /// The cluster's name: nodes of different clusters refuse each other [default: default]
    #[arg(long, env = "NETWORKDB_CLUSTER", hide_env_values = true, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    /// The address on which to listen for other nodes [default: 0.0.0.0:7946 with a secret, 127.0.0.1:7946
    /// without]
    #[arg(long, env = "NETWORKDB_BIND", hide_env_values = true, value_name = "ADDRESS[:PORT]")]
    pub bind: Option<ListenAddress>,
    /// The address at which other nodes reach this one [default: the bound address, or that of the interface
    /// facing the seeds]
    #[arg(long, env = "NETWORKDB_ADVERTISE", hide_env_values = true, value_name = "ADDRESS[:PORT]")]
    pub advertise: Option<ListenAddress>,
    /// Settings of HTTP.
    #[command(flatten)]
    pub http: HttpOptions,
    /// Nodes to join through; may be repeated, or separated by commas
    #[arg(
        long = "seed",
        env = "NETWORKDB_SEEDS",
        hide_env_values = true,
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    pub seeds: Option<Vec<String>>,
    /// Networks to join at start; may be repeated, or separated by commas
    #[arg(
        long = "network",
        env = "NETWORKDB_NETWORKS",
        hide_env_values = true,
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub networks: Option<Vec<String>>,
    /// The file with the cluster's secret, generated with `networkdb keygen`
    #[arg(long, env = "NETWORKDB_SECRET_FILE", hide_env_values = true, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Instead of a secret: the file with this node's certificate of your own authority, in PEM
    #[arg(long, env = "NETWORKDB_CERTIFICATE_FILE", hide_env_values = true, value_name = "FILE")]
    pub certificate_file: Option<PathBuf>,
    /// The file with the certificate's private key, in PEM
    #[arg(long, env = "NETWORKDB_KEY_FILE", hide_env_values = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The file with the certificates of the accepted authorities, and their revocation lists if any, in PEM
    #[arg(long, env = "NETWORKDB_AUTHORITY_FILE", hide_env_values = true, value_name = "FILE")]
    pub authority_file: Option<PathBuf>,
    /// A label that other nodes see; may be repeated, or separated by commas
    #[arg(
        long = "label",
        env = "NETWORKDB_LABELS", hide_env_values = true,
        value_name = "KEY=VALUE",
        value_delimiter = ',',
        value_parser = label
    )]
    pub labels: Option<Vec<(String, String)>>,
    /// The log level: error, warn, info, debug or trace, also by part, such as info,transport=debug [default:
    /// info]
    #[arg(
        long,
        env = "NETWORKDB_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL",
        value_parser = log_filter
    )]
    pub log_level: Option<String>,
    /// The log format: text or json [default: text]
    #[arg(
        long,
        hide_possible_values = true,
        env = "NETWORKDB_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT"
    )]
    pub log_format: Option<LogFormat>,
    /// The kind of network between the nodes: lan, wan or loopback; the same on all nodes [default: lan]
    #[arg(long, hide_possible_values = true, env = "NETWORKDB_PRESET", hide_env_values = true)]
    pub preset: Option<Preset>,
    /// How long tombstones of deletes are kept [default: 30m]
    #[arg(
        long,
        env = "NETWORKDB_REAP_TIME",
        hide_env_values = true,
        value_name = "TIME",
        value_parser = humantime::parse_duration
    )]
    pub reap_time: Option<Duration>,
    /// Timeout for leaving the cluster when a signal ends the node [default: 5s]
    #[arg(
        long,
        env = "NETWORKDB_LEAVE_TIME",
        hide_env_values = true,
        value_name = "TIME",
        value_parser = humantime::parse_duration
    )]
    pub leave_time: Option<Duration>,
    /// A limit, such as connections=100; may be repeated, or separated by commas. --check prints all limits
    /// with their values
    #[arg(
        long = "limit",
        env = "NETWORKDB_LIMITS",
        hide_env_values = true,
        value_name = "NAME=N",
        value_delimiter = ',',
        value_parser = limit
    )]
    pub limits: Option<Vec<(String, usize)>>,
    /// The largest value, in bytes [default: 1048576]
    #[arg(long, env = "NETWORKDB_MAX_VALUE_BYTES", hide_env_values = true, value_name = "N")]
    pub max_value_bytes: Option<usize>,
    /// The most entries of a network, tombstones included [default: 10000000]
    #[arg(long, env = "NETWORKDB_MAX_ENTRIES", hide_env_values = true, value_name = "N")]
    pub max_entries: Option<usize>,
    /// The most networks that this node may join [default: 4096]
    #[arg(long, env = "NETWORKDB_MAX_NETWORKS", hide_env_values = true, value_name = "N")]
    pub max_networks: Option<usize>,
}

/// Validated settings. Errors of the system, such as a port in use, show at the start.
#[derive(Debug, Clone)]
// Exhaustive: each setting is used or shown.
pub struct Settings {
    /// This node's name.
    pub name: NodeName,
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The address on which to listen for other nodes.
    pub bind: SocketAddr,
    /// The address at which other nodes reach this one; `None` to detect it.
    pub advertise: Option<SocketAddr>,
    /// Settings of HTTP.
    pub http: HttpSettings,
    /// Nodes to join through, as given.
    pub seeds: Vec<String>,
    /// Networks to join at start.
    pub networks: Vec<String>,
    /// The source of the identity; [`IdentitySource::Program`] for the development secret.
    pub source: IdentitySource,
    /// The node's identity.
    pub identity: Identity,
    /// Labels that other nodes see.
    pub labels: BTreeMap<String, String>,
    /// The log filter.
    pub log_level: String,
    /// The log format.
    pub log_format: LogFormat,
    /// The kind of network between the nodes.
    pub preset: Preset,
    /// How long tombstones of deletes are kept.
    pub reap_time: Duration,
    /// Timeout for leaving the cluster.
    pub leave_time: Duration,
    /// All limits.
    pub limits: Limits,
}

impl Settings {
    /// Resolves and validates the settings. `host_name` is the default of the node's name.
    pub fn resolve(options: RunOptions, host_name: &str) -> Result<Self, SettingsError> {
        let file = match &options.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        let named = |name: &str, limit: Option<usize>| Some((name.to_owned(), limit?));
        let limits = Limits::resolve(
            file.limits.clone().unwrap_or_default(),
            options.limits.unwrap_or_default().into_iter().chain(
                [
                    named("value-bytes", options.max_value_bytes.or(file.max_value_bytes)),
                    named("entries", options.max_entries.or(file.max_entries)),
                    named("networks", options.max_networks.or(file.max_networks)),
                ]
                .into_iter()
                .flatten(),
            ),
        )?;
        let http = HttpSettings::resolve(options.http, &file, limits.tables.value_bytes)?;
        let name = match options.name.or(file.name) {
            Some(name) => name,
            None => NodeName::new(host_name).map_err(SettingsError::HostName)?,
        };
        let source = identity_source(
            options.secret_file.or(file.secret_file),
            [
                options.certificate_file.or(file.certificate_file),
                options.key_file.or(file.key_file),
                options.authority_file.or(file.authority_file),
            ],
        )?;
        let identity = source.read()?.unwrap_or_else(|| KeySet::development().into());
        let cluster = options.cluster.or(file.cluster).unwrap_or_default();
        if let IdentitySource::Certificates { certificate, .. } = &source {
            let refused = |error| SettingsError::Certificate { path: certificate.clone(), error };
            identity.check(&name, &cluster).map_err(refused)?;
        }
        let protected = source != IdentitySource::Program;
        let default_ip = if protected { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let bind = options.bind.or(file.bind);
        let bind =
            bind.map_or(SocketAddr::from((default_ip, DEFAULT_PORT)), |bind| bind.with_port(DEFAULT_PORT));
        if !protected && !bind.ip().is_loopback() {
            return Err(SettingsError::NoSecret(bind));
        }
        let advertise = options.advertise.or(file.advertise).map(|address| address.with_port(bind.port()));
        if let Some(address) = advertise.filter(|address| address.ip().is_unspecified()) {
            return Err(SettingsError::Bounds {
                setting: "advertise",
                found: address.to_string(),
                allowed: "an address that other nodes can reach",
            });
        }
        let networks = non_empty(options.networks.or(file.networks));
        if networks.iter().any(String::is_empty) {
            return Err(SettingsError::EmptyNetwork);
        }
        Ok(Self {
            name,
            cluster,
            bind,
            advertise,
            http,
            seeds: non_empty(options.seeds.or(file.seeds)),
            networks,
            source,
            identity,
            labels: options.labels.map(BTreeMap::from_iter).or(file.labels).unwrap_or_default(),
            log_level: options.log_level.or(file.log_level).unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.or(file.log_format).unwrap_or_default(),
            preset: options.preset.or(file.preset).unwrap_or_default(),
            reap_time: options.reap_time.or(file.reap_time).unwrap_or(Duration::from_secs(30 * 60)),
            leave_time: options.leave_time.or(file.leave_time).unwrap_or(Duration::from_secs(5)),
            limits,
        })
    }

    /// Detects the address to advertise when the node listens on all addresses: that of the interface with
    /// the route to the first seed, or else to the internet. It sends nothing.
    pub fn advertised_ip(&self) -> Result<Option<IpAddr>, AdvertiseError> {
        if self.advertise.is_some() || !self.bind.ip().is_unspecified() {
            return Ok(None);
        }
        let seeds = self.seeds.iter().filter_map(|seed| resolve_quickly(seed));
        // Any public address will do: these are reserved for documentation.
        let world: SocketAddr = match self.bind {
            SocketAddr::V4(_) => ([203, 0, 113, 1], 9).into(),
            SocketAddr::V6(_) => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(),
        };
        seeds
            .chain([world])
            .find_map(|target| interface_facing(self.bind, target))
            .map(Some)
            .ok_or(AdvertiseError(self.bind))
    }

    /// The settings as a configuration file, with the paths of secrets but not the secrets.
    pub fn to_toml(&self) -> String {
        let quote = |text: &str| toml::Value::from(text).to_string();
        let list = |texts: &[String]| {
            format!("[{}]", texts.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", "))
        };
        let mut lines = vec![
            format!("name = {}", quote(self.name.as_str())),
            format!("cluster = {}", quote(self.cluster.as_str())),
            format!("bind = {}", quote(&self.bind.to_string())),
        ];
        if let Some(advertise) = self.advertise {
            lines.push(format!("advertise = {}", quote(&advertise.to_string())));
        }
        lines.extend(self.http.toml_lines(quote));
        lines
            .extend([format!("seed = {}", list(&self.seeds)), format!("network = {}", list(&self.networks))]);
        let mut file = |name: &str, path: &Path| {
            lines.push(format!("{name} = {}", quote(&path.to_string_lossy())));
        };
        match &self.source {
            IdentitySource::Program => {}
            IdentitySource::SecretFile(path) => file("secret-file", path),
            IdentitySource::Certificates { certificate, key, authorities } => {
                file("certificate-file", certificate);
                file("key-file", key);
                file("authority-file", authorities);
            }
        }
        lines.extend([
            format!("log-level = {}", quote(&self.log_level)),
            format!("log-format = {}", quote(self.log_format.as_str())),
            format!("preset = {}", quote(self.preset.as_str())),
            format!("reap-time = {}", quote(&humantime::format_duration(self.reap_time).to_string())),
            format!("leave-time = {}", quote(&humantime::format_duration(self.leave_time).to_string())),
        ]);
        lines.push("\n[limit]".to_owned());
        lines.extend(self.limits.iter().map(|(name, limit)| format!("{name} = {limit}")));
        if !self.labels.is_empty() {
            lines.push("\n[label]".to_owned());
            lines.extend(self.labels.iter().map(|(key, value)| format!("{} = {}", quote(key), quote(value))));
        }
        lines.join("\n") + "\n"
    }
}

/// No interface has a route to another host.
#[derive(Debug, thiserror::Error)]
#[error(
    "the node listens on all addresses ({0}), but no interface leads to other hosts; set the address of this \
     node with --advertise"
)]
pub struct AdvertiseError(SocketAddr);

/// The source of the identity in the settings: a secret file or certificates.
fn identity_source(
    secret_file: Option<PathBuf>,
    certificate_files: [Option<PathBuf>; 3],
) -> Result<IdentitySource, SettingsError> {
    let missing = |what| SettingsError::CertificateIncomplete(what);
    match (secret_file, certificate_files) {
        (None, [None, None, None]) => Ok(IdentitySource::Program),
        (Some(path), [None, None, None]) => Ok(IdentitySource::SecretFile(path)),
        (Some(_), _) => Err(SettingsError::SecretAndCertificate),
        (None, [certificate, key, authorities]) => Ok(IdentitySource::Certificates {
            certificate: certificate.ok_or(missing("--certificate-file"))?,
            key: key.ok_or(missing("--key-file"))?,
            authorities: authorities.ok_or(missing("--authority-file"))?,
        }),
    }
}

/// An empty environment variable means an empty list, not a list of one empty text.
fn non_empty(list: Option<Vec<String>>) -> Vec<String> {
    match list.unwrap_or_default() {
        only if only == [""] => Vec::new(),
        list => list.into_iter().map(|text| text.trim().to_owned()).collect(),
    }
}

/// The address of a seed that is an address. The node resolves host names itself.
fn resolve_quickly(seed: &str) -> Option<SocketAddr> {
    seed.parse::<ListenAddress>().ok().map(|address| address.with_port(DEFAULT_PORT))
}

fn interface_facing(bind: SocketAddr, target: SocketAddr) -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((bind.ip(), 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests;
