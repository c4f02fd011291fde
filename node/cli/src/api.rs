//! Asking a node over HTTP.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::failure::Failure;
use super::tokens::Token;
use crate::settings::values::DEFAULT_HTTP_PORT;
use networkdb_http::admin_socket::find;
use networkdb_http::v1::model::Refusal;

/// A node that listens answers a connection within this time.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Joining and leaving take their time; more than this they must not.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// A refusal is a sentence, not a book.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// In a path everything but letters, digits and these three: a name may hold slashes, dots, anything.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// Where a node answers HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Api {
    host: String,
    port: u16,
    token: Option<Token>,
    /// The socket to ask at, in place of host and port.
    socket: Option<PathBuf>,
}

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} {why}; right would be http://127.0.0.1:2000");
        match text.strip_prefix("unix:") {
            Some("") => return Err(wrong("names no socket")),
            Some(path) => {
                let socket = Some(PathBuf::from(path));
                return Ok(Self {
                    host: "localhost".to_owned(),
                    port: DEFAULT_HTTP_PORT,
                    token: None,
                    socket,
                });
            }
            None => {}
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri = whole.parse::<Uri>().map_err(|error| wrong(&format!("is not a URL ({error})")))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("is not plain HTTP, which is all a node speaks"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("has a path, and the commands bring their own"));
        }
        match uri.host() {
            Some(host) if !host.is_empty() => {
                let port = uri.port_u16().unwrap_or(DEFAULT_HTTP_PORT);
                Ok(Self { host: host.to_owned(), port, token: None, socket: None })
            }
            _ => Err(wrong("names no host")),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(path) => write!(f, "unix:{}", path.display()),
            None => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

/// A path below `/v1`, each part spelled so that it stays one part.
pub(super) fn path(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| format!("/{}", utf8_percent_encode(part, NAME)));
    format!("/v1{}", parts.collect::<String>())
}

/// `name=value` of a query string.
pub(super) fn parameter(name: &str, value: &str) -> String {
    format!("{name}={}", utf8_percent_encode(value, NAME))
}

impl Api {
    /// Whether what is sent there is seen by the node alone.
    pub(super) fn is_private(&self) -> bool {
        self.socket.is_some()
    }

    /// Asks at the node's Unix socket, if the node is on this host and this user's: there the node takes what it takes from
    /// nobody else.
    pub(super) fn over_socket(self) -> Self {
        let socket = self.socket.clone().or_else(|| find(self.bare_host(), self.port));
        Self { socket, ..self }
    }

    /// Shows `token` with every question.
    pub(super) fn with_token(self, token: Option<Token>) -> Self {
        Self { token, ..self }
    }

    /// Shows the same token as `other` does: nodes that are compared have one operator.
    pub(super) fn showing_as(self, other: &Self) -> Self {
        self.with_token(other.token.clone())
    }

    /// Asks, and gives the answer if it is not a refusal.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Body)>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let body = body.map_or_else(Body::empty, |(_, body)| body);
        let request = request
            .body(body)
            .map_err(|error| Failure::unusable(format_args!("cannot ask for {path}: {error}")))?;
        let answer = tokio::time::timeout(ANSWER_TIME, self.exchange(request)).await.map_err(|_| {
            Failure::unusable(format_args!(
                "the node at {self} did not answer within {} seconds",
                ANSWER_TIME.as_secs()
            ))
        })??;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    /// Asks for JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.ask(Method::GET, path, None).await?;
        self.read_json(answer).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.ask(Method::DELETE, path, None).await?;
        self.read_json(answer).await
    }

    /// The JSON of an answer.
    pub(super) async fn read_json<T: DeserializeOwned>(
        &self,
        answer: Response<Incoming>,
    ) -> Result<T, Failure> {
        let bytes = answer.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::unusable(format_args!(
                "what answers at {self} does not speak as a node of this version does: {error}"
            ))
        })
    }

    /// The whole body of an answer.
    pub(super) async fn read_bytes(&self, answer: Response<Incoming>) -> Result<Bytes, Failure> {
        Ok(answer.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes())
    }

    /// Hands each line of an answer to `take` as it arrives, until the answer ends.
    pub(super) async fn read_lines(
        &self,
        answer: Response<Incoming>,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
        mut pause: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut body = answer.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(|error| self.broken(&error))?.into_data() else { continue };
            rest.extend_from_slice(&bytes);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                take(line)?;
            }
            rest.drain(..=end);
            pause()?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Failure::unusable(format_args!("the answer of {self} broke off in the middle of a line")))
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        match &self.socket {
            Some(path) => self.exchange_over(UnixStream::connect(path), request).await,
            None => self.exchange_over(TcpStream::connect((self.bare_host(), self.port)), request).await,
        }
    }

    async fn exchange_over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        connecting: impl Future<Output = std::io::Result<S>>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = match tokio::time::timeout(CONNECT_TIME, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.nobody(&error)),
            Err(_) => return Err(self.nobody(&"it took too long")),
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // It ends with the answer's last byte, at the latest with this process.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    /// A resolver wants an IPv6 address without its brackets.
    fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    async fn refusal(&self, answer: Response<Incoming>) -> Failure {
        let status = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), MAX_REFUSAL_BYTES).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(Refusal { error }) => Failure::Refused(error),
            Err(_) => Failure::Refused(format!("the node at {self} answered with {status}")),
        }
    }

    fn nobody(&self, why: &dyn fmt::Display) -> Failure {
        Failure::unusable(format_args!(
            "no node answers at {self} ({why}); start one with `networkdb run`, or say with --api where it is"
        ))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        Failure::unusable(format_args!("the connection to {self} broke: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_ask() {
        for (text, shown) in [
            ("http://127.0.0.1:2000", "http://127.0.0.1:2000"),
            ("http://127.0.0.1:2001/", "http://127.0.0.1:2001"),
            ("127.0.0.1:2001", "http://127.0.0.1:2001"),
            ("http://db.example", "http://db.example:2000"),
            ("http://[::1]:2000", "http://[::1]:2000"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            assert_eq!(text.parse::<Api>().unwrap().to_string(), shown, "{text}");
        }
        assert_eq!("[::1]:9".parse::<Api>().unwrap().bare_host(), "::1");
    }

    #[test]
    fn what_cannot_be_asked_is_told_with_an_example() {
        for text in ["", "unix:", "https://127.0.0.1:2000", "http://127.0.0.1:2000/v1", "http://:2000", "a b"]
        {
            let error = text.parse::<Api>().unwrap_err();
            assert!(error.contains("right would be http://127.0.0.1:2000"), "{error}");
        }
    }

    #[test]
    fn names_stay_one_part_of_a_path() {
        assert_eq!(
            path(&["networks", "a/b", "tables", "..", "ż ?"]),
            "/v1/networks/a%2Fb/tables/%2E%2E/%C5%BC%20%3F"
        );
        assert_eq!(parameter("nid", "a&b=c+d"), "nid=a%26b%3Dc%2Bd");
    }
}
