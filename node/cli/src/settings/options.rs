//! The definitions of all settings. The flags and their help, the environment variables, the names and types
//! in the configuration file, the output of `--check` and the README's table come from here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use transport::ClusterName;
use wire::NodeName;

use crate::settings::file_value::FileValue;
use crate::settings::limits::limit;
use crate::settings::values::{
    HttpAddress, ListenAddress, LogFormat, Preset, SocketPath, label, log_filter, size, time,
};

/// Defines a struct of options that clap reads, all of them optional, and the operations on all of them.
macro_rules! settings {
    ($(#[$of_struct:meta])* pub struct $name:ident {
        $($(#[$of_field:meta])* pub $field:ident: Option<$type:ty>,)*
    }) => {
        $(#[$of_struct])*
        #[derive(Debug, Clone, Default, clap::Args)]
        pub struct $name {
            $(#[arg(long, hide_env_values = true)] $(#[$of_field])* pub $field: Option<$type>,)*
        }

        impl $name {
            /// Takes the settings that are missing here from `other`.
            pub(crate) fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)* }
            }

            /// The values of the settings that have one, by the IDs of their arguments.
            pub(crate) fn values(&self) -> BTreeMap<&'static str, toml::Value> {
                let values = [$((stringify!($field), self.$field.as_ref().map(FileValue::to_toml)),)*];
                values.into_iter().filter_map(|(id, value)| Some((id, value?))).collect()
            }
        }
    };
}

/// The options of `networkdb run`.
#[derive(Debug, Clone, Default, clap::Args)]
// Exhaustive: the command line builds it.
pub struct RunOptions {
    /// A TOML file with settings named like the flags; flags and environment have precedence
    #[arg(long, env = "NETWORKDB_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings on the command line or in the environment.
    #[command(flatten)]
    pub settings: SettingOptions,
}

