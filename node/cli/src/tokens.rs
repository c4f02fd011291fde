//! Tokens for HTTP: their generation, their use by client commands, and their reload while a node runs.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::HeaderValue;
use ring::rand::SecureRandom as _;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::advice::advised;
use super::failure::Failure;
use networkdb_http::HttpConfig;
use networkdb_http::access::{
    Access, Role, TokenStore, is_token, read_token_file, role_and_token, token_lines,
};

/// The environment variable for a token. There is no flag for it: all users of the host can see flags.
pub(super) const TOKEN_VARIABLE: &str = "NETWORKDB_TOKEN";

/// The token that a client command sends to the node.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token in `file`, else the one in the environment, else none.
    pub(super) fn find(file: Option<&Path>) -> Result<Option<Self>, Failure> {
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
                Failure::unusable(format_args!("cannot read the token file {}: {error}", path.display()))
            })?;
            return Self::from_file(&text).map(Some).ok_or_else(|| {
                Failure::unusable(format_args!(
                    "the token file {} has no token; expected a token alone, or `read TOKEN` or `change \
                     TOKEN`",
                    path.display()
                ))
            });
        }
        match std::env::var(TOKEN_VARIABLE).map(Zeroizing::new) {
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) if is_token(text.trim()) => Ok(Some(Self(Zeroizing::new(text.trim().to_owned())))),
            Ok(_) => Err(Failure::unusable(format_args!("the value of {TOKEN_VARIABLE} is not a token"))),
            Err(_) => Ok(None),
        }
    }

    /// A token alone, or from a node's token file the one with the highest role.
    fn from_file(text: &str) -> Option<Self> {
        let lines = token_lines(text).map(|(_, line)| {
            role_and_token(line).map_or((Role::Read, line), |(role, token, _)| (role, token))
        });
        let (_, token) = lines.filter(|(_, token)| is_token(token)).reduce(|best, next| {
            // Of several tokens with that role, the first: operators add new ones on top.
            if next.0 > best.0 { next } else { best }
        })?;
        Some(Self(Zeroizing::new(token.to_owned())))
    }

    /// The header with the token.
    pub(super) fn header(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", *self.0));
        let mut header =
            HeaderValue::from_str(&text).expect("a token has only letters that a header carries");
        header.set_sensitive(true);
        header
    }
}

/// `networkdb tokengen`: generates a token for reading, one for changing and one for admin. Prints them, or
/// writes them to a new file that only its owner can read.
pub(super) fn tokengen(out: Option<&Path>) -> Result<ExitCode, Failure> {
    let text = [Role::Read, Role::Change, Role::Admin]
        .map(|role| format!("{} {}\n", role.as_str(), *new_token(role)));
    let text = Zeroizing::new(text.map(Zeroizing::new).iter().map(|line| line.as_str()).collect::<String>());
    let Some(path) = out else {
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::unusable(format_args!(
                "{} exists already and may hold tokens in use; choose another file, or delete it first",
                path.display()
            )),
            _ => Failure::unusable(format_args!("cannot write the tokens to {}: {error}", path.display())),
        }
    })?;
    writeln!(
        std::io::stderr(),
        "Wrote a token for reading, one for changing and one for admin to {0}. Start the node with \
         --http-token-file {0}, and give the client commands --token-file with the same file, or with a file \
         that has only the token for reading.",
        path.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

/// 32 random bytes after a prefix by which people and secret scanners recognise a token.
fn new_token(role: Role) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    ring::rand::SystemRandom::new().fill(&mut *bytes).expect("the system has a source of random numbers");
    let random = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    Zeroizing::new(format!("networkdb-{}-{}", role.as_str(), *random))
}

/// Reads the token file again at every SIGHUP. If it is invalid, the previous tokens stay in use.
pub(super) async fn reload_on_hangup(path: Option<std::path::PathBuf>, config: HttpConfig) {
    let (Some(path), Access::Tokens(store)) = (path, config.access) else { return };
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!("cannot listen for SIGHUP: the HTTP tokens cannot be reloaded");
        return;
    };
    while hangup.recv().await.is_some() {
        reload(&path, &store);
    }
}

fn reload(path: &Path, store: &Arc<TokenStore>) {
    match read_token_file(path) {
        Ok(tokens) => {
            let count = tokens.len();
            store.replace(tokens);
            tracing::info!(count, "HTTP tokens reloaded");
        }
        Err(error) => {
            let error = advised(&error);
            tracing::error!("HTTP tokens not reloaded, the previous ones stay in use: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_tokens_are_valid_and_differ() {
        let (one, other) = (new_token(Role::Read), new_token(Role::Read));
        assert!(is_token(&one) && one.starts_with("networkdb-read-") && one.len() == 58, "{}", *one);
        assert_ne!(one, other);
        let file = format!("read {}\nchange {}\n", *one, *new_token(Role::Change));
        assert_eq!(networkdb_http::access::Tokens::parse(&file).unwrap().len(), 2);
    }

    #[test]
    fn the_token_with_the_highest_role_of_a_file_is_sent() {
        let (read, change, old) = ("r".repeat(20), "c".repeat(20), "o".repeat(20));
        let sent = |text: &str| Token::from_file(text).map(|token| token.0.to_string());
        assert_eq!(sent(&format!("{read}\n")), Some(read.clone()));
        assert_eq!(sent(&format!("# mine\n\nread {read}\nchange {change}\nchange {old}\n")), Some(change));
        assert_eq!(sent(&format!("read {read}\nread {old}\n")), Some(read));
        assert_eq!(sent("# nothing\nshort\n"), None);
    }

    #[test]
    fn a_token_does_not_show() {
        let token = Token(Zeroizing::new("r".repeat(20)));
        assert!(!format!("{token:?} {:?}", token.header()).contains("rrr"));
        assert_eq!(token.header().as_bytes(), [b"Bearer ", "r".repeat(20).as_bytes()].concat());
    }
}
