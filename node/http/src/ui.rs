//! The page at `/ui`: files that are part of the program, served as they are.
//!
//! They hold nothing of this node, so no token is needed to read them. What the page shows it asks `/v1` for, as
//! any other client does.

use std::sync::OnceLock;

use axum::Router;
use axum::extract::OriginalUri;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, LOCATION, REFERRER_POLICY,
};
use hyper::{Method, StatusCode};
use ring::digest::{SHA256, digest};

use crate::problem::{Problem, ProblemCode};

/// What a browser may do for the page: load these files and call this node, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// A file of the page.
struct File {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

macro_rules! files {
    ($($name:literal as $media_type:literal,)*) => {
        &[$(File { name: $name, media_type: $media_type, content: include_bytes!(concat!("../ui/", $name)) },)*]
    };
}

/// All files, by name. The first is the page itself.
const FILES: &[File] = files! {
    "index.html" as "text/html; charset=utf-8",
    "agreement_section.js" as "text/javascript; charset=utf-8",
    "announcer.js" as "text/javascript; charset=utf-8",
    "api.js" as "text/javascript; charset=utf-8",
    "elements.js" as "text/javascript; charset=utf-8",
    "entry_explanation.js" as "text/javascript; charset=utf-8",
    "entry_panel.js" as "text/javascript; charset=utf-8",
    "formats.js" as "text/javascript; charset=utf-8",
    "help_dialog.js" as "text/javascript; charset=utf-8",
    "icon.svg" as "image/svg+xml",
    "inquiry.js" as "text/javascript; charset=utf-8",
    "json_lines.js" as "text/javascript; charset=utf-8",
    "key_order.js" as "text/javascript; charset=utf-8",
    "listing_view.js" as "text/javascript; charset=utf-8",
    "main.js" as "text/javascript; charset=utf-8",
    "member_explanation.js" as "text/javascript; charset=utf-8",
    "members_view.js" as "text/javascript; charset=utf-8",
    "network_view.js" as "text/javascript; charset=utf-8",
    "networks_view.js" as "text/javascript; charset=utf-8",
    "panel.js" as "text/javascript; charset=utf-8",
    "plain_table.js" as "text/javascript; charset=utf-8",
    "recent_changes.js" as "text/javascript; charset=utf-8",
    "router.js" as "text/javascript; charset=utf-8",
    "row_filter.js" as "text/javascript; charset=utf-8",
    "scheduling.js" as "text/javascript; charset=utf-8",
    "status.js" as "text/javascript; charset=utf-8",
    "style.css" as "text/css; charset=utf-8",
    "table_entries.js" as "text/javascript; charset=utf-8",
    "table_source.js" as "text/javascript; charset=utf-8",
    "table_view.js" as "text/javascript; charset=utf-8",
    "theme.js" as "text/javascript; charset=utf-8",
    "token.js" as "text/javascript; charset=utf-8",
    "token_dialog.js" as "text/javascript; charset=utf-8",
    "virtual_table.js" as "text/javascript; charset=utf-8",
    "watch.js" as "text/javascript; charset=utf-8",
    "watch_events.js" as "text/javascript; charset=utf-8",
};

/// Whether `path` is that of the page or of one of its files.
pub(super) fn is_of_page(path: &str) -> bool {
    path.strip_prefix("/ui").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The routes of the page.
pub(super) fn router() -> Router {
    let files = || get(show_file).fallback(wrong_method);
    Router::new()
        .route("/ui", get(redirect).fallback(wrong_method))
        .route("/ui/", files())
        .route("/ui/{*name}", files())
}

/// Addresses in the page are relative, so that it works behind a proxy that serves it below another path.
async fn redirect() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, "ui/")]).into_response()
}

async fn show_file(OriginalUri(uri): OriginalUri, headers: HeaderMap) -> Result<Response, Problem> {
    let name = uri.path().strip_prefix("/ui/").unwrap_or_default();
    let at = if name.is_empty() { Some(0) } else { FILES.iter().position(|file| file.name == name) };
    let Some(at) = at else {
        let sentence = format_args!("the page has no file {}; it begins at /ui", uri.path());
        return Err(Problem::new(ProblemCode::PathNotFound, sentence));
    };
    let (file, tag) = (&FILES[at], &tags()[at]);
    let caching = [
        (ETAG, tag.clone()),
        // Another version of the program has other files.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    if headers.get_all(IF_NONE_MATCH).iter().any(|known| knows(known, tag)) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    let protection = [
        (CONTENT_TYPE, file.media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
        (PERMISSIONS_POLICY, "camera=(), geolocation=(), microphone=()"),
    ];
    Ok((caching, protection, file.content).into_response())
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    let sentence = format_args!("{} does not support {method}; it is there to be read", uri.path());
    Problem::new(ProblemCode::MethodNotAllowed, sentence)
}

/// Whether the value of an `If-None-Match` contains the tag.
fn knows(known: &HeaderValue, tag: &HeaderValue) -> bool {
    let tags = known.to_str().unwrap_or_default().split(',').map(|tag| tag.trim().trim_start_matches("W/"));
    tags.into_iter().any(|known| known.as_bytes() == tag.as_bytes())
}

/// The entity tag of each file, from its content.
fn tags() -> &'static [HeaderValue] {
    static TAGS: OnceLock<Vec<HeaderValue>> = OnceLock::new();
    TAGS.get_or_init(|| FILES.iter().map(tag).collect())
}

fn tag(file: &File) -> HeaderValue {
    let digest = digest(&SHA256, file.content);
    let hex = digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    HeaderValue::from_str(&format!("\"{hex}\"")).expect("it is of digits and quotation marks")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_part_of_the_program() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.is_file() && path.extension().is_none_or(|of| of != "md"));
        let names = files.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
        let served = FILES.iter().map(|file| file.name.to_owned());
        assert_eq!(names.collect::<BTreeSet<_>>(), served.collect::<BTreeSet<_>>());
        assert_eq!(FILES[0].name, "index.html");
    }

    #[test]
    fn only_what_is_below_the_page_is_of_the_page() {
        for path in ["/ui", "/ui/", "/ui/main.js", "/ui/x/y"] {
            assert!(is_of_page(path), "{path}");
        }
        for path in ["/", "/uix", "/v1/ui", "/UI", "//ui"] {
            assert!(!is_of_page(path), "{path}");
        }
    }
}
