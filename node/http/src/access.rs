//! Access control: tokens with their roles, and the addresses at which HTTP needs no token.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::scope::Scope;

/// The fewest characters of a token: a shorter one could be guessed.
pub const MIN_TOKEN_CHARACTERS: usize = 20;

/// The most characters of a token.
pub const MAX_TOKEN_CHARACTERS: usize = 512;

/// The most tokens of a file; each is compared with every request's.
pub const MAX_TOKENS: usize = 64;

/// The role of a caller. Each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
// Exhaustive: each call states which of them it needs.
pub enum Role {
    /// Read only.
    Read,
    /// Write entries, join and leave networks, and make any other change of the tables.
    Change,
    /// Decide which nodes are in the cluster: join a cluster, and change the secrets of the node.
    Admin,
}

/// The authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Principal {
    /// For the log: the name of its token, or its way of access.
    name: String,
    /// What it may see and change.
    pub(super) scope: Scope,
}

impl Principal {
    /// The node's own user.
    pub(super) fn owner() -> Self {
        Self::unlimited("the node's user")
    }

    fn unlimited(name: &str) -> Self {
        Self { name: name.to_owned(), scope: Scope::default() }
    }
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Role {
    /// As it is written in a token file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Change => "change",
            Self::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Change, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// Why a token file is invalid. The texts never show a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file has no token.
    #[error("there is no token in it")]
    None,
    /// A line is not a role and a token.
    #[error("line {line}: expected `read TOKEN`, `change TOKEN` or `admin TOKEN`, and optionally a name")]
    Line {
        /// The line number, from 1.
        line: usize,
    },
    /// A limit is empty or not UTF-8, or the token is for admin, which decides about the whole cluster.
    #[error(
        "line {line}: expected `network=NAME` or `prefix=TEXT` behind a token for reading or changing; one for \
         admin cannot be limited"
    )]
    Limit {
        /// The line number, from 1.
        line: usize,
    },
    /// A token is too short, too long, or has characters that a header does not carry.
    #[error(
        "line {line}: a token has {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} letters, digits or \
         characters of -._~+/="
    )]
    Token {
        /// The line number, from 1.
        line: usize,
    },
    /// A token is in the file twice.
    #[error(
        "line {line}: this token is in the file already; each role and each name needs a token of its own"
    )]
    Twice {
        /// The line number of the second one, from 1.
        line: usize,
    },
    /// There are too many.
    #[error("there are more than {MAX_TOKENS} tokens in it")]
    TooMany,
}

/// What a token allows, and its name.
#[derive(Debug, Clone)]
struct Grant {
    role: Role,
    scope: Scope,
    name: Option<String>,
}

/// The digests of the accepted tokens. The tokens themselves are not kept in memory.
#[derive(Clone)]
pub struct Tokens {
    known: BTreeMap<[u8; SHA256_OUTPUT_LEN], Grant>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.known.len())
    }
}

fn digest_of(token: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    digest(&SHA256, token).as_ref().try_into().expect("SHA-256 has so many bytes")
}

/// Whether `text` is a token: of the allowed length, and sendable in a header `Authorization: Bearer TOKEN`
/// (RFC 6750).
pub fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (MIN_TOKEN_CHARACTERS..=MAX_TOKEN_CHARACTERS).contains(&text.len()) && text.bytes().all(is_token_byte)
}

