//! What a person can do about an error of the libraries. A library states the fact; the names of flags and
//! commands are added here.

use std::fmt::Display;

use networkdb::identity::IdentityFileError;
use networkdb_http::access::{TokenFileError, TokensError, Unprotected};
use networkdb_http::admin_socket::SocketError;
use networkdb_http::{HttpAdvice, ListenError};

/// For the responses of a node to HTTP clients.
pub(crate) const HTTP: HttpAdvice = HttpAdvice {
    no_token: "the client commands take one from --token-file FILE",
    needs_socket: "use `networkdb` on the node's host and as its user (or as root with --api unix:PATH), or \
                   give the node tokens with --http-token-file FILE",
    unknown_host: "a node that is started with --http-name and this name serves it",
};

/// An error about which the user of the command line can do something.
pub(crate) trait Advice: Display {
    /// What to do, if there is something.
    fn advice(&self) -> Option<&'static str>;
}

/// The error with its advice.
pub(crate) fn advised(error: &impl Advice) -> String {
    match error.advice() {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

impl Advice for IdentityFileError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Secrets { .. } => Some("`networkdb keygen` makes a secret"),
            _ => None,
        }
    }
}

impl Advice for TokenFileError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Content { error: TokensError::None, .. } => {
                Some("make a file with `networkdb tokengen --out http-tokens`")
            }
            Self::Content { error: TokensError::Token { .. }, .. } => {
                Some("make one with `networkdb tokengen`")
            }
            _ => None,
        }
    }
}

impl Advice for Unprotected {
    fn advice(&self) -> Option<&'static str> {
        Some(
            "either require tokens with --http-token-file FILE (`networkdb tokengen --out FILE` makes one), \
             or declare it open with --http-open",
        )
    }
}

impl Advice for ListenError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::InUse(_) => Some("choose another one with --http, or port 0 for any free port"),
            Self::Unusable(..) => Some("choose an address of this host with --http"),
            Self::Unprotected(error) => error.advice(),
            _ => None,
        }
    }
}

impl Advice for SocketError {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::InUse(_) | Self::Occupied(_) => Some("choose another path with --admin-socket"),
            Self::Unusable { .. } => Some("choose another path with --admin-socket, or --admin-socket off"),
            Self::Folder(_) => Some("restrict it with chmod 700, or choose another path with --admin-socket"),
            _ => None,
        }
    }
}
