//! Who may ask: the tokens that stand for reading and for changing, and where HTTP may be answered without any.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The fewest characters of a token: what can be guessed is no token.
pub const MIN_TOKEN_CHARACTERS: usize = 20;

/// The most characters of a token.
pub const MAX_TOKEN_CHARACTERS: usize = 512;

/// The most tokens of a file; each is compared with every request's.
pub const MAX_TOKENS: usize = 64;

/// What a caller is allowed to do; whoever may change may read as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look only.
    Read,
    /// Write entries, join and leave networks, and whatever else has an effect on what tables hold.
    Change,
    /// Decide who is in the cluster: join one, and change the secrets that the node works with.
    Admin,
}

/// Who asks, for the log: the name of a token, or where the caller came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who(String);

impl Who {
    /// The node's own user.
    pub(super) fn owner() -> Self {
        Self("the node's user".to_owned())
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
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

/// Why a text is no list of tokens. The tokens themselves are never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// There is not one token.
    #[error("there is no token in it; make a file with `networkdb tokengen --out http-tokens`")]
    None,
    /// A line is not a role and a token.
    #[error("line {line}: wanted is `read TOKEN`, `change TOKEN` or `admin TOKEN`, and a name if you like")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// A token is too short, too long, or has characters that a header does not carry.
    #[error(
        "line {line}: a token has {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} letters, digits or characters of -._~+/=; \
         make one with `networkdb tokengen`"
    )]
    Token {
        /// Which, from 1.
        line: usize,
    },
    /// A token stands for both roles.
    #[error(
        "line {line}: this token stands in the file already; each role and each name needs a token of its own"
    )]
    Twice {
        /// Which, from 1.
        line: usize,
    },
    /// There are too many.
    #[error("there are more than {MAX_TOKENS} tokens in it")]
    TooMany,
}

/// The tokens that are accepted, as digests: what is kept in memory opens nothing.
#[derive(Clone)]
pub struct Tokens {
    known: BTreeMap<[u8; SHA256_OUTPUT_LEN], (Role, Option<String>)>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.known.len())
    }
}

fn digest_of(token: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    digest(&SHA256, token).as_ref().try_into().expect("SHA-256 has so many bytes")
}

/// What a header of the form `Authorization: Bearer TOKEN` can carry (RFC 6750).
pub fn is_token(text: &str) -> bool {
    let of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (MIN_TOKEN_CHARACTERS..=MAX_TOKEN_CHARACTERS).contains(&text.len()) && text.bytes().all(of_a_token)
}

/// The lines of a token file that say something, with their numbers from 1.
pub fn token_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The role, the token, and what stands behind it of a line, if it has this form.
pub fn role_and_token(line: &str) -> Option<(Role, &str, Option<&str>)> {
    let (role, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (token, name) =
        rest.split_once(char::is_whitespace).map_or((rest, None), |(a, b)| (a, Some(b.trim())));
    Some((Role::parse(role)?, token, name))
}

impl Tokens {
    /// Reads `read TOKEN`, `change TOKEN` and `admin TOKEN`, one a line, each with the name under which it is logged if it is to
    /// have one; empty lines and those that begin with # are passed over.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let mut known = BTreeMap::new();
        for (line, said) in token_lines(text) {
            let (role, token, name) = role_and_token(said).ok_or(TokensError::Line { line })?;
            if !is_token(token) {
                return Err(TokensError::Token { line });
            }
            if known.insert(digest_of(token.as_bytes()), (role, name.map(str::to_owned))).is_some() {
                return Err(TokensError::Twice { line });
            }
        }
        match known.len() {
            0 => Err(TokensError::None),
            found if found > MAX_TOKENS => Err(TokensError::TooMany),
            _ => Ok(Self { known }),
        }
    }

    /// How many there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// What `token` allows and whose it is, if it is known.
    ///
    /// Digests are compared, all of them, and each in constant time: how long it takes tells nothing of how much was right.
    fn find(&self, token: &[u8]) -> Option<(Role, Who)> {
        let offered = digest_of(token);
        let mut found = None;
        for (digest, (role, name)) in &self.known {
            if bool::from(offered.ct_eq(digest)) {
                found = Some((*role, name, digest));
            }
        }
        let (role, name, digest) = found?;
        let who = match name {
            Some(name) => format!("{name} ({})", role.as_str()),
            // Enough to find the line in the file, and far from enough to be a token.
            None => format!(
                "{} token {:02x}{:02x}{:02x}{:02x}",
                role.as_str(),
                digest[0],
                digest[1],
                digest[2],
                digest[3]
            ),
        };
        Some((role, Who(who)))
    }
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read the HTTP token file {}: {error}", path.display())]
    Unreadable {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Other users could add a token of their own.
    #[error(
        "other users of this host can write the HTTP token file {0}, and so let themselves in; take that away with chmod \
         600 {0}",
        path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// It does not make sense.
    #[error("HTTP token file {}: {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without the tokens.
        error: TokensError,
    },
}

/// Reads the tokens in the file at `path`, which nobody but its owner may be able to write.
pub fn read_token_file(path: &Path) -> Result<Tokens, TokenFileError> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    let unreadable = |error| TokenFileError::Unreadable { path: path.to_owned(), error };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    // Of the open file, not of whatever has the name a moment later.
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

    /// Accepts `tokens`, and no others, from the next request on.
    pub fn replace(&self, tokens: Tokens) {
        *self.0.write() = tokens;
    }
}

/// HTTP would be answered to whoever reaches the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "HTTP on {0} can be reached from other hosts, and whoever reaches it could read and change everything; either ask for \
     tokens with --http-token-file FILE (`networkdb tokengen --out FILE` makes one), or say with --http-open that it is \
     meant to be open"
)]
pub struct Unprotected(pub SocketAddr);

/// Who may ask.
#[derive(Debug, Clone, Default)]
pub enum Access {
    /// Whoever is on this host: only loopback addresses are listened on.
    #[default]
    Loopback,
    /// Whoever reaches the address.
    Open,
    /// Whoever has a token.
    Tokens(Arc<TokenStore>),
}

/// Why a caller gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is no token in the request.
    NoToken,
    /// The token is not known.
    UnknownToken,
    /// The token is for less.
    Needs(Role),
    /// There are no tokens, and it takes one, or the Unix socket.
    NeedsSocket,
}

impl Access {
    /// Whether HTTP may be answered at `address`.
    pub fn check(&self, address: SocketAddr) -> Result<(), Unprotected> {
        match self {
            Self::Loopback if !address.ip().to_canonical().is_loopback() => Err(Unprotected(address)),
            _ => Ok(()),
        }
    }

    /// Who asks, if the bearer of what an `Authorization` header says may do what takes `needed`. Without tokens nobody is
    /// the administrator.
    pub(super) fn allow(&self, authorization: Option<&[u8]>, needed: Role) -> Result<Who, Denied> {
        let Self::Tokens(store) = self else {
            return if needed == Role::Admin {
                Err(Denied::NeedsSocket)
            } else {
                Ok(Who("no token".to_owned()))
            };
        };
        let token = authorization.and_then(bearer).ok_or(Denied::NoToken)?;
        match store.0.read().find(token) {
            None => Err(Denied::UnknownToken),
            Some((role, _)) if role < needed => Err(Denied::Needs(needed)),
            Some((_, who)) => Ok(who),
        }
    }
}

/// The token of `Bearer TOKEN`; the scheme's name may be written in any case.
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
