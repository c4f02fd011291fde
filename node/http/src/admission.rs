//! The admission check before every endpoint: access rights, and limits on concurrent work.
//!
//! It is one layer around all routes, so that it also covers every route that is added. Below `/v1`, a GET
//! needs the role read and every other method the role change. The read-only diagnostic calls are listed;
//! every other one needs the role change.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode, Version};
use wire::AtomicCounter;

use super::access::{Access, AccessDenied, Principal, Role};
use super::audit::{Change, Target};
use super::client_origin::{ClientOrigin, client_origin};
use super::diagnostic;
use super::limits::{HttpCounters, HttpLimits};
use super::origin::{HostNames, OriginError, check_host, check_page, is_from_browser};
use super::permits::{Caller, Permit, Permits};
use super::problem::{Problem, ProblemCode};
use super::reply::{Reply, Spelling};
use super::request_durations::{RequestDurations, Route};
use super::scope::Scope;
use super::tls::CertificateStore;
use super::ui;

/// How long the rest of a refused body is read and discarded, so that the client can read the response.
const DISCARD_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a large response waits for a permit.
const LARGE_RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Access rights and limits of the HTTP endpoints.
#[derive(Debug, Clone, Default)]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct HttpConfig {
    /// Which clients have access.
    pub access: Access,
    /// Host names of this node besides `localhost` and IP addresses. They are checked only while no token is
    /// required: a page that has a token is trusted.
    pub names: Vec<String>,
    /// Limits.
    pub limits: HttpLimits,
    /// What the program that runs the node adds to refusals.
    pub advice: HttpAdvice,
    /// With a certificate, the port speaks TLS only; without one, plain HTTP. The Unix socket is always
    /// plain.
    pub certificate: Option<Arc<CertificateStore>>,
}

/// What the reader of a refusal can do, in the words of the program that runs the node. It follows the fact
/// after a semicolon. An empty text adds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpAdvice {
    /// To a request without a token.
    pub no_token: &'static str,
    /// To a call that needs a token for admin, or the node's Unix socket, if the node has no tokens.
    pub needs_socket: &'static str,
    /// To a request for a host name that is not this node's.
    pub unknown_host: &'static str,
}

/// The state of the admission check.
#[derive(Debug)]
pub(super) struct Admission {
    access: Access,
    names: HostNames,
    advice: HttpAdvice,
    pub(super) limits: HttpLimits,
    pub(super) counters: HttpCounters,
    pub(super) durations: RequestDurations,
    requests: Arc<Permits>,
    /// Reserved for requests for health and metrics, so that other requests cannot block them.
    health: Arc<Permits>,
    large_responses: Arc<Permits>,
    imports: Arc<Permits>,
    watches: Arc<Permits>,
    pub(super) bodies: Arc<Permits>,
}

/// The permits of a request. They are released when its response has been sent and all work for it has ended.
/// Handlers move a clone to work that they start on other threads.
#[derive(Debug, Clone)]
pub(super) struct RequestPermits {
    caller: Caller,
    _permits: Arc<(Permit, Permit)>,
}

/// Cancels work when this is dropped, because its client has disconnected.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether `path` shows the node's health.
pub(super) fn is_health(path: &str) -> bool {
    matches!(path, "/ready" | "/metrics") || is_check(path)
}

