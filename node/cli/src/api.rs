//! The HTTP client of the commands.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tabledb::Version;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::failure::Failure;
use super::tokens::Token;
use super::trust::Trust;
use crate::settings::values::DEFAULT_HTTP_PORT;
use networkdb_http::admin_socket::find;
use networkdb_http::v1::model::ProblemDocument;

/// Timeout of a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a response. Joins and leaves take up to half a minute.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest body of an error response that is read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// The characters that are escaped in a path: a name may contain slashes, dots, or any other character.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// The address of a node's HTTP endpoints.
#[derive(Debug, Clone)]
pub(super) struct Api {
    host: String,
    port: u16,
    token: Option<Token>,
    /// Whom to trust over HTTPS; `None` for plain HTTP.
    https: Option<Trust>,
    /// The Unix socket that is used in place of host and port.
    socket: Option<PathBuf>,
}

/// What is done with the lines of a response.
pub(super) struct Lines<T, P> {
    /// Takes each line.
    pub(super) take: T,
    /// Is called after the lines that arrived together.
    pub(super) pause: P,
    /// Gives the response up after this time without a byte, if there is a limit.
    pub(super) max_silence: Option<Duration>,
}

impl<T> Lines<T, fn() -> Result<(), Failure>> {
    /// Only takes each line, however long it takes to come.
    pub(super) fn each(take: T) -> Self {
        Self { take, pause: || Ok(()), max_silence: None }
    }
}

/// What must hold for a change to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Whatever is there.
    None,
    /// There is no entry, or the network is not joined.
    Absent,
    /// There is an entry.
    Present,
    /// The entry has this version.
    Version(Version),
}

impl FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |why: &str| format!("{text:?} {why}; valid examples: http://127.0.0.1:2000");
        match text.strip_prefix("unix:") {
            Some("") => return Err(invalid("names no socket")),
            Some(path) => {
                let socket = Some(PathBuf::from(path));
                return Ok(Self {
                    host: "localhost".to_owned(),
                    port: DEFAULT_HTTP_PORT,
                    token: None,
                    https: None,
                    socket,
                });
            }
            None => {}
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri = whole.parse::<Uri>().map_err(|error| invalid(&format!("is not a URL ({error})")))?;
        let https = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => Some(Trust::System),
            _ => return Err(invalid("is neither HTTP nor HTTPS")),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("has a path; the commands set it"));
        }
        match uri.host() {
            Some(host) if !host.is_empty() => {
                let port = uri.port_u16().unwrap_or(DEFAULT_HTTP_PORT);
                Ok(Self { host: host.to_owned(), port, token: None, https, socket: None })
            }
            _ => Err(invalid("names no host")),
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.socket, &self.https) {
            (Some(path), _) => write!(f, "unix:{}", path.display()),
            (None, None) => write!(f, "http://{}:{}", self.host, self.port),
            (None, Some(_)) => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

/// A path below `/v1`. Each part is escaped.
pub(super) fn path(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| format!("/{}", utf8_percent_encode(part, NAME)));
    format!("/v1{}", parts.collect::<String>())
}

/// `name=value` of a query string.
pub(super) fn parameter(name: &str, value: &str) -> String {
    format!("{name}={}", utf8_percent_encode(value, NAME))
}

/// The JSON of a line.
pub(super) fn read_line<T: serde::de::DeserializeOwned>(line: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(line)
        .map_err(|error| Failure::unusable(format_args!("the node sent an invalid line: {error}")))
}

impl Api {
    /// Whether requests go to the node without crossing a network.
    pub(super) fn is_private(&self) -> bool {
        self.socket.is_some()
    }

    /// Uses the node's Unix socket if the node is on this host and runs as this user: there the user has all
    /// rights.
    pub(super) fn over_socket(self) -> Self {
        let socket = self.socket.clone().or_else(|| find(self.bare_host(), self.port));
        Self { socket, ..self }
    }

    /// Sends `token` with every request.
    pub(super) fn with_token(self, token: Option<Token>) -> Self {
        Self { token, ..self }
    }

    /// Trusts the authorities of `trust` if requests go over HTTPS.
    pub(super) fn with_trust(self, trust: &Trust) -> Self {
        Self { https: self.https.map(|_| trust.clone()), ..self }
    }

