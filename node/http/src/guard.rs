//! The gate before every endpoint: who may pass, and how many at a time.
//!
//! It is one layer around all routes, so that a route that is added is behind it without anybody thinking of it. Below `/v1`
//! a GET only looks, and everything else takes the right to change; of the diagnostic calls those that only look are listed,
//! and everything else takes the right to change.

use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode, Version};

use super::access::{Access, Denied, Role, Who};
use super::audit::{Change, Place};
use super::diagnostic;
use super::limits::{HttpCounters, HttpLimits, count};
use super::origin::{Foreign, HostNames, check_host, check_page, is_of_a_browser};
use super::permits::{Caller, Permit, Permits};
use super::reply::{Reply, Spelling};
use super::v1::Refused;

/// How long the rest of a refused body is passed over, so that its sender gets to read why.
const UNREAD_WAIT: Duration = Duration::from_millis(500);

/// How long a large answer waits for one of those before it to be taken.
const LARGE_ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Who may ask, and how much at a time.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// Who may ask.
    pub access: Access,
    /// Names by which this node may be asked for besides `localhost` and any address. They matter while no token is asked
    /// for: a page that has one is no stranger.
    pub names: Vec<String>,
    /// Bounds.
    pub limits: HttpLimits,
}

/// What the gate works with.
#[derive(Debug)]
pub(super) struct Guard {
    access: Access,
    names: HostNames,
    pub(super) limits: HttpLimits,
    pub(super) counters: HttpCounters,
    requests: Arc<Permits>,
    /// Of those who ask how the node is, so that nobody else can keep that from being seen.
    health: Arc<Permits>,
    large_answers: Arc<Permits>,
    imports: Arc<Permits>,
    watches: Arc<Permits>,
    pub(super) bodies: Arc<Permits>,
}

/// From where a request came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Who sent it.
    pub(super) caller: Caller,
    /// Whether its connection is one of those beyond the limit, on which only health and metrics are answered.
    pub(super) reserved: bool,
}

/// What a request holds until its answer has been sent and the last work for it has ended, whichever comes later. Handlers that have
/// work done elsewhere move a clone of it there.
#[derive(Debug, Clone)]
pub(super) struct Held {
    caller: Caller,
    _permits: Arc<(Permit, Permit)>,
}

/// Tells work that nobody waits for it any more, when this is dropped.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether `path` shows how the node is.
pub(super) fn is_health(path: &str) -> bool {
    matches!(path, "/ready" | "/metrics")
}

/// What a call takes. Only what is known to have no effect may be had with a token for reading.
fn needed(method: &Method, path: &str) -> Role {
    let admin = path == "/join" || path == "/v1/join" || path == "/v1/keys" || path.starts_with("/v1/keys/");
    let looks = if path == "/v1" || path.starts_with("/v1/") || path == "/metrics" {
        matches!(*method, Method::GET | Method::HEAD)
    } else {
        // Any method is as good as GET there.
        diagnostic::only_looks(path)
    };
    match (looks, admin) {
        (true, _) => Role::Read,
        (false, true) => Role::Admin,
        (false, false) => Role::Change,
    }
}

/// Whether the body of a request is a secret.
fn carries_a_secret(method: &Method, path: &str) -> bool {
    path == "/v1/keys" && matches!(*method, Method::POST | Method::PUT)
}

impl Guard {
    pub(super) fn new(config: HttpConfig) -> Arc<Self> {
        let HttpConfig { access, names, limits } = config;
        Arc::new(Self {
            access,
            names: HostNames::new(&names),
            requests: Permits::shared(limits.requests),
            health: Permits::shared(limits.health_requests()),
            large_answers: Permits::shared(limits.large_answers()),
            imports: Permits::shared(limits.imports()),
            watches: Permits::shared(limits.watches),
            bodies: Permits::shared(limits.bodies_bytes()),
            limits,
            counters: HttpCounters::default(),
        })
    }

    /// A permit for a watch.
    pub(super) fn watch(&self, peer: Peer) -> Result<Permit, Refused> {
        let permit = self.watches.take(peer.caller);
        permit.ok_or_else(|| too_many(&self.counters.watches_refused, "watches", self.limits.watches))
    }

    /// A permit for an import.
    pub(super) fn import(&self, peer: Peer) -> Result<Permit, Refused> {
        let permit = self.imports.take(peer.caller);
        permit.ok_or_else(|| too_many(&self.counters.imports_refused, "imports", self.limits.imports()))
    }

