//! What a node answers over HTTP: the original's diagnostic calls as its tools know them, `/v1` beside them, and metrics.

pub mod diagnostic;
mod endpoints;
pub mod metrics;
pub mod mirror;
pub(crate) mod pieces;
pub mod query;
pub mod reply;
mod server;
pub mod v1;
pub mod value_text;

pub use server::{HttpListener, HttpServer, ListenError};
