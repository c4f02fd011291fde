//! The syntax of single settings.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::filter::Targets;

/// The default port for other nodes.
pub const DEFAULT_PORT: u16 = 7946;

/// The default port of the HTTP endpoints.
pub const DEFAULT_HTTP_PORT: u16 = 2000;

/// An IP address, with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    ip: IpAddr,
    port: Option<u16>,
}

impl ListenAddress {
    /// The address with its port, or with the port `default`.
    pub fn with_port(self, default: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(default))
    }
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with an IP address.
    #[error("{0:?} is not an IP address; valid examples: 127.0.0.1, 10.0.0.1:7946, ::1 or [::1]:7946")]
    Ip(String),
    /// The address is valid, the port is not.
    #[error(
        "{port:?} in {text:?} is not a port: a port is a number from 0 to 65535; valid examples: 127.0.0.1, \
         10.0.0.1:7946, ::1 or [::1]:7946"
    )]
    Port {
        /// The whole text.
        text: String,
        /// What stands after the address.
        port: String,
    },
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self { ip, port: None });
        }
        text.parse::<SocketAddr>().map(Self::from).map_err(|_| {
            let ip = |ip: &str| ip.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            match text.rsplit_once(':') {
                Some((before, port)) if ip(before).is_ok() => {
                    AddressError::Port { text: text.to_owned(), port: port.to_owned() }
                }
                _ => AddressError::Ip(text.to_owned()),
            }
        })
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip(), port: Some(address.port()) }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// The address of the HTTP endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Exhaustive: the server listens on an address or not at all.
pub enum HttpAddress {
    /// No HTTP.
    Off,
    /// Listen on this address.
    At(ListenAddress),
}

impl FromStr for HttpAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// The path of the admin socket.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: the socket has a path or does not exist.
pub enum SocketPath {
    /// No socket.
    Off,
    /// A socket at this path.
    At(PathBuf),
}

impl From<PathBuf> for SocketPath {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "off" { Self::Off } else { Self::At(path) }
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(path) => path.display().fmt(f),
        }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
// Exhaustive: the program writes each format.
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// The kind of network between the nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
// Exhaustive: each stands for settings of all parts.
pub enum Preset {
    /// A local network: the node detects failures within seconds.
    #[default]
    Lan,
    /// A wide-area network: longer timeouts.
    Wan,
    /// All nodes on one host: the shortest timeouts.
    Loopback,
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::Loopback => "loopback",
        })
    }
}

impl Preset {
    /// Membership's settings for this kind of network.
    pub fn membership(self) -> membership::Config {
        match self {
            Self::Lan => membership::Config::lan(),
            Self::Wan => membership::Config::wan(),
            Self::Loopback => membership::Config::loopback(),
        }
    }
}

/// Reads `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not a label; valid examples: zone=a")),
    }
}

/// Reads a time.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is not a time ({error}); valid examples: 90s, 30m"))
}

/// Reads a number, or a size in bytes with its unit.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let size = text.parse::<bytesize::ByteSize>().ok().and_then(|size| usize::try_from(size.as_u64()).ok());
    size.ok_or_else(|| format!("{text:?} is not a number or a size; valid examples: 1000, 64KiB, 1MiB"))
}

/// The parts that write log lines, with the beginnings of their modules' paths.
const PARTS: [(&str, &str); 9] = [
    ("audit", "audit"),
    ("cli", "networkdb_cli"),
    ("http", "networkdb_http"),
    ("membership", "networkdb_membership"),
    // Not the crates whose names begin like this one.
    ("node", "networkdb::"),
    ("quinn", "quinn"),
    ("tabledb", "tabledb"),
    ("transport", "networkdb_transport"),
    ("wire", "networkdb_wire"),
];

/// Validates a log filter.
pub fn log_filter(text: &str) -> Result<String, String> {
    match log_targets(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "{text:?} is not a log filter; valid examples: error, warn, info, debug, trace, off, or \
             info,transport=debug; the parts are {}",
            PARTS.map(|(name, _)| name).join(", ")
        )),
    }
}