/// Whether `path` is that of a check, which needs no token.
pub(super) fn is_check(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

/// Whether a path is that of `/v1`, or below it.
fn is_v1(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The role that a call needs. Only calls that are known to change nothing need the role read.
fn needed(method: &Method, path: &str) -> Role {
    let admin = matches!(path, "/join" | "/v1/join" | "/v1/leave" | "/v1/log" | "/v1/keys")
        || path.starts_with("/v1/keys/");
    if ui::is_of_page(path) {
        return Role::Read;
    }
    let reads = if is_v1(path) || path == "/metrics" || is_check(path) {
        // The log names networks and keys of everybody.
        path != "/v1/log" && matches!(*method, Method::GET | Method::HEAD)
    } else {
        // The diagnostic calls treat all methods alike.
        diagnostic::is_read_only(path)
    };
    match (reads, admin) {
        (true, _) => Role::Read,
        (false, true) => Role::Admin,
        (false, false) => Role::Change,
    }
}

/// Whether the body of a request is a secret.
fn carries_a_secret(method: &Method, path: &str) -> bool {
    path == "/v1/keys" && matches!(*method, Method::POST | Method::PUT)
}

impl Admission {
    pub(super) fn new(config: HttpConfig) -> Arc<Self> {
        let HttpConfig { access, names, limits, advice, certificate: _ } = config;
        Arc::new(Self {
            access,
            names: HostNames::new(&names),
            advice,
            requests: Permits::shared(limits.requests),
            health: Permits::shared(limits.health_requests()),
            large_responses: Permits::shared(limits.large_responses()),
            imports: Permits::shared(limits.imports()),
            watches: Permits::shared(limits.watches),
            bodies: Permits::shared(limits.bodies_bytes()),
            limits,
            counters: HttpCounters::default(),
            durations: RequestDurations::default(),
        })
    }

    /// A permit for a watch.
    pub(super) fn watch(&self, client: ClientOrigin) -> Result<Permit, Problem> {
        let permit = self.watches.take(client.caller);
        permit.ok_or_else(|| {
            let counter = &self.counters.refused_too_many_watches;
            too_many(ProblemCode::TooManyWatches, counter, "watches", self.limits.watches)
        })
    }

    /// A permit for an import.
    pub(super) fn import(&self, client: ClientOrigin) -> Result<Permit, Problem> {
        let permit = self.imports.take(client.caller);
        permit.ok_or_else(|| {
            let counter = &self.counters.refused_too_many_imports;
            too_many(ProblemCode::TooManyImports, counter, "imports", self.limits.imports())
        })
    }

    /// Runs `work` on a blocking thread, for a response that grows with the data. The caller puts the
    /// returned permit into the response's body. The flag is set when the client disconnects; the permits are
    /// released when `work` has ended.
    pub(super) async fn large_response<T: Send + 'static>(
        &self,
        permits: &RequestPermits,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<(T, Permit), Problem> {
        let permit =
            self.large_responses.wait(permits.caller, LARGE_RESPONSE_TIMEOUT).await.ok_or_else(|| {
                too_many(
                    ProblemCode::TooManyLargeResponses,
                    &self.counters.refused_too_many_large_responses,
                    "large responses",
                    self.limits.large_responses(),
                )
            })?;
        let (permits, gone) = (permits.clone(), Arc::new(AtomicBool::new(false)));
        let _cancel = CancelOnDrop(gone.clone());
        let working = tokio::task::spawn_blocking(move || {
            let _permits = permits;
            (work(&gone), permit)
        });
        working.await.map_err(|error| Problem::new(ProblemCode::InternalError, error))
    }

    /// Admits a request. Returns the audit record of a request that changes something, and what the caller may see
    /// and change: the handlers of `/v1` are behind a layer that keeps to it.
    fn admit(&self, request: &Request) -> Result<(Option<Change>, Scope), Problem> {
        let (uri, headers) = (request.uri(), request.headers());
        well_formed(request)?;
        let needed = needed(request.method(), uri.path());
        let change = |principal: &Principal| (needed != Role::Read).then(|| Change::new(request, principal));
        let client = client_origin(request);
        if client.caller == Caller::Owner {
            return Ok((change(&Principal::owner()), Scope::default()));
        }
        let names_matter = match self.access {
            Access::Loopback => true,
            // Programs may use any host name. A browser may be running a page of another site, so its name is
            // checked.
            Access::Open => is_from_browser(headers),
            Access::Tokens(_) => false,
        };
        if names_matter {
            check_host(uri, headers, &self.names).map_err(|error| self.origin_error(&error))?;
        }
        check_page(request.method(), uri, headers, needed).map_err(|error| self.origin_error(&error))?;
        if is_check(uri.path()) {
            return Ok((None, Scope::default()));
        }
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        // An open node allows every client what the original allows: also to join a cluster, but not to
        // change secrets.
        let open_join = matches!(self.access, Access::Open) && matches!(uri.path(), "/join" | "/v1/join");
        let role = if open_join { Role::Change } else { needed };
        let principal = if ui::is_of_page(uri.path()) {
            // Its files hold nothing of this node. One of them asks the reader for the token.
            None
        } else {
            Some(self.access.allow(authorization, role).map_err(|denied| self.denied(denied))?)
        };
        if carries_a_secret(request.method(), uri.path()) {
            self.counters.refused_forbidden.increment();
            let sentence = "a node accepts secrets over its Unix socket only, on its own host and as its \
                            user; send it there, or change the node's secret file";
            return Err(Problem::new(ProblemCode::AdminSocketRequired, sentence));
        }
        if client.reserved && !is_health(uri.path()) {
            let sentence = "the limit of connections is reached; this connection serves only health and \
                            metrics; try again later";
            let limit = self.limits.connections;
            return Err(Problem::new(ProblemCode::TooManyConnections, sentence).with_limit(limit));
        }
        let scope = principal.as_ref().map_or_else(Scope::default, |principal| principal.scope.clone());
        if !scope.is_unlimited() && !is_v1(uri.path()) {
            self.counters.refused_forbidden.increment();
            let sentence =
                "the token is limited to networks or keys; such a token is only for calls below /v1";
            return Err(Problem::new(ProblemCode::OutsideLimits, sentence));
        }
        Ok((principal.as_ref().and_then(change), scope))
    }

    fn origin_error(&self, error: &OriginError) -> Problem {
        let (code, counter, advice) = match error {
            OriginError::UnknownHost(_) => {
                (ProblemCode::ForeignHost, &self.counters.refused_foreign_host, self.advice.unknown_host)
            }
            OriginError::CrossOrigin | OriginError::UndeclaredPage | OriginError::ExternalLink => {
                (ProblemCode::ForeignPage, &self.counters.refused_foreign_page, "")
            }
        };
        counter.increment();
        Problem::new(code, advised(error, advice))
    }

    fn denied(&self, denied: AccessDenied) -> Problem {
        let (code, counter, fact, advice) = match denied {
            AccessDenied::NoToken => (
                ProblemCode::TokenRequired,
                &self.counters.refused_unauthorized,
                "this node requires a token: send the header Authorization: Bearer TOKEN",
                self.advice.no_token,
            ),
            AccessDenied::UnknownToken => (
                ProblemCode::UnknownToken,
                &self.counters.refused_unauthorized,
                "this token is unknown to the node",
                "",
            ),
            AccessDenied::Needs(Role::Admin) => (
                ProblemCode::RoleRequired,
                &self.counters.refused_forbidden,
                "this call is for those who operate the node; it needs a token for admin",
                "",
            ),
            AccessDenied::Needs(_) => (
                ProblemCode::RoleRequired,
                &self.counters.refused_forbidden,
                "this token is for reading; the call needs one for changing",
                "",
            ),
            AccessDenied::NeedsSocket => (
                ProblemCode::AdminSocketRequired,
                &self.counters.refused_forbidden,
                "this call is for those who operate the node; without tokens only the node's own user may make \
                 it, over its Unix socket",
                self.advice.needs_socket,
            ),
        };
        counter.increment();
        Problem::new(code, advised(fact, advice))
    }
}

/// A fact with the advice of the program that runs the node, if it has any.
fn advised(fact: impl Display, advice: &str) -> String {
    if advice.is_empty() { fact.to_string() } else { format!("{fact}; {advice}") }
}

fn too_many(code: ProblemCode, refused: &AtomicCounter, what: &str, limit: usize) -> Problem {
    refused.increment();
    let sentence = format_args!(
        "the limit of {limit} concurrent {what} is reached, or your share of it, three quarters; try again \
         later"
    );
    Problem::new(code, sentence).with_limit(limit)
}

/// Checks that apply to every request, so that handlers need not repeat them.
fn well_formed(request: &Request) -> Result<(), Problem> {
    if request.method() == Method::CONNECT {
        return Err(Problem::new(ProblemCode::NotAProxy, "a node is not a proxy"));
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() >= Version::HTTP_11) {
        let sentence = format_args!("the request has {hosts} Host headers; it must have one");
        return Err(Problem::new(ProblemCode::InvalidHost, sentence));
    }
    if request.uri().path() == "/v1/" {
        let sentence = "there is no call /v1/; GET /v1 lists all calls";
        return Err(Problem::new(ProblemCode::PathNotFound, sentence));
    }
    Ok(())
}

/// The layer around all routes.
#[expect(clippy::disallowed_methods, reason = "durations are only displayed")]
pub(super) async fn pass(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let (route, received) = (Route::of(&request), Instant::now());
    let path = request.uri().path().to_owned();
    let reserved = client_origin(&request).reserved;
    let mut response = match admission.admit(&request) {
        Err(refused) => {
            tracing::debug!(path, code = refused.code.as_str(), "request refused");
            reject(&path, refused)
        }
        Ok((change, scope)) => {
            request.extensions_mut().insert(scope);
            let mut response = next.run(request).await;
            if let Some(change) = change {
                change.log(response.status(), response.extensions_mut().remove::<Target>());
            }
            response
        }
    };
    let headers = response.headers_mut();
    // Values are arbitrary bytes: a browser must not interpret them as a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if reserved {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    admission.durations.add(route, response.status(), received.elapsed());
    response
}

/// The layer around routes with short requests. It reads the whole body, within its time and size limits,
/// before it takes a permit, so that a client that sends its body slowly holds no more than a connection.
pub(super) async fn buffer_body(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    // Below a nested router the URI of a request is without the beginning of its path.
    let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |original| &original.0);
    let path = uri.path().to_owned();
    let caller = client_origin(&request).caller;
    let (head, mut body) = request.into_parts();
    let (bytes, body_permit) = match read_body(&admission, caller, &mut body).await {
        Ok(taken) => taken,
        Err(refused) => {
            // If a socket is closed with unread data, the system resets the connection and discards the
            // response.
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
            // The rest of the body would be parsed as the next request.
            return ([(CONNECTION, "close")], reject(&path, refused)).into_response();
        }
    };
    let permit = admission.requests.take(caller);
    let permit = permit.or_else(|| is_health(&path).then(|| admission.health.take(caller)).flatten());
    let Some(permit) = permit else {
        let (counter, limit) = (&admission.counters.refused_too_many_requests, admission.limits.requests);
        let refused = too_many(ProblemCode::TooManyRequests, counter, "requests", limit);
        return reject(&path, refused);
    };
    let permits = RequestPermits { caller, _permits: Arc::new((permit, body_permit)) };
    let mut request = Request::from_parts(head, bytes.into());
    request.extensions_mut().insert(permits.clone());
    next.run(request).await.map(|body| Body::new(PermitBody { body, _permits: permits }))
}

/// An error response in the format of the endpoint at `path`.
fn reject(path: &str, refused: Problem) -> Response {
    let status = refused.code.status();
    let mut response = if is_v1(path) || is_check(path) {
        refused.into_response()
    } else {
        let body = Reply::fail(&refused.detail).render(Spelling::Text);
        (status, [(CONTENT_TYPE, Spelling::Text.content_type())], body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"networkdb\""));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

/// Reads the body of a request, and returns it with the permit for its bytes.
async fn read_body(
    admission: &Admission,
    caller: Caller,
    body: &mut Body,
) -> Result<(Vec<u8>, Permit), Problem> {
    let limit = admission.limits.body_bytes;
    let too_large = || {
        admission.counters.refused_body_too_large.increment();
        let sentence = format_args!("the body has more than {limit} bytes, the limit");
        Problem::new(ProblemCode::BodyTooLarge, sentence).with_limit(limit)
    };
    // A body that is announced as too long is not read at all.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut permit =
        admission.bodies.take_of(caller, 0, 0).expect("a permit for no bytes is always available");
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let sentence = format_args!("the body did not arrive completely: {error}");
                Problem::new(ProblemCode::IncompleteBody, sentence)
            })?;
            let Ok(piece) = frame.into_data() else { continue };
            if bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            if !permit.grow(piece.len()) {
                admission.counters.refused_too_many_bodies.increment();
                let sentence = "the bodies of other requests use all the memory for bodies; try again later";
                return Err(Problem::new(ProblemCode::TooManyBodies, sentence));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    match tokio::time::timeout(admission.limits.body_time, reading).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            admission.counters.refused_body_too_slow.increment();
            let seconds = admission.limits.body_time.as_secs_f64();
            let sentence = format_args!("the body did not arrive within {seconds} seconds");
            return Err(Problem::new(ProblemCode::RequestTimeout, sentence));
        }
    }
    Ok((bytes, permit))
}

/// A response body that holds its permits until it is sent.
struct PermitBody {
    body: Body,
    _permits: RequestPermits,
}

impl HttpBody for PermitBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
