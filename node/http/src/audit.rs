//! The audit log: one line for each change over HTTP, and each reader of the log, with the principal, the call, and the
//! network, table and key. It never contains a value, a token or a secret.

use axum::extract::Request;
use hyper::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::access::Principal;
use super::client_origin::client_origin;
use super::query::Query;

/// A requested change, logged when its outcome is known.
#[derive(Debug)]
pub(super) struct Change {
    principal: String,
    from: String,
    method: Method,
    call: String,
    target: Target,
}

/// The target of a change, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    network: Option<String>,
    table: Option<String>,
    key: Option<String>,
}

impl Target {
    /// The target in the parameters of a diagnostic call.
    pub(super) fn of_query(query: &Query) -> Self {
        let parameter = |name| query.bytes(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Self { network: parameter("nid"), table: parameter("tname"), key: parameter("key") }
    }

    /// The target in a path below /v1, and the path with placeholders for it.
    fn of_path(path: &str) -> (Self, String) {
        let parts = path.split('/').collect::<Vec<_>>();
        let part = |at: usize, before: &str| {
            let found = parts.get(at).filter(|_| parts.get(at - 1) == Some(&before))?;
            Some(percent_decode_str(found).decode_utf8_lossy().into_owned())
        };
        let target = Self { network: part(3, "networks"), table: part(5, "tables"), key: part(7, "entries") };
        let call = match (&target.network, &target.table, &target.key) {
            // A caller may have sent a secret in target of its fingerprint.
            (None, ..) if path.starts_with("/v1/keys/") => {
                let given = parts.get(3).copied().unwrap_or_default();
                let known = given.len() == 16 && given.bytes().all(|byte| byte.is_ascii_hexdigit());
                return (target, if known { path.to_owned() } else { path.replace(given, "{fingerprint}") });
            }
            (None, ..) => path,
            (_, None, _) if parts.get(4) == Some(&"batch") => "/v1/networks/{network}/batch",
            (_, None, _) => "/v1/networks/{network}",
            (.., None) => "/v1/networks/{network}/tables/{table}/entries",
            _ => "/v1/networks/{network}/tables/{table}/entries/{key}",
        };
        (target, call.to_owned())
    }
}

impl Change {
    /// The change that `principal` requests.
    pub(super) fn new(request: &Request, principal: &Principal) -> Self {
        let path = request.uri().path();
        let (target, call) = if path.starts_with("/v1/") {
            Target::of_path(path)
        } else {
            (Target::of_query(&Query::parse(request.uri().query().unwrap_or_default())), path.to_owned())
        };
        let from = client_origin(request).caller.to_string();
        Self { principal: principal.to_string(), from, method: request.method().clone(), call, target }
    }

    /// Logs it. `form_target` is the target in the request's body, which only the handler reads.
    pub(super) fn log(self, status: StatusCode, form_target: Option<Target>) {
        let Self { principal, from, method, call, target: uri_target } = self;
        let Target { network, table, key } = form_target.unwrap_or(uri_target);
        let status = status.as_u16();
        let what = if call == "/v1/log" { "the log is read over HTTP" } else { "changed over HTTP" };
        tracing::info!(
            target: "audit", who = principal, from, %method, call, network, table, key, status, "{what}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_target_of_a_change() {
        let (target, call) = Target::of_path("/v1/networks/a%2Fb/tables/t/entries/k%20");
        assert_eq!(
            (target.network.as_deref(), target.table.as_deref(), target.key.as_deref()),
            (Some("a/b"), Some("t"), Some("k "))
        );
        assert_eq!(call, "/v1/networks/{network}/tables/{table}/entries/{key}");
        let (target, call) = Target::of_path("/v1/networks/n");
        assert_eq!(
            (target.network.as_deref(), target.table, call.as_str()),
            (Some("n"), None, "/v1/networks/{network}")
        );
        let (target, call) = Target::of_path("/v1/networks/n/batch");
        assert_eq!((target.network.as_deref(), call.as_str()), (Some("n"), "/v1/networks/{network}/batch"));
        for (path, shown) in [
            ("/v1/keys/0123456789abcdef/use", "/v1/keys/0123456789abcdef/use"),
            ("/v1/keys/networkdb1.secret/use", "/v1/keys/{fingerprint}/use"),
            ("/v1/keys", "/v1/keys"),
        ] {
            let (target, call) = Target::of_path(path);
            assert_eq!((target.network, call.as_str()), (None, shown));
        }
    }
}