    /// Has `work` done on a thread that may block, for an answer that grows with the data. The permit that comes back beside its
    /// outcome goes into the answer's body. `work` is told when its caller is gone, and the permits come back when it has ended.
    pub(super) async fn large_answer<T: Send + 'static>(
        &self,
        held: &Held,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<(T, Permit), Refused> {
        let permit = self.large_answers.wait(held.caller, LARGE_ANSWER_WAIT).await.ok_or_else(|| {
            too_many(&self.counters.large_answers_refused, "large answers", self.limits.large_answers())
        })?;
        let (held, gone) = (held.clone(), Arc::new(AtomicBool::new(false)));
        let _abandoned = Abandoned(gone.clone());
        let working = tokio::task::spawn_blocking(move || {
            let _held = held;
            (work(&gone), permit)
        });
        working.await.map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error))
    }

    /// Lets a request pass; gives what is to be logged of it if it changes something.
    fn admit(&self, request: &Request) -> Result<Option<Change>, Refused> {
        let (uri, headers) = (request.uri(), request.headers());
        well_formed(request)?;
        let needed = needed(request.method(), uri.path());
        let change = |who: &Who| (needed != Role::Read).then(|| Change::new(request, who));
        let peer = peer(request);
        if peer.caller == Caller::Owner {
            return Ok(change(&Who::owner()));
        }
        let names_matter = match self.access {
            Access::Loopback => true,
            // Whoever reaches the address may ask, by whatever name; a page that has one may not.
            Access::Open => is_of_a_browser(headers),
            Access::Tokens(_) => false,
        };
        if names_matter {
            check_host(uri, headers, &self.names).map_err(|foreign| self.foreign(&foreign))?;
        }
        check_page(request.method(), uri, headers, needed).map_err(|foreign| self.foreign(&foreign))?;
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        // Whoever reaches an open node may do what the original lets everybody do; that is not to change its secrets.
        let open_join = matches!(self.access, Access::Open) && matches!(uri.path(), "/join" | "/v1/join");
        let asked = if open_join { Role::Change } else { needed };
        let who = self.access.allow(authorization, asked).map_err(|denied| self.denied(denied))?;
        if carries_a_secret(request.method(), uri.path()) {
            count(&self.counters.forbidden);
            let sentence = "HTTP over TCP shows secrets to everybody on the way, so none is taken; send it over the node's Unix socket, \
                            on its own host and as its user, or change its secret file";
            return Err(Refused::new(StatusCode::FORBIDDEN, sentence));
        }
        if peer.reserved && !is_health(uri.path()) {
            let sentence = "as many connections as may are open already; this one is for /ready and /metrics; try again later";
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, sentence));
        }
        Ok(change(&who))
    }

    fn foreign(&self, foreign: &Foreign) -> Refused {
        match foreign {
            Foreign::Host(_) => count(&self.counters.foreign_host),
            Foreign::Page | Foreign::Quiet | Foreign::Link => count(&self.counters.foreign_page),
        }
        Refused::new(StatusCode::FORBIDDEN, foreign)
    }

    fn denied(&self, denied: Denied) -> Refused {
        let (status, counter, sentence) = match denied {
            Denied::NoToken => (
                StatusCode::UNAUTHORIZED,
                &self.counters.unauthorized,
                "this node asks for a token: send the header Authorization: Bearer TOKEN, or give the client commands one \
                 with --token-file FILE",
            ),
            Denied::UnknownToken => (
                StatusCode::UNAUTHORIZED,
                &self.counters.unauthorized,
                "this token is none of those that the node knows",
            ),
            Denied::Needs(Role::Admin) => (
                StatusCode::FORBIDDEN,
                &self.counters.forbidden,
                "this decides who is in the cluster; the call takes a token for admin",
            ),
            Denied::Needs(_) => (
                StatusCode::FORBIDDEN,
                &self.counters.forbidden,
                "this token is for reading; the call takes one for changing",
            ),
            Denied::NeedsSocket => (
                StatusCode::FORBIDDEN,
                &self.counters.forbidden,
                "this decides who is in the cluster, and without tokens only the node's own user may, over its Unix socket: use \
                 `networkdb` on the node's host and as its user (or as root with --api unix:PATH), or give the node tokens with \
                 --http-token-file FILE",
            ),
        };
        count(counter);
        Refused::new(status, sentence)
    }
}

fn too_many(refused: &AtomicU64, what: &str, limit: usize) -> Refused {
    count(refused);
    let sentence = format_args!(
        "{limit} {what} are under way already, as many as may, or three quarters of them for you; try again later"
    );
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
}

