//! The codes of problems: the one table of all errors below `/v1`, from which the documentation is made.

use hyper::StatusCode;

macro_rules! problem_codes {
    ($($variant:ident, $status:ident, $code:literal, $title:literal;)*) => {
        /// The kind of a problem. Programs tell problems apart by its text, which does not change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $(#[doc = $title] $variant,)*
        }

        impl ProblemCode {
            /// All codes, by status.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The HTTP status of every response with this code.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The code as a text for programs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The kind of problem as a sentence, the same for every response with this code.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
        }
    };
}

problem_codes! {
    MalformedRequest, BAD_REQUEST, "malformed_request", "The bytes are not an HTTP/1.1 request.";
    InvalidHost, BAD_REQUEST, "invalid_host", "The request does not have exactly one Host header.";
    InvalidPath, BAD_REQUEST, "invalid_path", "A part of the path is not what the call takes there.";
    UnknownParameter, BAD_REQUEST, "unknown_parameter", "The call has no query parameter of this name.";
    DuplicateParameter, BAD_REQUEST, "duplicate_parameter", "A query parameter is there more than once.";
    InvalidParameter, BAD_REQUEST, "invalid_parameter", "The value of a query parameter is not valid.";
    BadCursor, BAD_REQUEST, "bad_cursor", "The cursor is not one that a node issued.";
    ForeignCursor, BAD_REQUEST, "foreign_cursor", "The cursor was issued in another cluster.";
    InvalidPrecondition, BAD_REQUEST, "invalid_precondition", "If-Match or If-None-Match cannot be checked by this call.";
    InvalidBody, BAD_REQUEST, "invalid_body", "The body is not what the call takes.";
    IncompleteBody, BAD_REQUEST, "incomplete_body", "The connection broke before the body was complete.";
    InvalidLength, BAD_REQUEST, "invalid_length", "A name or a key is empty where it must not be, or too long.";
    TokenRequired, UNAUTHORIZED, "token_required", "The node requires a token, and the request has none.";
    UnknownToken, UNAUTHORIZED, "unknown_token", "The node does not know the token.";
    RoleRequired, FORBIDDEN, "role_required", "The token does not have the role that the call needs.";
    OutsideLimits, FORBIDDEN, "outside_limits", "The token is limited to networks or keys, and the call may show or change others.";
    AdminSocketRequired, FORBIDDEN, "admin_socket_required", "The node takes this call only over its Unix socket.";
    ForeignHost, FORBIDDEN, "foreign_host", "The request is for a host name that is not this node's.";
    ForeignPage, FORBIDDEN, "foreign_page", "A browser sent the request from a page of another origin.";
    PathNotFound, NOT_FOUND, "path_not_found", "There is no call at this path.";
    NetworkNotJoined, NOT_FOUND, "network_not_joined", "This node has not joined the network.";
    EntryNotFound, NOT_FOUND, "entry_not_found", "There is no such entry.";
    MemberNotFound, NOT_FOUND, "member_not_found", "This node knows no member of this name.";
    KeyNotFound, NOT_FOUND, "key_not_found", "The node has no secret of this fingerprint.";
    MethodNotAllowed, METHOD_NOT_ALLOWED, "method_not_allowed", "The call does not support this method; Allow lists those that it supports.";
    NotAcceptable, NOT_ACCEPTABLE, "not_acceptable", "The call has no answer of a kind that Accept names.";
    RequestTimeout, REQUEST_TIMEOUT, "request_timeout", "The request did not arrive in time.";
    EntryExists, CONFLICT, "entry_exists", "The entry exists already.";
    NetworkLeaving, CONFLICT, "network_leaving", "The node is still leaving the network.";
    KeysUnchanged, CONFLICT, "keys_unchanged", "The node's identity does not allow this change of its secrets.";
    PreconditionFailed, PRECONDITION_FAILED, "precondition_failed", "If-Match or If-None-Match does not hold; version is the present one, if there is one.";
    BodyTooLarge, PAYLOAD_TOO_LARGE, "body_too_large", "The body is longer than the limit.";
    ValueTooLarge, PAYLOAD_TOO_LARGE, "value_too_large", "The value is longer than the limit.";
    UriTooLong, URI_TOO_LONG, "uri_too_long", "The address of the request is longer than the limit.";
    UnsupportedMediaType, UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body's Content-Type is not one that the call takes.";
    HeadTooLarge, REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", "The head of the request is longer than the limit.";
    InternalError, INTERNAL_SERVER_ERROR, "internal_error", "The node could not do what it should have done.";
    NotOffered, NOT_IMPLEMENTED, "not_offered", "The program that runs the node does not offer this over HTTP.";
    NotAProxy, NOT_IMPLEMENTED, "not_a_proxy", "A node does not connect its clients to other hosts.";
    SeedsUnreachable, BAD_GATEWAY, "seeds_unreachable", "None of the seeds answered.";
    DriverStalled, SERVICE_UNAVAILABLE, "driver_stalled", "The node's driver did not make a turn in time: the node neither sends nor receives.";
    NodeStopped, SERVICE_UNAVAILABLE, "node_stopped", "The node has stopped.";
    NodeLeaving, SERVICE_UNAVAILABLE, "node_leaving", "The node leaves its cluster.";
    ClusterNotJoined, SERVICE_UNAVAILABLE, "cluster_not_joined", "The node has seeds, and none of them has answered.";
    NetworksNotSynchronised, SERVICE_UNAVAILABLE, "networks_not_synchronised", "Entries of other members may be missing on this node.";
    TooManyConnections, SERVICE_UNAVAILABLE, "too_many_connections", "The limit of connections is reached.";
    TooManyRequests, SERVICE_UNAVAILABLE, "too_many_requests", "The limit of concurrent requests is reached.";
    TooManyLargeResponses, SERVICE_UNAVAILABLE, "too_many_large_responses", "The limit of concurrent responses that grow with the data is reached.";
    TooManyImports, SERVICE_UNAVAILABLE, "too_many_imports", "The limit of concurrent imports is reached.";
    TooManyWatches, SERVICE_UNAVAILABLE, "too_many_watches", "The limit of concurrent watches is reached.";
    TooManyInquiries, SERVICE_UNAVAILABLE, "too_many_inquiries", "The limit of concurrent questions to other members is reached.";
    TooManyBodies, SERVICE_UNAVAILABLE, "too_many_bodies", "The bodies of concurrent requests use all the memory for bodies.";
    NetworkFull, INSUFFICIENT_STORAGE, "network_full", "The network holds as much as its limits allow.";
    TooManyNetworks, INSUFFICIENT_STORAGE, "too_many_networks", "The node is on as many networks as its limit allows.";
    TooManyKeys, INSUFFICIENT_STORAGE, "too_many_keys", "The node accepts as many secrets as its limit allows.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_differ_and_are_ordered_by_status() {
        let mut codes = ProblemCode::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ProblemCode::ALL.len());
        assert!(ProblemCode::ALL.is_sorted_by_key(|code| code.status()));
    }
}
