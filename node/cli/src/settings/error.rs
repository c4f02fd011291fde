//! Why settings are invalid.

use std::net::SocketAddr;
use std::path::PathBuf;

use networkdb::identity::IdentityFileError;

use crate::advice::advised;

/// Why the settings are invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {error}", path.display())]
    Unreadable {
        /// The kind of file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The configuration file is invalid.
    #[error("configuration file {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error, with the line.
        why: String,
    },
    /// The secret file, or the certificate files, cannot be used.
    #[error("{}", advised(.0))]
    Identity(#[from] IdentityFileError),
    /// The certificate belongs to another node or another cluster.
    #[error("certificate {}: {error}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The error.
        error: transport::IdentityError,
    },
    /// The settings have both a secret file and certificates.
    #[error("a secret file and certificate files exclude each other; leave one of them out")]
    SecretAndCertificate,
    /// One of the three certificate files is missing.
    #[error(
        "a certificate needs three files: --certificate-file, --key-file and --authority-file; {0} is missing"
    )]
    CertificateIncomplete(&'static str),
    /// Other hosts could join without a secret.
    #[error(
        "{0} is not a loopback address, and without a secret a node listens on loopback only; generate a \
         secret with `networkdb keygen --out secret` and use it with --secret-file secret"
    )]
    NoSecret(SocketAddr),
    /// The HTTP token file cannot be used.
    #[error("{}", advised(.0))]
    Tokens(#[from] networkdb_http::access::TokenFileError),
    /// Other hosts could use HTTP without a token.
    #[error("{}", advised(.0))]
    Unprotected(#[from] networkdb_http::access::Unprotected),
    /// The files for HTTPS cannot be used.
    #[error(transparent)]
    HttpCertificate(#[from] networkdb_http::tls::CertificateFileError),
    /// One of the two files for HTTPS is missing.
    #[error("{given} is {} (from {origin}), but {missing} is missing; HTTPS needs both files", path.display())]
    HttpCertificateIncomplete {
        /// The flag of the file that is set.
        given: &'static str,
        /// That file.
        path: PathBuf,
        /// Where the setting came from.
        origin: String,
        /// The flag of the other one.
        missing: &'static str,
    },
    /// HTTP cannot be open and require tokens.
    #[error("--http-open and --http-token-file contradict each other; leave one of them out")]
    OpenWithTokens,
    /// The admin socket needs HTTP.
    #[error("--admin-socket serves HTTP, but --http is off; leave one of them out")]
    SocketWithoutHttp,
    /// The host's name is not a valid node name.
    #[error("the host's name cannot be this node's name ({0}); choose one with --name")]
    HostName(wire::NodeNameError),
    /// A network's name is empty.
    #[error("a network to join has no name; give it one, or leave the setting out")]
    EmptyNetwork,
    /// There is no limit of this name.
    #[error("there is no limit {name:?}; there are: {known}")]
    NoSuchLimit {
        /// The unknown name.
        name: String,
        /// The known names.
        known: String,
    },
    /// A limit of the tables is out of its bounds.
    #[error(transparent)]
    Limit(tabledb::ConfigError),
    /// A setting is out of its bounds.
    #[error("{setting}: {found} is out of bounds; {allowed} is allowed")]
    Bounds {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// The allowed values.
        allowed: &'static str,
    },
}