/// What a log filter selects, with parts by their names or by the paths of their modules.
pub(crate) fn log_targets(text: &str) -> Option<Targets> {
    let directive = |directive: &str| match directive.split_once('=') {
        Some((part, level)) => {
            let by_name = PARTS.iter().find(|(name, _)| *name == part).map(|(_, path)| *path);
            let is_in = |path: &str| match part.strip_prefix(path) {
                Some(rest) => rest.is_empty() || rest.starts_with("::") || path.ends_with("::"),
                None => false,
            };
            let by_path = || PARTS.iter().any(|(_, path)| is_in(path)).then_some(part);
            Some(format!("{}={level}", by_name.or_else(by_path)?))
        }
        // An empty text parses as a level.
        None if directive.is_empty() => None,
        // A word that is no level would select the part of this name, at every level.
        None => directive.parse::<LevelFilter>().ok().map(|_| directive.to_owned()),
    };
    let directives = text.split(',').map(str::trim).map(directive).collect::<Option<Vec<_>>>()?;
    directives.join(",").parse().ok()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn addresses_with_and_without_port() {
        for (text, whole) in [
            ("127.0.0.1", "127.0.0.1:7946"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.1:0", "10.0.0.1:0"),
            ("::1", "[::1]:7946"),
            ("[::1]", "[::1]:7946"),
            ("[::1]:2", "[::1]:2"),
        ] {
            let address = text.parse::<ListenAddress>().unwrap();
            assert_eq!(address.with_port(DEFAULT_PORT), whole.parse::<SocketAddr>().unwrap(), "{text}");
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_examples() {
        for text in ["", "localhost", "127.0.0.1:", "127.0.0.1:99999", "[::1", "1.2.3"] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("valid examples"), "{error}");
        }
    }

    #[test]
    fn a_wrong_port_is_named() {
        for (text, port) in [("127.0.0.1:99999", "99999"), ("[::1]:x", "x"), ("10.0.0.1:", "")] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("{port:?}")) && error.contains("65535"), "{error}");
        }
    }

    #[test]
    fn sizes_have_units_or_none() {
        for (text, bytes) in
            [("0", 0), ("1000", 1000), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2 MB", 2_000_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1MiX", "-1", "99999999999999999999"] {
            assert!(size(text).is_err_and(|why| why.contains(&format!("{text:?}"))), "{text}");
        }
    }

    #[test]
    fn http_can_be_off() {
        assert_eq!("off".parse(), Ok(HttpAddress::Off));
        assert_eq!("::1".parse(), Ok(HttpAddress::At("::1".parse().unwrap())));
    }

    #[test]
    fn labels() {
        assert_eq!(label("zone=a"), Ok(("zone".into(), "a".into())));
        assert_eq!(label("note=a=b"), Ok(("note".into(), "a=b".into())));
        assert_eq!(label("empty="), Ok(("empty".into(), String::new())));
        assert!(label("zone").is_err() && label("=a").is_err() && label("").is_err());
    }

    #[test]
    fn log_filters() {
        assert!(log_filter("info").is_ok() && log_filter("info,transport=debug").is_ok());
        let targets = log_targets("warn,transport=debug,node=info,audit=off").unwrap();
        let enabled = |target, level| targets.would_enable(target, &level);
        assert!(
            enabled("networkdb_transport::dial", Level::DEBUG) && enabled("networkdb::driver", Level::INFO)
        );
        assert!(!enabled("networkdb_http::server", Level::INFO) && !enabled("audit", Level::ERROR));
        assert!(log_filter("networkdb_transport::dial=trace,networkdb::driver=debug,tabledb=off").is_ok());
        for text in
            ["", "transport=loud", "loud", "nodes=debug", "tabledbs=debug", "info,=debug", "info,,debug"]
        {
            let error = log_filter(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("node, quinn"), "{error}");
        }
    }
}
