//! A real node over HTTP.

mod admission;
mod entries;
mod health;
mod host;
mod limits;
mod metrics;
mod page;
mod protocol;
mod tls;
