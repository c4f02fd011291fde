//! The settings of the HTTP endpoints: addresses, access and limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::error::SettingsError;
use crate::settings::options::SettingOptions;
use crate::settings::origins::Origins;
use crate::settings::values::{DEFAULT_HTTP_PORT, HttpAddress, SocketPath};
use networkdb_http::access::{Access, TokenStore, read_token_file};
use networkdb_http::tls::{CertificateFiles, CertificateStore};
use networkdb_http::{HttpConfig, HttpLimits};

/// Validated HTTP settings.
#[derive(Debug, Clone)]
// Exhaustive: each setting is shown.
pub struct HttpSettings {
    /// The address, or `None` if HTTP is off.
    pub address: Option<SocketAddr>,
    /// The file with the tokens.
    pub token_file: Option<PathBuf>,
    /// The files for HTTPS; `None` for plain HTTP.
    pub certificate_files: Option<CertificateFiles>,
    /// The path of the admin socket; `None` for the default path.
    pub admin_socket: Option<SocketPath>,
    /// Access rights and limits.
    pub config: HttpConfig,
}

impl HttpSettings {
    /// Resolves the settings. The default of the longest body is at least `value_bytes`.
    pub(crate) fn resolve(
        given: &SettingOptions,
        value_bytes: usize,
        origins: &Origins,
    ) -> Result<Self, SettingsError> {
        let address = match given.http {
            None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_HTTP_PORT))),
            Some(HttpAddress::Off) => None,
            Some(HttpAddress::At(address)) => Some(address.with_port(DEFAULT_HTTP_PORT)),
        };
        let open = given.http_open.unwrap_or(false);
        let access = match &given.http_token_file {
            Some(_) if open => return Err(SettingsError::OpenWithTokens),
            Some(path) => Access::Tokens(Arc::new(TokenStore::new(read_token_file(path)?))),
            None if open => Access::Open,
            None => Access::Loopback,
        };
        if let Some(address) = address {
            access.check(address)?;
        }
        let default = HttpLimits::default();
        let limits = HttpLimits {
            connections: positive("http-max-connections", given.http_max_connections)?
                .unwrap_or(default.connections),
            requests: positive("http-max-requests", given.http_max_requests)?.unwrap_or(default.requests),
            watches: given.http_max_watches.unwrap_or(default.watches),
            body_bytes: given.http_max_body_bytes.unwrap_or(default.body_bytes.max(value_bytes)),
            head_time: some_time("http-head-time", given.http_head_time)?.unwrap_or(default.head_time),
            body_time: some_time("http-body-time", given.http_body_time)?.unwrap_or(default.body_time),
            ..default
        };
        let names = given.http_names.iter().flatten().filter(|name| !name.is_empty()).cloned().collect();
        let admin_socket = given.admin_socket.clone();
        if address.is_none() && matches!(admin_socket, Some(SocketPath::At(_))) {
            return Err(SettingsError::SocketWithoutHttp);
        }
        let token_file = given.http_token_file.clone();
        let certificate_files = certificate_files(given, origins)?;
        let certificate = certificate_files.as_ref().map(CertificateFiles::read).transpose()?;
        let certificate = certificate.map(|certificate| Arc::new(CertificateStore::new(certificate)));
        Ok(Self {
            address,
            token_file,
            certificate_files,
            admin_socket,
            config: HttpConfig { access, names, limits, advice: crate::advice::HTTP, certificate },
        })
    }
}

fn certificate_files(
    given: &SettingOptions,
    origins: &Origins,
) -> Result<Option<CertificateFiles>, SettingsError> {
    match (given.http_certificate_file.clone(), given.http_key_file.clone()) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(CertificateFiles { certificate, key })),
        (Some(path), None) => Err(SettingsError::HttpCertificateIncomplete {
            given: "--http-certificate-file",
            path,
            origin: origins.of("http_certificate_file").to_owned(),
            missing: "--http-key-file",
        }),
        (None, Some(path)) => Err(SettingsError::HttpCertificateIncomplete {
            given: "--http-key-file",
            path,
            origin: origins.of("http_key_file").to_owned(),
            missing: "--http-certificate-file",
        }),
    }
}

fn positive(setting: &'static str, found: Option<usize>) -> Result<Option<usize>, SettingsError> {
    match found {
        Some(0) => Err(SettingsError::Bounds { setting, found: "0".to_owned(), allowed: "1 or more" }),
        found => Ok(found),
    }
}

fn some_time(setting: &'static str, found: Option<Duration>) -> Result<Option<Duration>, SettingsError> {
    match found {
        Some(Duration::ZERO) => {
            Err(SettingsError::Bounds { setting, found: "0s".to_owned(), allowed: "more than 0s" })
        }
        found => Ok(found),
    }
}
