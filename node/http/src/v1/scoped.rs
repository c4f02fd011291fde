//! Which calls a token that is limited to networks or keys may make: those that show and change nothing else. The
//! calls are listed; every other one, and each that is added, is refused.

use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, OriginalUri, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::Method;

use super::parameters::decoded;
use crate::admission::Admission;
use crate::problem::{Problem, ProblemCode};
use crate::scope::Scope;

/// The layer around all routes below `/v1`, with the scope that the admission check has found. `names` are the
/// parts of the path, as handlers read them.
pub(super) async fn pass(
    State(admission): State<Arc<Admission>>,
    names: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    let extensions = request.extensions();
    let scope = extensions.get::<Scope>().filter(|scope| !scope.is_unlimited());
    if let Some(scope) = scope {
        let route = extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let uri = extensions.get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
        // Names that are not UTF-8 are for the handler to refuse, if the caller may know of the call.
        let names = names.iter().flatten().collect::<Vec<_>>();
        let name = |wanted: &str| names.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        let call = Call { method: request.method(), route, network: name("network"), key: name("key") };
        if !call.is_within(scope, uri.query().unwrap_or_default()) {
            admission.counters.refused_forbidden.increment();
            let sentence =
                "the token is limited to networks or keys, and this call may show or change others";
            return Problem::new(ProblemCode::OutsideLimits, sentence).into_response();
        }
    }
    next.run(request).await
}

/// A call, as far as its path tells.
struct Call<'a> {
    method: &'a Method,
    route: &'a str,
    network: Option<&'a str>,
    key: Option<&'a str>,
}

impl Call<'_> {
    fn is_within(&self, scope: &Scope, query: &str) -> bool {
        let reads = matches!(*self.method, Method::GET | Method::HEAD);
        let of_network = self.network.is_some_and(|network| scope.has_network(network));
        let given = |name| parameter(query, name);
        let has_prefix =
            || scope.has_all_keys() || given("prefix").is_some_and(|prefix| scope.has_keys(&prefix));
        match self.route {
            // They show no state.
            "/v1" | "/v1/openapi.json" | "/v1/docs" => true,
            // The keys of a batch are in its body, and those that differ among members in an answer.
            "/v1/networks/{network}"
            | "/v1/networks/{network}/tables"
            | "/v1/networks/{network}/batch"
            | "/v1/networks/{network}/agreement" => of_network && scope.has_all_keys(),
            "/v1/networks/{network}/peers" => of_network,
            // By POST it is an import, whose lines name the keys.
            "/v1/networks/{network}/tables/{table}/entries" if reads => of_network && has_prefix(),
            "/v1/networks/{network}/tables/{table}/entries" => of_network && scope.has_all_keys(),
            // Without a key it is that of the empty one.
            "/v1/networks/{network}/tables/{table}/entries/" => of_network && scope.has_keys(""),
            "/v1/networks/{network}/tables/{table}/entries/{key}"
            | "/v1/networks/{network}/tables/{table}/entries/{key}/explain" => {
                of_network && self.key.is_some_and(|key| scope.has_keys(key))
            }
            "/v1/watch" => {
                given("network").is_some_and(|network| scope.has_network(&network)) && has_prefix()
            }
            _ => false,
        }
    }
}

/// The value of a query parameter that is there once, as handlers read it.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(found, _)| decoded(found).is_ok_and(|found| found == name));
    let (_, value) = values.next()?;
    if values.next().is_some() { None } else { decoded(value).ok() }
}
