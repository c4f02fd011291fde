//! What a node answers over HTTP: the original's diagnostic calls as its tools know them, `/v1` beside them, and metrics.

pub mod access;
pub mod admin_socket;
mod audit;
mod client_stream;
pub mod diagnostic;
mod endpoints;
mod guard;
mod limits;
pub mod metrics;
pub mod mirror;
mod origin;
mod permits;
pub mod pieces;
pub mod query;
pub mod reply;
mod server;
mod streamed;
pub mod v1;
pub mod value_text;

pub use guard::HttpConfig;
pub use limits::HttpLimits;
pub use server::{HttpListener, HttpServer, ListenError};
