//! Where a request comes from.

use std::net::Ipv4Addr;

use axum::extract::Request;

use super::permits::Caller;

/// The origin of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientOrigin {
    /// The client that sent it.
    pub(super) caller: Caller,
    /// Whether its connection is beyond the limit. Such a connection serves only health and metrics.
    pub(super) reserved: bool,
}

/// The origin of a request, which the server attaches to it. A request without it gets no rights of the
/// owner.
pub(super) fn client_origin(request: &Request) -> ClientOrigin {
    let unknown = ClientOrigin { caller: Caller::Host(Ipv4Addr::UNSPECIFIED.into()), reserved: false };
    request.extensions().get().copied().unwrap_or(unknown)
}
