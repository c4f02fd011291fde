//! Protection against requests that a page of another site makes a browser send.
//!
//! The original's calls change state by GET, so the address of an image in any page could trigger them.
//! Browsers send the origin of a request in `Origin`, and in `Sec-Fetch-Site` (W3C Fetch Metadata) to
//! trustworthy addresses such as loopback. A foreign name that resolves to this host (DNS rebinding) shows in
//! `Host`. Programs such as curl send none of these headers and are not restricted.

use hyper::header::{ACCEPT_LANGUAGE, HOST, HeaderMap, HeaderName, ORIGIN, REFERER, USER_AGENT};
use hyper::http::uri::Authority;
use hyper::{Method, Uri};

use super::access::Role;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Why a request is refused because of its origin or host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OriginError {
    /// It is for a host that is not this one.
    #[error("this node does not serve the host name {0:?}; use its address or localhost")]
    UnknownHost(String),
    /// A page of another origin sent it.
    #[error(
        "a browser sent this from a page of another origin; such pages may neither change nor load anything \
         here"
    )]
    CrossOrigin,
    /// A browser sent it without the page's origin.
    #[error(
        "this call changes something, and the browser did not send the page's origin; use curl or \
         another program instead"
    )]
    UndeclaredPage,
    /// A browser sent it by GET from outside of any page, as it does for a link.
    #[error(
        "this call changes something, and a browser sent it by GET, as it does when a user follows a link \
         from a mail; use curl or another program instead"
    )]
    ExternalLink,
}

/// The host names of this node, besides `localhost` and IP addresses.
///
/// An IP address needs no check: DNS rebinding cannot redirect it.
#[derive(Debug, Clone, Default)]
pub(super) struct HostNames(Vec<String>);

impl HostNames {
    /// These names, in any case.
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| plain(name)).collect())
    }

    fn contain(&self, host: &str) -> bool {
        let host = plain(host);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        bare.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || self.0.contains(&host)
    }
}

/// Normalises a host name: case and the final dot are not significant.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Accepts a request for this host. A request without a host cannot come from a browser.
pub(super) fn check_host(uri: &Uri, headers: &HeaderMap, names: &HostNames) -> Result<(), OriginError> {
    for host in hosts(uri, headers) {
        match host.parse::<Authority>() {
            Ok(authority) if names.contain(authority.host()) => {}
            _ => return Err(OriginError::UnknownHost(host.chars().take(255).collect())),
        }
    }
    Ok(())
}

/// Whether a browser may have sent the request. Programs such as curl or the original's tools send none of
/// these headers.
pub(super) fn is_from_browser(headers: &HeaderMap) -> bool {
    [&ORIGIN, &REFERER, &SEC_FETCH_SITE, &SEC_FETCH_MODE, &ACCEPT_LANGUAGE]
        .iter()
        .any(|name| headers.contains_key(*name))
        || texts(headers, &USER_AGENT).iter().any(|agent| agent.starts_with("Mozilla/"))
}

/// Accepts a request that needs the role `needed`, unless a page of another origin or an external link caused
/// it.
///
/// A page of another origin may link to calls that only read.
pub(super) fn check_page(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    needed: Role,
) -> Result<(), OriginError> {
    let own = hosts(uri, headers);
    let is_own = |page: &str| {
        // The page may use https although the connection is plain: a proxy in front of this node may terminate TLS.
        let rest = page.strip_prefix("http://").or_else(|| page.strip_prefix("https://"));
        let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        authority.is_some_and(|found| own.iter().any(|own| own.eq_ignore_ascii_case(found)))
    };
    let origins = texts(headers, &ORIGIN);
    if !origins.iter().all(|origin| is_own(origin)) {
        return Err(OriginError::CrossOrigin);
    }
    let sites = texts(headers, &SEC_FETCH_SITE);
    if !sites.iter().all(|site| matches!(*site, "same-origin" | "none")) {
        let link = texts(headers, &SEC_FETCH_MODE) == ["navigate"];
        return if link && needed == Role::Read { Ok(()) } else { Err(OriginError::CrossOrigin) };
    }
    if needed != Role::Read && matches!(*method, Method::GET | Method::HEAD) && sites.contains(&"none") {
        return Err(OriginError::ExternalLink);
    }
    if needed == Role::Read || !origins.is_empty() || !sites.is_empty() {
        return Ok(());
    }
    // Browsers send neither header with requests for images if the address is plain HTTP and not loopback.
    let referrers = texts(headers, &REFERER);
    if !referrers.is_empty() {
        return if referrers.iter().all(|page| is_own(page)) {
            Ok(())
        } else {
            Err(OriginError::CrossOrigin)
        };
    }
    let browser = texts(headers, &USER_AGENT).iter().any(|agent| agent.starts_with("Mozilla/"));
    if browser { Err(OriginError::UndeclaredPage) } else { Ok(()) }
}

/// All hosts that the request names.
fn hosts<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Vec<&'a str> {
    let authority = uri.authority().map(Authority::as_str);
    texts(headers, &HOST).into_iter().chain(authority).filter(|host| !host.is_empty()).collect()
}