    /// Sends a request, and returns the response if it is not an error.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Body)>,
    ) -> Result<Response<Incoming>, Failure> {
        self.request_if(Condition::None, method, path, body).await
    }

    /// Sends a request that the node refuses unless the condition holds.
    pub(super) async fn request_if(
        &self,
        condition: Condition,
        method: Method,
        path: &str,
        body: Option<(&'static str, Body)>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        request = match condition {
            Condition::None => request,
            Condition::Absent => request.header(IF_NONE_MATCH, "*"),
            Condition::Present => request.header(IF_MATCH, "*"),
            Condition::Version(version) => request.header(IF_MATCH, format!("\"{version}\"")),
        };
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let body = body.map_or_else(Body::empty, |(_, body)| body);
        let request = request
            .body(body)
            .map_err(|error| Failure::unusable(format_args!("cannot request {path}: {error}")))?;
        let response =
            tokio::time::timeout(RESPONSE_TIMEOUT, self.exchange(request)).await.map_err(|_| {
                Failure::unusable(format_args!(
                    "the node at {self} did not respond within {} seconds",
                    RESPONSE_TIMEOUT.as_secs()
                ))
            })??;
        if response.status().is_success() { Ok(response) } else { Err(self.error_of(response).await) }
    }

    /// Gets JSON.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.request(Method::GET, path, None).await?;
        self.read_json(response).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.request(Method::DELETE, path, None).await?;
        self.read_json(response).await
    }

    /// The JSON of a response.
    pub(super) async fn read_json<T: DeserializeOwned>(
        &self,
        response: Response<Incoming>,
    ) -> Result<T, Failure> {
        let bytes = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::unusable(format_args!(
                "the response of {self} is not the response of a node of this version: {error}"
            ))
        })
    }

    /// The whole body of a response.
    pub(super) async fn read_bytes(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        Ok(response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes())
    }

    /// Reads the lines of a response as they arrive, until it ends.
    pub(super) async fn read_lines<T, P>(
        &self,
        response: Response<Incoming>,
        lines: Lines<T, P>,
    ) -> Result<(), Failure>
    where
        T: FnMut(&[u8]) -> Result<(), Failure>,
        P: FnMut() -> Result<(), Failure>,
    {
        let Lines { mut take, mut pause, max_silence } = lines;
        let mut body = response.into_body();
        let mut rest = Vec::new();
        loop {
            let frame = match max_silence {
                None => body.frame().await,
                Some(limit) => {
                    tokio::time::timeout(limit, body.frame()).await.map_err(|_| self.silent(limit))?
                }
            };
            let Some(frame) = frame else { break };
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
            Err(Failure::unusable(format_args!("the response of {self} ended in the middle of a line")))
        }
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        if let Some(path) = &self.socket {
            return self.exchange_over(self.connected(UnixStream::connect(path)).await?, request).await;
        }
        let stream = self.connected(TcpStream::connect((self.bare_host(), self.port))).await?;
        let Some(trust) = &self.https else { return self.exchange_over(stream, request).await };
        let handshake = trust.handshake(self.bare_host(), stream);
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => return Err(Failure::unusable(format_args!("the node at {self} {why}"))),
            Err(_) => return Err(self.unreachable(&"timeout of the TLS handshake")),
        };
        self.exchange_over(stream, request).await
    }

    async fn connected<S>(&self, connecting: impl Future<Output = std::io::Result<S>>) -> Result<S, Failure> {
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.unreachable(&"timeout")),
        }
    }

    async fn exchange_over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // It ends with the response, or with this process.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    /// The host for a resolver, which does not accept brackets around an IPv6 address.
    fn bare_host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    async fn error_of(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_ERROR_BYTES).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        match serde_json::from_slice::<ProblemDocument>(&bytes) {
            Ok(ProblemDocument { detail, code, .. }) => Failure::Problem { sentence: detail, code },
            Err(_) => Failure::Refused(format!("the node at {self} answered with {status}")),
        }
    }

    fn unreachable(&self, why: &dyn fmt::Display) -> Failure {
        Failure::unusable(format_args!(
            "no node answers at {self} ({why}); start one with `networkdb run`, or set its address with --api"
        ))
    }

    /// The node has sent nothing for as long as it may.
    pub(super) fn silent(&self, limit: Duration) -> Failure {
        let seconds = limit.as_secs_f64();
        Failure::unusable(format_args!("the node at {self} has been silent for {seconds} s"))
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        let advice = match (error.is_parse(), &self.https, &self.socket) {
            (true, None, None) => "; call it with https:// if it has a certificate",
            _ => "",
        };
        Failure::unusable(format_args!("the connection to {self} broke: {error}{advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nodes() {
        for (text, shown) in [
            ("http://127.0.0.1:2000", "http://127.0.0.1:2000"),
            ("http://127.0.0.1:2001/", "http://127.0.0.1:2001"),
            ("127.0.0.1:2001", "http://127.0.0.1:2001"),
            ("http://db.example", "http://db.example:2000"),
            ("http://[::1]:2000", "http://[::1]:2000"),
            ("https://db.example", "https://db.example:2000"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ] {
            assert_eq!(text.parse::<Api>().unwrap().to_string(), shown, "{text}");
        }
        assert_eq!("[::1]:9".parse::<Api>().unwrap().bare_host(), "::1");
    }

    #[test]
    fn an_invalid_address_is_refused_with_an_example() {
        for text in ["", "unix:", "ftp://127.0.0.1:2000", "http://127.0.0.1:2000/v1", "http://:2000", "a b"] {
            let error = text.parse::<Api>().unwrap_err();
            assert!(error.contains("valid examples: http://127.0.0.1:2000"), "{error}");
        }
    }

    #[test]
    fn names_in_a_path_are_escaped() {
        assert_eq!(
            path(&["networks", "a/b", "tables", "..", "ż ?"]),
            "/v1/networks/a%2Fb/tables/%2E%2E/%C5%BC%20%3F"
        );
        assert_eq!(parameter("network", "a&b=c+d"), "network=a%26b%3Dc%2Bd");
    }
}