/// The lines of a token file that are neither empty nor comments, with their numbers from 1.
pub fn token_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Splits a line into role, token, and its limits and name if there are any; `None` if it does not have this form.
pub fn role_and_token(line: &str) -> Option<(Role, &str, Option<&str>)> {
    let (role, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (token, words) =
        rest.split_once(char::is_whitespace).map_or((rest, None), |(a, b)| (a, Some(b.trim())));
    Some((Role::parse(role)?, token, words))
}

impl Tokens {
    /// Parses lines of the form `read TOKEN`, `change TOKEN` or `admin TOKEN`, the first two with optional limits
    /// `network=NAME` and `prefix=TEXT`, then each with an optional name for the log. Skips empty lines and comments, which begin with #.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let mut known = BTreeMap::new();
        for (line, content) in token_lines(text) {
            let (role, token, words) = role_and_token(content).ok_or(TokensError::Line { line })?;
            if !is_token(token) {
                return Err(TokensError::Token { line });
            }
            let (scope, name) = Scope::split(words.unwrap_or_default()).ok_or(TokensError::Limit { line })?;
            if role == Role::Admin && !scope.is_unlimited() {
                return Err(TokensError::Limit { line });
            }
            let grant = Grant { role, scope, name: name.map(str::to_owned) };
            if known.insert(digest_of(token.as_bytes()), grant).is_some() {
                return Err(TokensError::Twice { line });
            }
        }
        match known.len() {
            0 => Err(TokensError::None),
            found if found > MAX_TOKENS => Err(TokensError::TooMany),
            _ => Ok(Self { known }),
        }
    }

    /// The number of tokens; never 0.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// The role and the principal of `token`, if it is known.
    ///
    /// It compares all digests, each in constant time, so that the duration reveals nothing about a guess.
    fn find(&self, token: &[u8]) -> Option<(Role, Principal)> {
        let offered = digest_of(token);
        let mut found = None;
        for (digest, grant) in &self.known {
            if bool::from(offered.ct_eq(digest)) {
                found = Some((grant, digest));
            }
        }
        let (Grant { role, scope, name }, digest) = found?;
        let name = match name {
            Some(name) => format!("{name} ({})", role.as_str()),
            // Enough of the digest to find the line in the file, and too little to find the token.
            None => format!(
                "{} token {:02x}{:02x}{:02x}{:02x}",
                role.as_str(),
                digest[0],
                digest[1],
                digest[2],
                digest[3]
            ),
        };
        Some((*role, Principal { name, scope: scope.clone() }))
    }
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read the HTTP token file {}: {error}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// Other users could add a token of their own.
    #[error(
        "other users of this host can write the HTTP token file {0}, and so add tokens of their own; remove \
         that permission with chmod 600 {0}",
        path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// Its content is invalid.
    #[error("HTTP token file {}: {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The error, without the tokens.
        error: TokensError,
    },
}

/// Reads the tokens in the file at `path`. Refuses a file that other users can write.
pub fn read_token_file(path: &Path) -> Result<Tokens, TokenFileError> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    let unreadable = |error| TokenFileError::Unreadable { path: path.to_owned(), error };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    // The metadata of the open file: the path may lead to another file by now.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o022 != 0 {
        return Err(TokenFileError::Writable { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(unreadable)?;
    Tokens::parse(&text).map_err(|error| TokenFileError::Content { path: path.to_owned(), error })
}

/// Tokens that can be replaced while the server runs.
#[derive(Debug)]
pub struct TokenStore(RwLock<Tokens>);

impl TokenStore {
    /// Accepts `tokens`.
    pub fn new(tokens: Tokens) -> Self {
        Self(RwLock::new(tokens))
    }

    /// Accepts only `tokens` from the next request on.
    pub fn replace(&self, tokens: Tokens) {
        *self.0.write() = tokens;
    }
}

/// HTTP would be open to every host that reaches the address. Require tokens, or declare it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "HTTP on {0} is reachable from other hosts, and without tokens any client could read and change \
     everything"
)]
pub struct Unprotected(pub SocketAddr);

/// Which clients have access.
#[derive(Debug, Clone, Default)]
// Exhaustive: what the server admits is decided for each.
pub enum Access {
    /// All programs on this host: the node listens on loopback addresses only.
    #[default]
    Loopback,
    /// All clients that reach the address.
    Open,
    /// Clients that have a token.
    Tokens(Arc<TokenStore>),
}

/// Why a caller is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessDenied {
    /// The request has no token.
    NoToken,
    /// The token is unknown.
    UnknownToken,
    /// The token has a lesser role.
    Needs(Role),
    /// The call needs a token, and the node has none, or the Unix socket.
    NeedsSocket,
}

impl Access {
    /// Whether the node may serve HTTP at `address`.
    pub fn check(&self, address: SocketAddr) -> Result<(), Unprotected> {
        match self {
            Self::Loopback if !address.ip().to_canonical().is_loopback() => Err(Unprotected(address)),
            _ => Ok(()),
        }
    }

    /// The caller, if the token in an `Authorization` header has the role `needed`. Without tokens, no caller
    /// has the role admin.
    pub(super) fn allow(
        &self,
        authorization: Option<&[u8]>,
        needed: Role,
    ) -> Result<Principal, AccessDenied> {
        let Self::Tokens(store) = self else {
            return if needed == Role::Admin {
                Err(AccessDenied::NeedsSocket)
            } else {
                Ok(Principal::unlimited("no token"))
            };
        };
        let token = authorization.and_then(bearer).ok_or(AccessDenied::NoToken)?;
        match store.0.read().find(token) {
            None => Err(AccessDenied::UnknownToken),
            Some((role, _)) if role < needed => Err(AccessDenied::Needs(needed)),
            Some((_, principal)) => Ok(principal),
        }
    }
}

/// The token of `Bearer TOKEN`; the scheme is case-insensitive.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