/// The values of a header. A value that is not text becomes U+FFFD, which equals no valid value.
fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\u{fffd}").trim()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101");
    const HERE: (&str, &str) = ("host", "127.0.0.1:2000");

    fn headers(sent: &[(&'static str, &str)]) -> HeaderMap {
        sent.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn host(sent: &[(&'static str, &str)], uri: &str) -> Result<(), OriginError> {
        check_host(&uri.parse().unwrap(), &headers(sent), &HostNames::new(&["Node-1.example".to_owned()]))
    }

    fn page(sent: &[(&'static str, &str)], needed: Role) -> Result<(), OriginError> {
        by(Method::GET, sent, needed)
    }

    fn by(method: Method, sent: &[(&'static str, &str)], needed: Role) -> Result<(), OriginError> {
        check_page(&method, &"/createentry".parse().unwrap(), &headers(sent), needed)
    }

    #[test]
    fn an_unknown_host_is_refused_in_any_header() {
        for known in [
            "127.0.0.1:2000",
            "127.0.0.1",
            "[::1]:2000",
            "10.1.2.3:80",
            "localhost:2000",
            "LOCALHOST.",
            "node-1.EXAMPLE:1",
        ] {
            assert_eq!(host(&[("host", known)], "/ready"), Ok(()), "{known}");
        }
        for foreign in [
            "evil.example:2000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "node-1.example.org",
            "a b",
        ] {
            let refused = Err(OriginError::UnknownHost(foreign.to_owned()));
            assert_eq!(host(&[("host", foreign)], "/ready"), refused, "{foreign}");
            assert_eq!(host(&[HERE, ("host", foreign)], "/ready"), refused, "{foreign}");
        }
        assert_eq!(
            host(&[HERE], "http://evil.example/ready"),
            Err(OriginError::UnknownHost("evil.example".to_owned())),
            "in the address itself"
        );
        assert_eq!(host(&[], "/ready"), Ok(()), "no browser leaves it out");
        assert_eq!(host(&[("host", "")], "/ready"), Ok(()));
    }

    #[test]
    fn programs_are_not_restricted() {
        for agent in ["curl/8.5.0", "Go-http-client/1.1", "Wget/1.21", "Prometheus/3.0"] {
            assert_eq!(page(&[HERE, ("user-agent", agent)], Role::Change), Ok(()), "{agent}");
        }
        assert_eq!(page(&[HERE], Role::Change), Ok(()));
        assert_eq!(page(&[], Role::Change), Ok(()));
    }

    #[test]
    fn pages_of_another_origin_change_nothing_and_load_nothing() {
        for origin in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:2001")],
            &[("origin", "http://127.0.0.1:2000"), ("origin", "http://evil.example")],
            &[("origin", "http://127.0.0.1:2000.evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            &[("sec-fetch-site", "whatever")],
        ] {
            let sent = [&[HERE, BROWSER], origin].concat();
            for needed in [Role::Read, Role::Change] {
                assert_eq!(page(&sent, needed), Err(OriginError::CrossOrigin), "{origin:?}");
            }
        }
    }

    #[test]
    fn a_page_of_another_origin_may_link_to_calls_that_only_read() {
        let sent = [HERE, BROWSER, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(page(&sent, Role::Read), Ok(()));
        assert_eq!(page(&sent, Role::Change), Err(OriginError::CrossOrigin));
    }

    #[test]
    fn this_nodes_own_pages_are_accepted() {
        for origin in [
            &[("origin", "http://127.0.0.1:2000")][..],
            &[("origin", "https://127.0.0.1:2000")],
            &[("sec-fetch-site", "same-origin")],
            &[("referer", "http://127.0.0.1:2000/help?x")],
        ] {
            assert_eq!(page(&[&[HERE, BROWSER], origin].concat(), Role::Change), Ok(()), "{origin:?}");
        }
    }

    #[test]
    fn an_external_link_may_only_read() {
        let sent = [HERE, BROWSER, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")];
        assert_eq!(page(&sent, Role::Read), Ok(()));
        assert_eq!(page(&sent, Role::Change), Err(OriginError::ExternalLink));
        assert_eq!(by(Method::HEAD, &sent, Role::Change), Err(OriginError::ExternalLink));
        assert_eq!(by(Method::POST, &sent, Role::Change), Ok(()));
    }

    #[test]
    fn a_browser_is_recognised_by_any_of_its_headers() {
        for sent in [BROWSER, ("origin", "null"), ("accept-language", "pl"), ("sec-fetch-site", "none")] {
            assert!(is_from_browser(&headers(&[HERE, sent])), "{sent:?}");
        }
        assert!(!is_from_browser(&headers(&[
            HERE,
            ("user-agent", "Go-http-client/1.1"),
            ("accept-encoding", "gzip")
        ])));
    }

    #[test]
    fn a_browser_that_does_not_send_the_origin_may_only_read() {
        assert_eq!(page(&[HERE, BROWSER], Role::Change), Err(OriginError::UndeclaredPage));
        assert_eq!(page(&[HERE, BROWSER], Role::Read), Ok(()));
        let sent = [HERE, BROWSER, ("referer", "http://evil.example/127.0.0.1:2000")];
        assert_eq!(page(&sent, Role::Change), Err(OriginError::CrossOrigin));
        assert_eq!(page(&sent[..], Role::Read), Ok(()));
    }
}