settings! {
    /// The settings of one source: flags and environment, or the file.
    // Exhaustive: the command line and the file build it.
    pub struct SettingOptions {
        /// This node's name, unique in its cluster [default: the host's name]
        #[arg(env = "NETWORKDB_NAME")]
        pub name: Option<NodeName>,
        /// The cluster's name: nodes of different clusters refuse each other [default: default]
        #[arg(env = "NETWORKDB_CLUSTER", value_name = "NAME")]
        pub cluster: Option<ClusterName>,
        /// The address on which to listen for other nodes [default: 0.0.0.0:7946 with a secret,
        /// 127.0.0.1:7946 without]
        #[arg(env = "NETWORKDB_BIND", value_name = "ADDRESS[:PORT]")]
        pub bind: Option<ListenAddress>,
        /// The address at which other nodes reach this one [default: the bound address, or that of the
        /// interface facing the seeds]
        #[arg(env = "NETWORKDB_ADVERTISE", value_name = "ADDRESS[:PORT]")]
        pub advertise: Option<ListenAddress>,
        /// The address of the HTTP endpoints, or "off" [default: 127.0.0.1:2000]
        #[arg(env = "NETWORKDB_HTTP", value_name = "ADDRESS[:PORT]")]
        pub http: Option<HttpAddress>,
        /// The file with the tokens for HTTP clients, generated with `networkdb tokengen`: on each line
        /// read, change or admin, a token, and optionally limits, as network=NAME or prefix=TEXT of keys, and a name
        /// for the log
        #[arg(env = "NETWORKDB_HTTP_TOKEN_FILE", value_name = "FILE")]
        pub http_token_file: Option<PathBuf>,
        /// The file with the certificate for HTTPS, followed by those between it and its authority, in PEM: the
        /// HTTP address then takes HTTPS only
        #[arg(env = "NETWORKDB_HTTP_CERTIFICATE_FILE", value_name = "FILE")]
        pub http_certificate_file: Option<PathBuf>,
        /// The file with the private key of the certificate for HTTPS, in PEM
        #[arg(env = "NETWORKDB_HTTP_KEY_FILE", value_name = "FILE")]
        pub http_key_file: Option<PathBuf>,
        /// Allow every client that reaches the HTTP address to read and change everything [default: false]
        #[arg(env = "NETWORKDB_HTTP_OPEN", num_args = 0..=1, default_missing_value = "true")]
        pub http_open: Option<bool>,
        /// The path of the Unix socket for the node's own user, who has all rights, or "off" [default: the
        /// path where the client commands look for it]
        #[arg(
            env = "NETWORKDB_ADMIN_SOCKET", value_name = "PATH",
            value_parser = PathBufValueParser::new().map(SocketPath::from)
        )]
        pub admin_socket: Option<SocketPath>,
        /// A host name of this node for HTTP without tokens, besides its addresses and localhost; may be
        /// repeated, or separated by commas
        #[arg(
            long = "http-name", alias = "http-names",
            env = "NETWORKDB_HTTP_NAMES", value_name = "HOST", value_delimiter = ','
        )]
        pub http_names: Option<Vec<String>>,
        /// The limit of concurrent HTTP connections; further ones serve health and metrics only [default:
        /// 256]
        #[arg(env = "NETWORKDB_HTTP_MAX_CONNECTIONS", value_name = "N")]
        pub http_max_connections: Option<usize>,
        /// The limit of concurrent HTTP requests, without watches and imports; further ones get 503
        /// [default: 64]
        #[arg(env = "NETWORKDB_HTTP_MAX_REQUESTS", value_name = "N")]
        pub http_max_requests: Option<usize>,
        /// The limit of concurrent watches over HTTP; further ones get 503 [default: 64]
        #[arg(env = "NETWORKDB_HTTP_MAX_WATCHES", value_name = "N")]
        pub http_max_watches: Option<usize>,
        /// The longest body of an HTTP request other than an import, in bytes; longer ones get 413
        /// [default: 4194304, or the largest value if that is more]
        #[arg(env = "NETWORKDB_HTTP_MAX_BODY_BYTES", value_name = "SIZE", value_parser = size)]
        pub http_max_body_bytes: Option<usize>,
        /// Timeout for the head of an HTTP request, answered with 408, for an idle connection, and for a TLS
        /// handshake [default: 10s]
        #[arg(env = "NETWORKDB_HTTP_HEAD_TIME", value_name = "TIME", value_parser = time)]
        pub http_head_time: Option<Duration>,
        /// Timeout for the body of an HTTP request, answered with 408, and for the client to read the
        /// response [default: 30s]
        #[arg(env = "NETWORKDB_HTTP_BODY_TIME", value_name = "TIME", value_parser = time)]
        pub http_body_time: Option<Duration>,
        /// Nodes to join through; may be repeated, or separated by commas
        #[arg(
            long = "seed", alias = "seeds",
            env = "NETWORKDB_SEEDS", value_name = "HOST[:PORT]", value_delimiter = ','
        )]
        pub seeds: Option<Vec<String>>,
        /// Networks to join at start; may be repeated, or separated by commas
        #[arg(
            long = "network", alias = "networks",
            env = "NETWORKDB_NETWORKS", value_name = "NAME", value_delimiter = ','
        )]
        pub networks: Option<Vec<String>>,
        /// The file with the cluster's secrets, generated with `networkdb keygen`: one on each line, the
        /// node's own first
        #[arg(env = "NETWORKDB_SECRET_FILE", value_name = "FILE")]
        pub secret_file: Option<PathBuf>,
        /// Instead of a secret: the file with this node's certificate of your own authority, in PEM
        #[arg(env = "NETWORKDB_CERTIFICATE_FILE", value_name = "FILE")]
        pub certificate_file: Option<PathBuf>,
        /// The file with the certificate's private key, in PEM
        #[arg(env = "NETWORKDB_KEY_FILE", value_name = "FILE")]
        pub key_file: Option<PathBuf>,
        /// The file with the certificates of the accepted authorities, and their revocation lists if any, in
        /// PEM
        #[arg(env = "NETWORKDB_AUTHORITY_FILE", value_name = "FILE")]
        pub authority_file: Option<PathBuf>,
        /// A label that other nodes see; may be repeated, or separated by commas
        #[arg(
            long = "label", alias = "labels",
            env = "NETWORKDB_LABELS", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label
        )]
        pub labels: Option<Vec<(String, String)>>,
        /// The log level: error, warn, info, debug or trace, also by part, such as info,transport=debug
        /// [default: info]
        #[arg(env = "NETWORKDB_LOG_LEVEL", value_name = "LEVEL", value_parser = log_filter)]
        pub log_level: Option<String>,
        /// The log format: text or json [default: text]
        #[arg(env = "NETWORKDB_LOG_FORMAT", value_name = "FORMAT", hide_possible_values = true)]
        pub log_format: Option<LogFormat>,
        /// The kind of network between the nodes: lan, wan or loopback; the same on all nodes [default: lan]
        #[arg(env = "NETWORKDB_PRESET", hide_possible_values = true)]
        pub preset: Option<Preset>,
        /// How long tombstones of deletes are kept [default: 30m]
        #[arg(env = "NETWORKDB_REAP_TIME", value_name = "TIME", value_parser = time)]
        pub reap_time: Option<Duration>,
        /// Timeout for leaving the cluster when a signal ends the node [default: 5s]
        #[arg(env = "NETWORKDB_LEAVE_TIME", value_name = "TIME", value_parser = time)]
        pub leave_time: Option<Duration>,
        /// A limit, such as connections=100 or stream-window=4MiB; may be repeated, or separated by commas. --check prints all limits
        /// with their values
        #[arg(
            long = "limit", alias = "limits",
            env = "NETWORKDB_LIMITS", value_name = "NAME=N", value_delimiter = ',', value_parser = limit
        )]
        pub limits: Option<Vec<(String, usize)>>,
        /// The largest value, in bytes [default: 1048576]
        #[arg(env = "NETWORKDB_MAX_VALUE_BYTES", value_name = "SIZE", value_parser = size)]
        pub max_value_bytes: Option<usize>,
        /// The most entries of a network, tombstones included [default: 10000000]
        #[arg(env = "NETWORKDB_MAX_ENTRIES", value_name = "N")]
        pub max_entries: Option<usize>,
        /// The most networks that this node may join [default: 4096]
        #[arg(env = "NETWORKDB_MAX_NETWORKS", value_name = "N")]
        pub max_networks: Option<usize>,
    }
}

impl SettingOptions {
    /// The limits by name. Those that have flags of their own come last, to have precedence.
    pub(crate) fn named_limits(&self) -> impl Iterator<Item = (String, usize)> {
        let own = [
            ("value-bytes", self.max_value_bytes),
            ("entries", self.max_entries),
            ("networks", self.max_networks),
        ];
        let own = own.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?)));
        self.limits.clone().unwrap_or_default().into_iter().chain(own)
    }
}
