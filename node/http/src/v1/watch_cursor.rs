//! The cursors of watches as texts: opaque to clients, and valid within one cluster.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::HeaderMap;
use networkdb::ClusterName;
use ring::digest::{SHA256, digest};
use tabledb::ResumePoint;

use crate::problem::{Problem, ProblemCode};

/// The header in which an `EventSource` sends the cursor of the last event that it received.
const LAST_EVENT_ID: &str = "last-event-id";

/// The bytes of a digest of the cluster's name.
const CLUSTER_BYTES: usize = 8;

/// The most characters of a cursor.
pub(super) const MAX_CURSOR_CHARACTERS: usize = ((ResumePoint::MAX_BYTES + CLUSTER_BYTES) * 4).div_ceil(3);

/// Writes and reads the cursors of one cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursors {
    cluster: [u8; CLUSTER_BYTES],
}

impl Cursors {
    pub(super) fn of(cluster: &ClusterName) -> Self {
        let digest = digest(&SHA256, cluster.as_str().as_bytes());
        Self { cluster: *digest.as_ref().first_chunk().expect("a digest is longer") }
    }

    /// The bytes of a point as a text.
    pub(super) fn write(self, point: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.cluster[..], point].concat())
    }

    /// The point at which a request resumes: that of the header, which a reconnecting client sends with the address
    /// that it began with, or else that of the parameter.
    pub(super) fn given(
        self,
        headers: &HeaderMap,
        parameter: Option<&str>,
    ) -> Result<Option<ResumePoint>, Problem> {
        let header = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
        match (header, parameter) {
            // What is not ASCII is no base64 either.
            (Some(header), _) => self.read(header.as_bytes()).map(Some),
            (None, Some(text)) => self.read(text.as_bytes()).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn read(self, text: &[u8]) -> Result<ResumePoint, Problem> {
        let bad = || {
            let sentence = format!(
                "the cursor is none that a node of this version issued, in the cursor of an event or in its id; it has \
                 up to {MAX_CURSOR_CHARACTERS} characters; without one, the watch begins with all entries"
            );
            Problem::new(ProblemCode::BadCursor, sentence).with_limit(MAX_CURSOR_CHARACTERS)
        };
        if text.len() > MAX_CURSOR_CHARACTERS {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let (cluster, point) = bytes.split_at_checked(CLUSTER_BYTES).ok_or_else(bad)?;
        let point = ResumePoint::from_bytes(point).map_err(|_| bad())?;
        if cluster != self.cluster {
            let sentence = "the cursor was issued by a node of another cluster; without one, the watch begins with all \
                            entries";
            return Err(Problem::new(ProblemCode::ForeignCursor, sentence));
        }
        Ok(point)
    }
}

#[cfg(test)]
mod tests {
    use tabledb::{Config, TableDb, WatchFilter};
    use wire::NodeName;

    use super::*;

    #[test]
    fn a_cursor_is_read_in_its_cluster_alone() {
        let tables = TableDb::new(Config::starting_now(NodeName::new("n1").unwrap())).unwrap();
        let point = tables.watch_resumable(WatchFilter::default(), None).point();
        let cursors = ["one", "other"].map(|name| Cursors::of(&ClusterName::new(name).unwrap()));
        let text = cursors[0].write(&point.to_bytes());
        let none = HeaderMap::new();
        assert_eq!(cursors[0].given(&none, Some(&text)), Ok(Some(point.clone())));
        assert_eq!(cursors[1].given(&none, Some(&text)).unwrap_err().code, ProblemCode::ForeignCursor);
        for bad in ["", "x", "!", &text[1..], &(text.clone() + "="), &"A".repeat(MAX_CURSOR_CHARACTERS + 1)] {
            assert_eq!(cursors[0].given(&none, Some(bad)).unwrap_err().code, ProblemCode::BadCursor, "{bad}");
        }
        let header =
            |text: &str| HeaderMap::from_iter([(LAST_EVENT_ID.parse().unwrap(), text.parse().unwrap())]);
        assert_eq!(cursors[0].given(&header(&text), Some("older")), Ok(Some(point)));
        assert_eq!(cursors[0].given(&header(""), None), Ok(None));
    }
}
