//! Which requests come from a page of somebody else's: they get nothing done.
//!
//! The original's calls change things by GET, so an image's address in any page could do it. Browsers tell where a request
//! comes from: in `Origin`, and in `Sec-Fetch-Site` (W3C Fetch Metadata) to addresses they hold trustworthy, such as
//! loopback. A foreign name that its owner lets point to this host (DNS rebinding) shows in `Host`. Programs such as curl send
//! none of these and are let alone.

use hyper::header::{ACCEPT_LANGUAGE, HOST, HeaderMap, HeaderName, ORIGIN, REFERER, USER_AGENT};
use hyper::http::uri::Authority;
use hyper::{Method, Uri};

use super::access::Role;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Why a request is refused, whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// It asks for a host that is not this one.
    #[error(
        "this node does not answer as {0:?}; ask for it by its address or as localhost, or start it with --http-name and \
         this name"
    )]
    Host(String),
    /// A page from elsewhere sent it.
    #[error(
        "a browser sent this from a page of another origin; such pages may neither change nor load anything here"
    )]
    Page,
    /// A browser sent it and keeps quiet about the page.
    #[error(
        "this changes something, and the browser that sent it does not tell from which page; use curl or `networkdb` instead"
    )]
    Quiet,
    /// A browser was sent here from outside of any page, and by a GET, which is what a link does.
    #[error(
        "this changes something, and a browser asks for it by GET, as it does when somebody follows a link from a mail; use \
         curl or `networkdb` instead"
    )]
    Link,
}

/// The names by which this node may be asked for, besides `localhost` and any IP address.
///
/// An address is never somebody else's name: whoever wrote it into a page had to know where it leads.
#[derive(Debug, Clone, Default)]
pub(super) struct HostNames(Vec<String>);

impl HostNames {
    /// These, in whatever case.
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| plain(name)).collect())
    }

    fn contain(&self, host: &str) -> bool {
        let host = plain(host);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        bare.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || self.0.contains(&host)
    }
}

/// Case and the final dot make no difference to a host's name.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Lets a request pass that asks for this host; one without a host comes from no browser.
pub(super) fn check_host(uri: &Uri, headers: &HeaderMap, names: &HostNames) -> Result<(), Foreign> {
    for host in hosts(uri, headers) {
        match host.parse::<Authority>() {
            Ok(authority) if names.contain(authority.host()) => {}
            _ => return Err(Foreign::Host(host.chars().take(255).collect())),
        }
    }
    Ok(())
}

/// Whether a browser may have sent this; programs such as curl or the original's tools send none of it.
pub(super) fn is_of_a_browser(headers: &HeaderMap) -> bool {
    [&ORIGIN, &REFERER, &SEC_FETCH_SITE, &SEC_FETCH_MODE, &ACCEPT_LANGUAGE]
        .iter()
        .any(|name| headers.contains_key(*name))
        || texts(headers, &USER_AGENT).iter().any(|agent| agent.starts_with("Mozilla/"))
}

/// Lets a request pass that takes `needed`, unless a page of another origin sent it, or a link that is on none.
///
/// Of what only reads, a page elsewhere may hold a link that people follow.
pub(super) fn check_page(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    needed: Role,
) -> Result<(), Foreign> {
    let own = hosts(uri, headers);
    let is_own = |page: &str| {
        // Whoever ends TLS before this node makes of http what the page knows as https.
        let rest = page.strip_prefix("http://").or_else(|| page.strip_prefix("https://"));
        let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        authority.is_some_and(|found| own.iter().any(|own| own.eq_ignore_ascii_case(found)))
    };
    let origins = texts(headers, &ORIGIN);
    if !origins.iter().all(|origin| is_own(origin)) {
        return Err(Foreign::Page);
    }
    let sites = texts(headers, &SEC_FETCH_SITE);
    if !sites.iter().all(|site| matches!(*site, "same-origin" | "none")) {
        let link = texts(headers, &SEC_FETCH_MODE) == ["navigate"];
        return if link && needed == Role::Read { Ok(()) } else { Err(Foreign::Page) };
    }
    if needed != Role::Read && matches!(*method, Method::GET | Method::HEAD) && sites.contains(&"none") {
        return Err(Foreign::Link);
    }
    if needed == Role::Read || !origins.is_empty() || !sites.is_empty() {
        return Ok(());
    }
    // Nothing was told: browsers keep quiet about images when the address is plain HTTP and not loopback.
    let referrers = texts(headers, &REFERER);
    if !referrers.is_empty() {
        return if referrers.iter().all(|page| is_own(page)) { Ok(()) } else { Err(Foreign::Page) };
    }
    let browser = texts(headers, &USER_AGENT).iter().any(|agent| agent.starts_with("Mozilla/"));
    if browser { Err(Foreign::Quiet) } else { Ok(()) }
}