/// What no handler should have to think of.
fn well_formed(request: &Request) -> Result<(), Refused> {
    if request.method() == Method::CONNECT {
        return Err(Refused::new(StatusCode::NOT_IMPLEMENTED, "a node connects nobody: it is no proxy"));
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() >= Version::HTTP_11) {
        let sentence = format_args!("the request has {hosts} Host headers; wanted is one");
        return Err(Refused::new(StatusCode::BAD_REQUEST, sentence));
    }
    if request.uri().path() == "/v1/" {
        return Err(Refused::new(
            StatusCode::NOT_FOUND,
            "there is nothing at /v1/; GET /v1 lists what there is",
        ));
    }
    Ok(())
}

/// Where a request came from; the server says it of every request. One of which it did not has nobody's rights.
pub(super) fn peer(request: &Request) -> Peer {
    let nobody = Peer { caller: Caller::Host(Ipv4Addr::UNSPECIFIED.into()), reserved: false };
    request.extensions().get().copied().unwrap_or(nobody)
}

/// The layer around all routes.
pub(super) async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    count(&guard.counters.requests);
    let path = request.uri().path().to_owned();
    let reserved = peer(&request).reserved;
    let mut response = match guard.admit(&request) {
        Err(refused) => {
            tracing::debug!(path, status = refused.status.as_u16(), "a request was refused");
            turn_away(&path, refused)
        }
        Ok(change) => {
            let mut response = next.run(request).await;
            if let Some(change) = change {
                change.log(response.status(), response.extensions_mut().remove::<Place>());
            }
            response
        }
    };
    let headers = response.headers_mut();
    // Values are anybody's bytes: no browser is to take them for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if reserved {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The layer around routes whose requests are short: reads the body whole, in time and within bounds, and only then takes a
/// permit. Whoever drips a body holds a connection, and nothing else.
pub(super) async fn take_short(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let caller = peer(&request).caller;
    let (head, mut body) = request.into_parts();
    let (bytes, held_body) = match take_body(&guard, caller, &mut body).await {
        Ok(taken) => taken,
        Err(refused) => {
            // A system that closes while something arrived unread would take back what was sent.
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            let _ = tokio::time::timeout(UNREAD_WAIT, rest).await;
            // What is left of the body would be taken for the next request.
            return ([(CONNECTION, "close")], turn_away(&path, refused)).into_response();
        }
    };
    let permit = guard.requests.take(caller);
    let permit = permit.or_else(|| is_health(&path).then(|| guard.health.take(caller)).flatten());
    let Some(permit) = permit else {
        let refused = too_many(&guard.counters.requests_refused, "requests", guard.limits.requests);
        return turn_away(&path, refused);
    };
    let held = Held { caller, _permits: Arc::new((permit, held_body)) };
    let mut request = Request::from_parts(head, bytes.into());
    request.extensions_mut().insert(held.clone());
    next.run(request).await.map(|body| Body::new(HeldBody { body, _held: held }))
}

/// A refusal in the form that callers of `path` read.
fn turn_away(path: &str, refused: Refused) -> Response {
    let status = refused.status;
    let mut response = if path.starts_with("/v1") {
        refused.into_response()
    } else {
        let body = Reply::fail(&refused.sentence).render(Spelling::Text);
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

/// Reads the body of a request, and gives it back with the permit for its bytes.
async fn take_body(guard: &Guard, caller: Caller, body: &mut Body) -> Result<(Vec<u8>, Permit), Refused> {
    let limit = guard.limits.body_bytes;
    let too_large = || {
        count(&guard.counters.bodies_too_large);
        let sentence = format_args!("the body has more than {limit} bytes, the most that is read");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    };
    // What is announced as too long is not even begun.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut permit = guard.bodies.take_of(caller, 0, 0).expect("nothing is always there");
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let sentence = format_args!("the body did not arrive whole: {error}");
                Refused::new(StatusCode::BAD_REQUEST, sentence)
            })?;
            let Ok(piece) = frame.into_data() else { continue };
            if bytes.len() + piece.len() > limit {
                return Err(too_large());
            }
            if !permit.grow(piece.len()) {
                count(&guard.counters.bodies_refused);
                let sentence =
                    "the bodies of other requests take all the memory there is for them; try again later";
                return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, sentence));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    match tokio::time::timeout(guard.limits.body_time, reading).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            count(&guard.counters.bodies_too_slow);
            let seconds = guard.limits.body_time.as_secs_f64();
            let sentence = format_args!("the body did not arrive within {seconds} seconds");
            return Err(Refused::new(StatusCode::REQUEST_TIMEOUT, sentence));
        }
    }
    Ok((bytes, permit))
}

/// An answer that holds its permits until it is sent.
struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
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
