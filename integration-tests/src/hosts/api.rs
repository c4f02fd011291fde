//! HTTP requests to a node, from within its namespace.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Failure;

/// A node's default HTTP address: on loopback, which each namespace has for itself.
const ADDRESS: &str = "127.0.0.1:2000";

/// A node's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON, if the request succeeded.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        if !self.status.is_success() {
            return Err(format!("{}: {}", self.status, self.text()));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("not the JSON that was expected ({error}): {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request to the node in the namespace of this thread; the body of the response is not
/// read yet.
pub(super) async fn open(method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
    let stream = TcpStream::connect(ADDRESS).await.map_err(|error| format!("{method} {path}: {error}"))?;
    exchange(stream, method, path, body).await
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, Failure> {
    let failed = |error: &dyn std::fmt::Display| format!("{method} {path}: {error}");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // It ends with the last byte of the response.
    tokio::spawn(connection);
    let mut request = Request::builder().method(&method).uri(path).header(hyper::header::HOST, ADDRESS);
    if method == Method::PUT && path.contains("/entries/") {
        // An update: it must not create what another host has deleted.
        request = request.header(hyper::header::IF_MATCH, "*");
    }
    let request = request.body(Full::new(body)).map_err(|error| failed(&error))?;
    sender.send_request(request).await.map_err(|error| failed(&error))
}

/// Sends a request to the node in the namespace of this thread; over its Unix socket, if one is
/// given.
pub(super) async fn ask(
    socket: Option<PathBuf>,
    method: Method,
    path: String,
    body: Bytes,
    limit: Duration,
) -> Result<Answer, Failure> {
    let asking = async {
        let answer = match socket {
            None => open(method, &path, body).await?,
            Some(socket) => {
                let stream = UnixStream::connect(&socket).await;
                let stream = stream.map_err(|error| format!("{}: {error}", socket.display()))?;
                exchange(stream, method, &path, body).await?
            }
        };
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| format!("{path}: {error}"))?.to_bytes();
        Ok(Answer { status, body })
    };
    tokio::time::timeout(limit, asking)
        .await
        .unwrap_or_else(|_| Err(format!("{path} was not answered within {limit:?}")))
}

/// The metrics of a node, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads Prometheus' text format.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pair = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((field(name).unwrap_or_else(|| name.to_owned()), value.parse().ok()?))
        };
        Self(lines.filter_map(pair).collect())
    }

    /// A counter of one part of the node, such as `("membership", "probes")`.
    pub fn count(&self, part: &str, what: &str) -> Result<u64, Failure> {
        let name = format!("networkdb_{part}_{what}_total");
        // A counter that was renamed must not read as zero.
        self.0.get(&name).map(|count| *count as u64).ok_or_else(|| format!("the node has no metric {name}"))
    }

    /// A metric, by its whole name.
    pub fn value(&self, name: &str) -> Result<f64, Failure> {
        self.0.get(name).copied().ok_or_else(|| format!("the node has no metric {name}"))
    }

    /// How many members are in this state on the node, such as `alive`.
    pub fn members(&self, state: &str) -> Option<usize> {
        self.0.get(&format!("networkdb_members{{state=\"{state}\"}}")).map(|count| *count as usize)
    }

    /// Every counter that grew since `before`, without the common prefix and suffix of their names.
    pub fn grown_since(&self, before: &Self) -> BTreeMap<String, u64> {
        let grown = self.0.iter().filter_map(|(name, now)| {
            let name_only = name.strip_prefix("networkdb_")?.strip_suffix("_total")?;
            let growth = now - before.0.get(name).copied().unwrap_or(0.0);
            (growth > 0.0).then(|| (name_only.to_owned(), growth as u64))
        });
        grown.collect()
    }
}

/// The name of a counter of a family without its label, as the node's own statistics call it:
/// `x_refused_busy_total` for `x_refused_total{reason="busy"}`.
fn field(sample: &str) -> Option<String> {
    let (family, label) = sample.split_once("_total{")?;
    let (_, variant) = label.strip_suffix("\"}")?.split_once("=\"")?;
    Some(format!("{family}_{variant}_total"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_and_compared() {
        let before = Metrics::parse("# HELP x y\nnetworkdb_membership_probes_total 3\nother 1\n");
        let after = Metrics::parse("networkdb_membership_probes_total 5\nnetworkdb_tables_news_total 0\n");
        assert_eq!(before.count("membership", "probes"), Ok(3));
        assert!(before.count("membership", "prods").is_err());
        let members = Metrics::parse("networkdb_members{state=\"alive\"} 7\n");
        assert_eq!((members.members("alive"), members.members("failed")), (Some(7), None));
        assert_eq!(after.grown_since(&before), [("membership_probes".to_owned(), 2)].into());
        let refused = Metrics::parse("networkdb_replication_refused_total{reason=\"busy\"} 3\n");
        assert_eq!(refused.count("replication", "refused_busy"), Ok(3));
    }
}
