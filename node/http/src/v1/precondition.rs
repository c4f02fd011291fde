//! Conditional requests: an entry's version is its `ETag`, `If-Match` names the version that a write replaces, and
//! `If-None-Match` the one that a reader has.

use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use tabledb::{Version, WriteError};
use utoipa::IntoParams;

use crate::problem::{Problem, ProblemCode, entity_tag};

/// The header of a write that only creates, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "`Precondition::of` reads it")]
pub(super) struct OnlyIfNone {
    /// With *: only if there is none
    #[param(rename = "If-None-Match", pattern = r"^\*$")]
    if_none_match: Option<String>,
}

/// The header of a write over one version, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "`Precondition::of` reads it")]
pub(super) struct OnlyIfVersion {
    /// Only over the entry of this version, in double quotes; * only if there is an entry
    #[param(rename = "If-Match", pattern = r#"^(\*|"[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{1,16}")$"#)]
    if_match: Option<String>,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// The call sets no condition of its own.
    None,
    /// `If-Match: *`: there is an entry.
    Present,
    /// `If-None-Match: *`: there is no entry.
    Absent,
    /// `If-Match: "VERSION"`: the entry has this version.
    Version(Version),
}

impl Precondition {
    /// The condition in the headers of a write. A condition that cannot be checked is an error, because the
    /// client relies on it.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let form = "one version in double quotes, as the etag of a response shows it";
        Self::read(
            ["if-match", "if-none-match"],
            [only(headers, IF_MATCH)?, only(headers, IF_NONE_MATCH)?],
            |tag| version_of(tag).ok_or(form),
        )
    }

    /// The condition of a write of a batch, whose versions have no quotes.
    pub(super) fn of_batch(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Self, Problem> {
        Self::read(["if_match", "if_none_match"], [if_match, if_none_match], |version| {
            version.parse().map_err(|_| "one version, as another answer shows it")
        })
    }

    /// Reads the two values, which have these names. `version` says what it takes if it cannot read one.
    fn read(
        [if_match, if_none_match]: [&str; 2],
        values: [Option<&str>; 2],
        version: impl Fn(&str) -> Result<Version, &'static str>,
    ) -> Result<Self, Problem> {
        let wrong = |sentence: String| Err(Problem::new(ProblemCode::InvalidPrecondition, sentence));
        match values {
            [None, None] => Ok(Self::None),
            [Some("*"), None] => Ok(Self::Present),
            [None, Some("*")] => Ok(Self::Absent),
            [Some(text), None] => match version(text) {
                Ok(version) => Ok(Self::Version(version)),
                Err(form) => wrong(format!("{if_match} takes *, or {form}")),
            },
            [None, Some(_)] => {
                wrong(format!("{if_none_match} of a write takes *, which means: only if there is no entry"))
            }
            [Some(_), Some(_)] => {
                wrong(format!("the write has both {if_match} and {if_none_match}; only one is allowed"))
            }
        }
    }

    /// The error for a call whose method cannot keep this condition.
    pub(super) fn unsupported(self, method: &Method) -> Problem {
        let header = if self == Self::Absent { IF_NONE_MATCH } else { IF_MATCH };
        let sentence = format_args!("{method} does not support {header}; GET /v1 lists all calls");
        Problem::new(ProblemCode::InvalidPrecondition, sentence)
    }

    /// The response to a write that failed: status 412 if the condition was the reason.
    pub(super) fn refused(self, error: WriteError) -> Problem {
        let is_condition = match error {
            WriteError::AlreadyExists { .. } => self == Self::Absent,
            WriteError::NotFound { .. } => self == Self::Present,
            // Its status is 412 anyway.
            _ => false,
        };
        let refused = Problem::from(error);
        if is_condition { Problem { code: ProblemCode::PreconditionFailed, ..refused } } else { refused }
    }
}

/// Whether a reader has this version already, so that it need not be sent: `If-None-Match` lists it.
pub(super) fn is_known(headers: &HeaderMap, version: Version) -> bool {
    let tag = entity_tag(version);
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|known| {
        // Equal bytes are as good for a reader whose cache calls them weakly equal.
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    })
}

/// The value of a header that occurs at most once.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => HeaderValue::to_str(value).ok(),
        (Some(_), Some(_)) => None,
    };
    let sentence =
        || Problem::new(ProblemCode::InvalidPrecondition, format_args!("{name} takes one value in ASCII"));
    value.map(str::trim).map(Some).ok_or_else(sentence)
}

fn version_of(tag: &str) -> Option<Version> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_condition_is_read_or_refused_and_never_ignored() {
        let version = "1-2-3".parse().unwrap();
        for (lines, read) in [
            (&[][..], Precondition::None),
            (&[(IF_MATCH, "*")], Precondition::Present),
            (&[(IF_MATCH, " \"1-2-3\" ")], Precondition::Version(version)),
            (&[(IF_NONE_MATCH, "*")], Precondition::Absent),
        ] {
            assert_eq!(Precondition::of(&headers(lines)), Ok(read), "{lines:?}");
        }
        for lines in [
            &[(IF_MATCH, "")][..],
            &[(IF_MATCH, "1-2-3")],
            &[(IF_MATCH, "\"")],
            &[(IF_MATCH, "W/\"1-2-3\"")],
            &[(IF_MATCH, "\"1-2-3\", \"4-5-6\"")],
            &[(IF_MATCH, "\"1-2-3\""), (IF_MATCH, "\"4-5-6\"")],
            &[(IF_MATCH, "\"ż\"")],
            &[(IF_NONE_MATCH, "\"1-2-3\"")],
            &[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")],
        ] {
            let refused = Precondition::of(&headers(lines)).unwrap_err();
            assert_eq!(refused.code, ProblemCode::InvalidPrecondition, "{lines:?}");
        }
    }

    #[test]
    fn a_reader_lists_the_versions_that_it_has() {
        let version = "1-2-3".parse().unwrap();
        for known in ["*", "\"1-2-3\"", "W/\"1-2-3\"", "\"4-5-6\", \"1-2-3\""] {
            assert!(is_known(&headers(&[(IF_NONE_MATCH, known)]), version), "{known}");
        }
        for other in ["", "1-2-3", "\"1-2-4\"", "\"ż\""] {
            assert!(!is_known(&headers(&[(IF_NONE_MATCH, other)]), version), "{other}");
        }
        assert!(!is_known(&HeaderMap::new(), version));
    }
}
