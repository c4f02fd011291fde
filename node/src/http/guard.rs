//! The gate before every endpoint: who may pass, and how many at a time.
//!
//! It is one layer around all routes, so that a route that is added is behind it without anybody thinking of it. Below `/v1`
//! a GET only looks, and everything else takes the right to change; of the diagnostic calls those that only look are listed,
//! and everything else takes the right to change.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::{Access, Denied, Role};
use super::diagnostic;
use super::limits::{HttpCounters, HttpLimits, count};
use super::origin::{Foreign, HostNames, check_host, check_page};
use super::reply::{Reply, Spelling};
use super::v1::Refused;

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
    requests: Arc<Semaphore>,
    imports: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

/// Marks an answer that has a place of its own for as long as it lasts, and needs none among the requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct HasOwnPlace;

/// What a call takes. Only what is known to have no effect may be had with a token for reading.
fn needed(method: &Method, path: &str) -> Role {
    let looks = if path == "/v1" || path.starts_with("/v1/") || path == "/metrics" {
        matches!(*method, Method::GET | Method::HEAD)
    } else {
        // Any method is as good as GET there.
        diagnostic::only_looks(path)
    };
    if looks { Role::Read } else { Role::Change }
}

impl Guard {
    pub(super) fn new(config: HttpConfig) -> Arc<Self> {
        let HttpConfig { access, names, limits } = config;
        Arc::new(Self {
            access,
            names: HostNames::new(&names),
            requests: Arc::new(Semaphore::new(limits.requests)),
            imports: Arc::new(Semaphore::new(limits.imports())),
            watches: Arc::new(Semaphore::new(limits.watches)),
            limits,
            counters: HttpCounters::default(),
        })
    }

    /// A place for a watch.
    pub(super) fn watch(&self) -> Result<OwnedSemaphorePermit, Refused> {
        place(&self.watches, &self.counters.watches_refused, "watches", self.limits.watches)
    }

    /// A place for an import.
    pub(super) fn import(&self) -> Result<OwnedSemaphorePermit, Refused> {
        place(&self.imports, &self.counters.imports_refused, "imports", self.limits.imports())
    }

    fn admit(&self, request: &Request) -> Result<OwnedSemaphorePermit, Refused> {
        let (uri, headers) = (request.uri(), request.headers());
        let needed = needed(request.method(), uri.path());
        if !matches!(self.access, Access::Tokens(_)) {
            check_host(uri, headers, &self.names).map_err(|foreign| self.foreign(&foreign))?;
        }
        check_page(uri, headers, needed).map_err(|foreign| self.foreign(&foreign))?;
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        self.access.allow(authorization, needed).map_err(|denied| self.denied(denied))?;
        place(&self.requests, &self.counters.requests_refused, "requests", self.limits.requests)
    }

    fn foreign(&self, foreign: &Foreign) -> Refused {
        match foreign {
            Foreign::Host(_) => count(&self.counters.foreign_host),
            Foreign::Page | Foreign::Quiet => count(&self.counters.foreign_page),
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
            Denied::ReadOnly => (
                StatusCode::FORBIDDEN,
                &self.counters.forbidden,
                "this token is for reading; the call takes one for changing",
            ),
        };
        count(counter);
        Refused::new(status, sentence)
    }
}

fn place(
    places: &Arc<Semaphore>,
    refused: &AtomicU64,
    what: &str,
    limit: usize,
) -> Result<OwnedSemaphorePermit, Refused> {
    places.clone().try_acquire_owned().map_err(|_| {
        count(refused);
        let sentence = format_args!("{limit} {what} are under way already, as many as may; try again later");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
    })
}

/// The layer around all routes.
pub(super) async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    count(&guard.counters.requests);
    let path = request.uri().path().to_owned();
    let mut response = match guard.admit(&request) {
        Err(refused) => {
            tracing::debug!(path, status = refused.status.as_u16(), "a request was refused");
            turn_away(&path, refused)
        }
        Ok(place) => match next.run(request).await {
            response if response.extensions().get::<HasOwnPlace>().is_some() => response,
            response => response.map(|body| Body::new(Placed { body, _place: place })),
        },
    };
    // Values are anybody's bytes: no browser is to take them for a page.
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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

/// Reads the body of a request before its handler sees it, so that every handler has it whole, in time and within bounds.
pub(super) async fn take_body(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let limit = guard.limits.body_bytes;
    // What is announced as too long is not even begun.
    let announced = body.size_hint().lower();
    let reading = async {
        if announced > limit as u64 {
            return Err(None);
        }
        axum::body::to_bytes(body, limit)
            .await
            .map_err(|error| Some(error).filter(|error| !is_too_long(error)))
    };
    let refused = match tokio::time::timeout(guard.limits.body_time, reading).await {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(head, bytes.into())).await,
        Ok(Err(None)) => {
            count(&guard.counters.bodies_too_large);
            let sentence = format_args!("the body has more than {limit} bytes, the most that is read");
            Refused::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
        }
        Ok(Err(Some(error))) => {
            Refused::new(StatusCode::BAD_REQUEST, format_args!("the body did not arrive whole: {error}"))
        }
        Err(_) => {
            count(&guard.counters.bodies_too_slow);
            let seconds = guard.limits.body_time.as_secs_f64();
            let sentence = format_args!("the body did not arrive within {seconds} seconds");
            Refused::new(StatusCode::REQUEST_TIMEOUT, sentence)
        }
    };
    // What is left of it would be taken for the next request.
    ([(CONNECTION, "close")], refused).into_response()
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// An answer that keeps its place until it is sent.
struct Placed {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Placed {
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