/// Every host that the request says it is for.
fn hosts<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Vec<&'a str> {
    let asked = uri.authority().map(Authority::as_str);
    texts(headers, &HOST).into_iter().chain(asked).filter(|host| !host.is_empty()).collect()
}

/// The values of a header; what is no text stands for itself as something that nothing equals.
fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("\u{fffd}").trim()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: (&str, &str) = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101");
    const HERE: (&str, &str) = ("host", "127.0.0.1:2000");

    fn headers(said: &[(&'static str, &str)]) -> HeaderMap {
        said.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn host(said: &[(&'static str, &str)], uri: &str) -> Result<(), Foreign> {
        check_host(&uri.parse().unwrap(), &headers(said), &HostNames::new(&["Node-1.example".to_owned()]))
    }

    fn page(said: &[(&'static str, &str)], needed: Role) -> Result<(), Foreign> {
        by(Method::GET, said, needed)
    }

    fn by(method: Method, said: &[(&'static str, &str)], needed: Role) -> Result<(), Foreign> {
        check_page(&method, &"/createentry".parse().unwrap(), &headers(said), needed)
    }

    #[test]
    fn a_foreign_host_is_refused_wherever_it_is_said() {
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
            let refused = Err(Foreign::Host(foreign.to_owned()));
            assert_eq!(host(&[("host", foreign)], "/ready"), refused, "{foreign}");
            assert_eq!(host(&[HERE, ("host", foreign)], "/ready"), refused, "{foreign}");
        }
        assert_eq!(
            host(&[HERE], "http://evil.example/ready"),
            Err(Foreign::Host("evil.example".to_owned())),
            "in the address itself"
        );
        assert_eq!(host(&[], "/ready"), Ok(()), "no browser leaves it out");
        assert_eq!(host(&[("host", "")], "/ready"), Ok(()));
    }

    #[test]
    fn programs_are_let_alone() {
        for agent in ["curl/8.5.0", "Go-http-client/1.1", "Wget/1.21", "Prometheus/3.0"] {
            assert_eq!(page(&[HERE, ("user-agent", agent)], Role::Change), Ok(()), "{agent}");
        }
        assert_eq!(page(&[HERE], Role::Change), Ok(()));
        assert_eq!(page(&[], Role::Change), Ok(()));
    }

    #[test]
    fn pages_of_another_origin_change_nothing_and_load_nothing() {
        for tells in [
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
            let said = [&[HERE, BROWSER], tells].concat();
            for needed in [Role::Read, Role::Change] {
                assert_eq!(page(&said, needed), Err(Foreign::Page), "{tells:?}");
            }
        }
    }

    #[test]
    fn a_page_elsewhere_may_link_to_what_only_reads() {
        let said = [HERE, BROWSER, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(page(&said, Role::Read), Ok(()));
        assert_eq!(page(&said, Role::Change), Err(Foreign::Page));
    }

    #[test]
    fn this_nodes_own_pages_and_what_people_type_are_let_through() {
        for tells in [
            &[("origin", "http://127.0.0.1:2000")][..],
            &[("origin", "https://127.0.0.1:2000")],
            &[("sec-fetch-site", "same-origin")],
            &[("referer", "http://127.0.0.1:2000/help?x")],
        ] {
            assert_eq!(page(&[&[HERE, BROWSER], tells].concat(), Role::Change), Ok(()), "{tells:?}");
        }
    }

    #[test]
    fn a_link_from_outside_of_any_page_may_only_read() {
        let said = [HERE, BROWSER, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")];
        assert_eq!(page(&said, Role::Read), Ok(()));
        assert_eq!(page(&said, Role::Change), Err(Foreign::Link));
        assert_eq!(by(Method::HEAD, &said, Role::Change), Err(Foreign::Link));
        assert_eq!(by(Method::POST, &said, Role::Change), Ok(()));
    }

    #[test]
    fn a_browser_is_told_by_any_of_its_headers() {
        for said in [BROWSER, ("origin", "null"), ("accept-language", "pl"), ("sec-fetch-site", "none")] {
            assert!(is_of_a_browser(&headers(&[HERE, said])), "{said:?}");
        }
        assert!(!is_of_a_browser(&headers(&[
            HERE,
            ("user-agent", "Go-http-client/1.1"),
            ("accept-encoding", "gzip")
        ])));
    }

    #[test]
    fn a_browser_that_keeps_quiet_may_only_read() {
        assert_eq!(page(&[HERE, BROWSER], Role::Change), Err(Foreign::Quiet));
        assert_eq!(page(&[HERE, BROWSER], Role::Read), Ok(()));
        let said = [HERE, BROWSER, ("referer", "http://evil.example/127.0.0.1:2000")];
        assert_eq!(page(&said, Role::Change), Err(Foreign::Page));
        assert_eq!(page(&said[..], Role::Read), Ok(()));
    }
}
