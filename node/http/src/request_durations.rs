//! How long requests took, by route, method and status: a number of series that no client can make grow.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use hyper::{Method, StatusCode};
use parking_lot::Mutex;
use wire::Histogram;

use super::diagnostic;

/// From calls that read memory to joins, which wait for half a minute.
const BOUNDS: [Duration; 10] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// What a request is counted under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// The path as it is in the documentation, with placeholders, or `other`: never a client's own text.
    pub(crate) path: String,
    pub(crate) method: &'static str,
}

impl Route {
    /// The route that was found for a request.
    pub(super) fn of(request: &Request) -> Self {
        let known = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        // A path that ends in `{*rest}` is that of unknown paths below another one.
        let known = known.filter(|path| !path.contains("{*"));
        let path = request.uri().path();
        let path = known.or_else(|| diagnostic::PATHS.into_iter().find(|known| *known == path));
        let method = match *request.method() {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        Self { path: path.unwrap_or("other").to_owned(), method }
    }
}

/// The durations of requests since the server started.
#[derive(Debug, Default)]
pub(super) struct RequestDurations(Mutex<BTreeMap<(Route, u16), Histogram>>);

impl RequestDurations {
    /// Adds the duration of a request that was answered.
    pub(super) fn add(&self, route: Route, status: StatusCode, duration: Duration) {
        let mut all = self.0.lock();
        all.entry((route, status.as_u16())).or_insert_with(|| Histogram::new(&BOUNDS)).add(duration);
    }

    /// The durations by route and status.
    pub(super) fn snapshot(&self) -> Vec<((Route, u16), Histogram)> {
        self.0.lock().iter().map(|(key, durations)| (key.clone(), durations.clone())).collect()
    }
}
