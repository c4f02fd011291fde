//! The query parameters of calls: a name that the call does not know, or one that is there twice, is an error, so
//! that no typing error is ignored.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use hyper::http::request::Parts;

use crate::problem::{Problem, ProblemCode};
use crate::query;

/// The most characters of a request that an error repeats.
const MAX_REPEATED: usize = 64;

/// The query parameters of a call.
pub(crate) struct Parameters<T>(pub(crate) T);

/// What a call reads from its query parameters.
pub(crate) trait FromParameters: Sized {
    /// The names of all parameters.
    const KNOWN: &'static [&'static str];

    /// Reads them.
    fn read(given: &Given) -> Result<Self, Problem>;
}

/// A call without parameters.
pub(crate) struct NoParameters;

impl FromParameters for NoParameters {
    const KNOWN: &'static [&'static str] = &[];

    fn read(_: &Given) -> Result<Self, Problem> {
        Ok(Self)
    }
}

/// The parameters in a request: each is known, and there once.
#[derive(Debug, Default)]
pub(crate) struct Given(Vec<(&'static str, String)>);

impl Given {
    /// Reads the part of a URL after `?`.
    pub(super) fn parse(query: &str, known: &'static [&'static str]) -> Result<Self, Problem> {
        let mut given = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name)?;
            let Some(&name) = known.iter().find(|known| **known == name) else {
                return Err(unknown(&name, known));
            };
            if given.iter().any(|(other, _)| *other == name) {
                let sentence = format_args!("the parameter {name} is there more than once");
                return Err(Problem::new(ProblemCode::DuplicateParameter, sentence));
            }
            given.push((name, decoded(value)?));
        }
        Ok(Self(given))
    }

    fn get(&self, name: &'static str) -> Option<&str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that may be any text.
    pub(crate) fn text(&self, name: &'static str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// A parameter that is on if it is there without a value, or with `true`.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(invalid(name, other, "true and false")),
        }
    }

    /// A parameter that is one of some words or numbers, which `valid` names for the error.
    pub(crate) fn parsed<T: FromStr>(&self, name: &'static str, valid: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| invalid(name, value, valid))
    }
}

fn unknown(name: &str, known: &'static [&'static str]) -> Problem {
    let name = shortened(name);
    let sentence = match known {
        [] => format!("the call has no parameter {name}, nor any other"),
        known => format!("the call has no parameter {name}; it has {}", known.join(", ")),
    };
    Problem { known: Some(known), ..Problem::new(ProblemCode::UnknownParameter, sentence) }
}

fn invalid(name: &str, value: &str, valid: &str) -> Problem {
    let sentence = format_args!("the parameter {name} cannot be {:?}; it takes {valid}", shortened(value));
    Problem::new(ProblemCode::InvalidParameter, sentence)
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_REPEATED).collect()
}

/// A name or a value of a query.
pub(super) fn decoded(text: &str) -> Result<String, Problem> {
    query::decode(text.as_bytes()).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        let sentence = format_args!(
            "{:?} in the query is not UTF-8 with escapes of % and two hexadecimal digits",
            shortened(text)
        );
        Problem::new(ProblemCode::InvalidParameter, sentence)
    })
}

impl<T: FromParameters, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let given = Given::parse(parts.uri.query().unwrap_or_default(), T::KNOWN)?;
        T::read(&given).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["prefix", "raw", "limit"];

    fn given(query: &str) -> Given {
        Given::parse(query, KNOWN).unwrap()
    }

    #[test]
    fn parameters_are_read() {
        let read = given("prefix=a+%C5%BC%2F=&raw&limit=7");
        assert_eq!(read.text("prefix").as_deref(), Some("a ż/="));
        assert_eq!(read.flag("raw"), Ok(true));
        assert_eq!(read.parsed::<u32>("limit", "a number"), Ok(Some(7)));
        let none = given("");
        assert_eq!((none.text("prefix"), none.flag("raw")), (None, Ok(false)));
        assert_eq!(given("raw=true").flag("raw"), Ok(true));
        assert_eq!(given("raw=false").flag("raw"), Ok(false));
    }

    #[test]
    fn what_a_call_does_not_take_is_refused() {
        for (query, code, words) in [
            ("prefxi=a", ProblemCode::UnknownParameter, "no parameter prefxi; it has prefix, raw, limit"),
            ("=a", ProblemCode::UnknownParameter, "prefix, raw, limit"),
            ("raw&raw", ProblemCode::DuplicateParameter, "raw is there more than once"),
            ("prefix=%f", ProblemCode::InvalidParameter, "\"%f\""),
            ("prefix=%ff", ProblemCode::InvalidParameter, "UTF-8"),
        ] {
            let refused = Given::parse(query, KNOWN).unwrap_err();
            assert_eq!((refused.code, refused.detail.contains(words)), (code, true), "{query}: {refused:?}");
        }
        let nothing = Given::parse("a", &[]).unwrap_err();
        assert_eq!((nothing.known, nothing.detail.contains("nor any other")), (Some(&[][..]), true));
        let flag = given("raw=2").flag("raw").unwrap_err();
        assert_eq!(
            (flag.code, flag.detail.contains("true and false")),
            (ProblemCode::InvalidParameter, true)
        );
        assert!(given("limit=-1").parsed::<u32>("limit", "a number").is_err());
    }
}
