//! The HTTP endpoints of a node: the diagnostic endpoints of Docker's NetworkDB ("the original" in this
//! crate), `/v1`, health, metrics, and a page for people.

pub mod access;
pub mod admin_socket;
mod admission;
mod audit;
pub mod channel_body;
mod client_origin;
mod client_stream;
pub mod diagnostic;
mod diagnostic_errors;
mod endpoints;
mod exposition;
mod health;
mod limits;
mod log_tail;
mod metrics;
mod origin;
mod permits;
mod problem;
mod problem_code;
mod program;
pub mod query;
pub mod reply;
mod request_durations;
mod scope;
mod server;
mod streamed;
pub mod tls;
mod ui;
pub mod v1;
pub mod value_text;
pub mod watched_tables;

pub use admission::{HttpAdvice, HttpConfig};
pub use limits::HttpLimits;
pub use log_tail::LogTail;
pub use program::Program;
pub use server::{HttpListener, HttpServer, ListenError};
