//! The settings of `networkdb run`: flags have precedence over the environment, the environment over the
//! file, and the file over defaults.

mod error;
mod file;
mod file_value;
pub mod http;
pub mod limits;
mod options;
mod origins;
pub mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use transport::{ClusterName, Identity, KeySet};
use wire::NodeName;

use crate::settings::http::HttpSettings;
use crate::settings::limits::Limits;
use crate::settings::origins::Origins;
use crate::settings::values::{DEFAULT_PORT, HttpAddress, ListenAddress, LogFormat, Preset};
pub use error::SettingsError;
use networkdb::identity::IdentitySource;
use networkdb_http::HttpConfig;
use networkdb_http::access::Access;
pub use options::{RunOptions, SettingOptions};

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
        let RunOptions { config, settings: given } = options;
        let file = config.as_deref().map(file::read).transpose()?.unwrap_or_default();
        // Limits of the file stay in force beside other ones on the command line.
        let limits = Limits::resolve(file.named_limits().chain(given.named_limits()))?;
        let origins = Origins::new(&given, &file, config.as_deref());
        let given = given.or(file);
        let http = HttpSettings::resolve(&given, limits.tables.value_bytes, &origins)?;
        let name = match given.name {
            Some(name) => name,
            None => NodeName::new(host_name).map_err(SettingsError::HostName)?,
        };
        let certificate_files = [given.certificate_file, given.key_file, given.authority_file];
        let source = identity_source(given.secret_file, certificate_files)?;
        let identity = source.read()?.unwrap_or_else(|| KeySet::development().into());
        let cluster = given.cluster.unwrap_or_default();
        if let IdentitySource::Certificates { certificate, .. } = &source {
            let refused = |error| SettingsError::Certificate { path: certificate.clone(), error };
            identity.check(&name, &cluster).map_err(refused)?;
        }
        let protected = source != IdentitySource::Program;
        let default_ip = if protected { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let bind = given.bind.map(|bind| bind.with_port(DEFAULT_PORT));
        let bind = bind.unwrap_or(SocketAddr::from((default_ip, DEFAULT_PORT)));
        if !protected && !bind.ip().is_loopback() {
            return Err(SettingsError::NoSecret(bind));
        }
        let advertise = given.advertise.map(|address| address.with_port(bind.port()));
        if let Some(address) = advertise.filter(|address| address.ip().is_unspecified()) {
            return Err(SettingsError::Bounds {
                setting: "advertise",
                found: address.to_string(),
                allowed: "an address that other nodes can reach",
            });
        }
        let networks = non_empty(given.networks);
        if networks.iter().any(String::is_empty) {
            return Err(SettingsError::EmptyNetwork);
        }
        Ok(Self {
            name,
            cluster,
            bind,
            advertise,
            http,
            seeds: non_empty(given.seeds),
            networks,
            source,
            identity,
            labels: given.labels.into_iter().flatten().collect(),
            log_level: given.log_level.unwrap_or_else(|| "info".to_owned()),
            log_format: given.log_format.unwrap_or_default(),
            preset: given.preset.unwrap_or_default(),
            reap_time: given.reap_time.unwrap_or(Duration::from_secs(30 * 60)),
            leave_time: given.leave_time.unwrap_or(Duration::from_secs(5)),
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
        file::write(&self.in_force())
    }

    /// The options with which these settings are given in full. Each one is named here, so that none can be
    /// missing in [`Self::to_toml`].
    fn in_force(&self) -> SettingOptions {
        let HttpSettings { address, token_file, certificate_files, admin_socket, config } = &self.http;
        let HttpConfig { access, names, limits: http, advice: _, certificate: _ } = config;
        let (secret_file, [certificate_file, key_file, authority_file]) = match self.source.clone() {
            IdentitySource::Program => (None, [None, None, None]),
            IdentitySource::SecretFile(path) => (Some(path), [None, None, None]),
            IdentitySource::Certificates { certificate, key, authorities } => {
                (None, [certificate, key, authorities].map(Some))
            }
        };
        SettingOptions {
            name: Some(self.name.clone()),
            cluster: Some(self.cluster.clone()),
            bind: Some(self.bind.into()),
            advertise: self.advertise.map(ListenAddress::from),
            http: Some(address.map_or(HttpAddress::Off, |address| HttpAddress::At(address.into()))),
            http_token_file: token_file.clone(),
            http_certificate_file: certificate_files.as_ref().map(|files| files.certificate.clone()),
            http_key_file: certificate_files.as_ref().map(|files| files.key.clone()),
            http_open: Some(matches!(access, Access::Open)),
            admin_socket: admin_socket.clone(),
            http_names: Some(names.clone()),
            http_max_connections: Some(http.connections),
            http_max_requests: Some(http.requests),
            http_max_watches: Some(http.watches),
            http_max_body_bytes: Some(http.body_bytes),
            http_head_time: Some(http.head_time),
            http_body_time: Some(http.body_time),
            seeds: Some(self.seeds.clone()),
            networks: Some(self.networks.clone()),
            secret_file,
            certificate_file,
            key_file,
            authority_file,
            labels: Some(self.labels.clone().into_iter().collect()),
            log_level: Some(self.log_level.clone()),
            log_format: Some(self.log_format),
            preset: Some(self.preset),
            reap_time: Some(self.reap_time),
            leave_time: Some(self.leave_time),
            limits: Some(self.limits.iter().map(|(name, limit)| (name.to_owned(), limit)).collect()),
            max_value_bytes: Some(self.limits.tables.value_bytes),
            max_entries: Some(self.limits.tables.entries),
            max_networks: Some(self.limits.tables.networks),
        }
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
