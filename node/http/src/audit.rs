//! A log line for every change that is asked for over HTTP: who, what, and of which network, table and key. Never a value, a token or
//! a secret.

use axum::extract::Request;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::access::Who;
use super::guard::peer;
use super::permits::Caller;
use super::query::Query;

/// What is to be logged once it is known how it went.
#[derive(Debug)]
pub(super) struct Change {
    who: String,
    from: String,
    method: Method,
    call: String,
    place: Place,
}

/// What was to be changed, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    network: Option<String>,
    table: Option<String>,
    key: Option<String>,
}

impl Place {
    /// What the parameters of a diagnostic call say.
    pub(super) fn of_query(query: &Query) -> Self {
        let said = |name| query.bytes(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Self { network: said("nid"), table: said("tname"), key: said("key") }
    }

    /// What a path below /v1 says, and the path without it.
    fn of_path(path: &str) -> (Self, String) {
        let parts = path.split('/').collect::<Vec<_>>();
        let said = |at: usize, before: &str| {
            let found = parts.get(at).filter(|_| parts.get(at - 1) == Some(&before))?;
            Some(percent_decode_str(found).decode_utf8_lossy().into_owned())
        };
        let place = Self { network: said(3, "networks"), table: said(5, "tables"), key: said(7, "entries") };
        let call = match (&place.network, &place.table, &place.key) {
            // What stands where a fingerprint should may be a secret.
            (None, ..) if path.starts_with("/v1/keys/") => {
                let given = parts.get(3).copied().unwrap_or_default();
                let known = given.len() == 16 && given.bytes().all(|byte| byte.is_ascii_hexdigit());
                return (place, if known { path.to_owned() } else { path.replace(given, "{fingerprint}") });
            }
            (None, ..) => path,
            (_, None, _) => "/v1/networks/{network}",
            (.., None) => "/v1/networks/{network}/tables/{table}/entries",
            _ => "/v1/networks/{network}/tables/{table}/entries/{key}",
        };
        (place, call.to_owned())
    }
}

impl Change {
    /// The change that `who` asks for.
    pub(super) fn new(request: &Request, who: &Who) -> Self {
        let path = request.uri().path();
        let (place, call) = if path.starts_with("/v1/") {
            Place::of_path(path)
        } else {
            (Place::of_query(&Query::parse(request.uri().query().unwrap_or_default())), path.to_owned())
        };
        let from = match peer(request).caller {
            Caller::Host(address) => address.to_string(),
            Caller::Owner => "admin socket".to_owned(),
        };
        Self { who: who.to_string(), from, method: request.method().clone(), call, place }
    }

    /// Logs it. `place` is what the body of the request said, which only its handler read.
    pub(super) fn log(self, status: StatusCode, place: Option<Place>) {
        let Self { who, from, method, call, place: of_address } = self;
        let Place { network, table, key } = place.unwrap_or(of_address);
        tracing::info!(
            target: "audit", who, from, %method, call, network, table, key, status = status.as_u16(), "changed over HTTP"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_is_about() {
        let (place, call) = Place::of_path("/v1/networks/a%2Fb/tables/t/entries/k%20");
        assert_eq!(
            (place.network.as_deref(), place.table.as_deref(), place.key.as_deref()),
            (Some("a/b"), Some("t"), Some("k "))
        );
        assert_eq!(call, "/v1/networks/{network}/tables/{table}/entries/{key}");
        let (place, call) = Place::of_path("/v1/networks/n");
        assert_eq!(
            (place.network.as_deref(), place.table, call.as_str()),
            (Some("n"), None, "/v1/networks/{network}")
        );
        for (path, shown) in [
            ("/v1/keys/0123456789abcdef/use", "/v1/keys/0123456789abcdef/use"),
            ("/v1/keys/networkdb1.secret/use", "/v1/keys/{fingerprint}/use"),
            ("/v1/keys", "/v1/keys"),
        ] {
            let (place, call) = Place::of_path(path);
            assert_eq!((place.network, call.as_str()), (None, shown));
        }
    }
}
