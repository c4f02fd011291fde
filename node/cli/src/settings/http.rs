//! The settings of the HTTP endpoints: addresses, access and limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::error::SettingsError;
use crate::settings::file::File;
use crate::settings::values::{DEFAULT_HTTP_PORT, HttpAddress};
use networkdb_http::access::{Access, TokenStore, read_token_file};
use networkdb_http::{HttpConfig, HttpLimits};

/// Settings of HTTP on the command line or in the environment.
#[derive(Debug, Clone, Default, clap::Args)]
// Exhaustive: the command line builds it.
pub struct HttpOptions {
    /// The address of the HTTP endpoints, or "off" [default: 127.0.0.1:2000]
    #[arg(long, env = "NETWORKDB_HTTP", hide_env_values = true, value_name = "ADDRESS[:PORT]")]
    pub http: Option<HttpAddress>,
    /// The file with the tokens for HTTP clients, generated with `networkdb tokengen`
    #[arg(long, env = "NETWORKDB_HTTP_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,
    /// Allow every client that reaches the HTTP address to read and change everything
    #[arg(
        long,
        env = "NETWORKDB_HTTP_OPEN",
        hide_env_values = true,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub http_open: Option<bool>,
    /// The path of the Unix socket for the node's own user, who has all rights, or "off" [default: the path
    /// where the client commands look for it]
    #[arg(long, env = "NETWORKDB_ADMIN_SOCKET", hide_env_values = true, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// A host name of this node for HTTP without tokens, besides its addresses and localhost; may be
    /// repeated, or separated by commas
    #[arg(
        long = "http-name",
        env = "NETWORKDB_HTTP_NAMES",
        hide_env_values = true,
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub http_names: Option<Vec<String>>,
    /// The limit of concurrent HTTP connections [default: 256]
    #[arg(long, env = "NETWORKDB_HTTP_MAX_CONNECTIONS", hide_env_values = true, value_name = "N")]
    pub http_max_connections: Option<usize>,
    /// The limit of concurrent HTTP requests, without watches and imports [default: 64]
    #[arg(long, env = "NETWORKDB_HTTP_MAX_REQUESTS", hide_env_values = true, value_name = "N")]
    pub http_max_requests: Option<usize>,
    /// The limit of concurrent watches over HTTP [default: 64]
    #[arg(long, env = "NETWORKDB_HTTP_MAX_WATCHES", hide_env_values = true, value_name = "N")]
    pub http_max_watches: Option<usize>,
    /// The longest body of an HTTP request other than an import, in bytes [default: 4194304, or the largest
    /// value if that is more]
    #[arg(long, env = "NETWORKDB_HTTP_MAX_BODY_BYTES", hide_env_values = true, value_name = "N")]
    pub http_max_body_bytes: Option<usize>,
    /// Timeout for the head of an HTTP request, and for an idle connection [default: 10s]
    #[arg(
        long,
        env = "NETWORKDB_HTTP_HEAD_TIME",
        hide_env_values = true,
        value_name = "TIME",
        value_parser = humantime::parse_duration
    )]
    pub http_head_time: Option<Duration>,
    /// Timeout for the body of an HTTP request, and for the client to read the response [default: 30s]
    #[arg(
        long,
        env = "NETWORKDB_HTTP_BODY_TIME",
        hide_env_values = true,
        value_name = "TIME",
        value_parser = humantime::parse_duration
    )]
    pub http_body_time: Option<Duration>,
}

/// Validated HTTP settings.
#[derive(Debug, Clone)]
// Exhaustive: each setting is shown.
pub struct HttpSettings {
    /// The address, or `None` if HTTP is off.
    pub address: Option<SocketAddr>,
    /// The file with the tokens.
    pub token_file: Option<PathBuf>,
    /// The path of the admin socket; `None` for the default path, an empty path if it is off.
    pub admin_socket: Option<PathBuf>,
    /// Access rights and limits.
    pub config: HttpConfig,
}

impl HttpSettings {
    /// Resolves the settings. The default of the longest body is at least `value_bytes`.
    pub(crate) fn resolve(
        options: HttpOptions,
        file: &File,
        value_bytes: usize,
    ) -> Result<Self, SettingsError> {
        let address = match options.http.or(file.http) {
            None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_HTTP_PORT))),
            Some(HttpAddress::Off) => None,
            Some(HttpAddress::At(address)) => Some(address.with_port(DEFAULT_HTTP_PORT)),
        };
        let token_file = options.http_token_file.or(file.http_token_file.clone());
        let open = options.http_open.or(file.http_open).unwrap_or(false);
        let access = match &token_file {
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
            connections: positive(
                "http-max-connections",
                options.http_max_connections.or(file.http_max_connections),
            )?
            .unwrap_or(default.connections),
            requests: positive("http-max-requests", options.http_max_requests.or(file.http_max_requests))?
                .unwrap_or(default.requests),
            watches: options.http_max_watches.or(file.http_max_watches).unwrap_or(default.watches),
            body_bytes: options
                .http_max_body_bytes
                .or(file.http_max_body_bytes)
                .unwrap_or(default.body_bytes.max(value_bytes)),
            head_time: some_time("http-head-time", options.http_head_time.or(file.http_head_time))?
                .unwrap_or(default.head_time),
            body_time: some_time("http-body-time", options.http_body_time.or(file.http_body_time))?
                .unwrap_or(default.body_time),
            ..default
        };
        let names = options.http_names.or(file.http_names.clone()).unwrap_or_default();
        let names = names.into_iter().filter(|name| !name.is_empty()).collect();
        let admin_socket = options.admin_socket.or(file.admin_socket.clone());
        let admin_socket =
            admin_socket.map(|path| if path.as_os_str() == "off" { PathBuf::new() } else { path });
        if address.is_none() && admin_socket.as_ref().is_some_and(|path| !path.as_os_str().is_empty()) {
            return Err(SettingsError::SocketWithoutHttp);
        }
        Ok(Self { address, token_file, admin_socket, config: HttpConfig { access, names, limits } })
    }

    /// The lines of a configuration file with these settings.
    pub(crate) fn toml_lines(&self, quote: impl Fn(&str) -> String) -> Vec<String> {
        let HttpConfig { access, names, limits } = &self.config;
        let mut lines =
            vec![format!("http = {}", quote(&self.address.map_or("off".to_owned(), |at| at.to_string())))];
        if let Some(path) = &self.token_file {
            lines.push(format!("http-token-file = {}", quote(&path.to_string_lossy())));
        }
        if let Some(path) = &self.admin_socket {
            let path = if path.as_os_str().is_empty() { "off".into() } else { path.to_string_lossy() };
            lines.push(format!("admin-socket = {}", quote(&path)));
        }
        if matches!(access, Access::Open) {
            lines.push("http-open = true".to_owned());
        }
        let names = names.iter().map(|name| quote(name)).collect::<Vec<_>>();
        let time = |time: Duration| quote(&humantime::format_duration(time).to_string());
        lines.extend([
            format!("http-name = [{}]", names.join(", ")),
            format!("http-max-connections = {}", limits.connections),
            format!("http-max-requests = {}", limits.requests),
            format!("http-max-watches = {}", limits.watches),
            format!("http-max-body-bytes = {}", limits.body_bytes),
            format!("http-head-time = {}", time(limits.head_time)),
            format!("http-body-time = {}", time(limits.body_time)),
        ]);
        lines
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
