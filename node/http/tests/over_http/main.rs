//! A real node over HTTP.

mod admission;
mod entries;
mod host;
mod limits;
mod page;
mod protocol;
