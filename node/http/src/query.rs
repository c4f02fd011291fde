//! Query strings, read as the original's diagnostic tools write them.

use percent_encoding::percent_decode;

/// The parameters of a request, decoded to bytes: with `unsafe`, a value need not be UTF-8.
///
/// `a+b` and `a%20b` are both "a b". A name without `=` has an empty value. The first of several equal names
/// counts. A pair with an invalid `%` escape is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// Reads the part of a URL after `?`.
    pub fn parse(query: &str) -> Self {
        Self::parse_form(query.as_bytes(), "")
    }

    /// Reads a form in a request's body, then the part of its URL after `?`. The body has precedence, as in
    /// the original.
    pub fn parse_form(body: &[u8], query: &str) -> Self {
        let pairs = [body, query.as_bytes()].into_iter().flat_map(|text| text.split(|byte| *byte == b'&'));
        let pairs = pairs.filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = equals.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            Some((decode(name)?, decode(value)?))
        });
        Self(pairs.collect())
    }

    /// Whether the parameter is present.
    pub fn has(&self, name: &str) -> bool {
        self.bytes(name).is_some()
    }

    /// The parameter's bytes.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(found, _)| found == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// The parameter as text: `Err` if it is there but not UTF-8.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, NotUtf8> {
        self.bytes(name).map(std::str::from_utf8).transpose().map_err(|_| NotUtf8(name))
    }
}

/// A name or key in a query string is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the parameter {0} is not UTF-8; only a value may hold any bytes")]
pub struct NotUtf8(pub &'static str);

/// `None` for a `%` that two hexadecimal digits do not follow.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let bytes = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect::<Vec<_>>();
    let mut rest = bytes.as_slice();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        rest = &rest[at + 1..];
        if !(rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit)) {
            return None;
        }
    }
    Some(percent_decode(&bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse("tname=my+table&key=a%2Fb%20c&value=%ff&unsafe&json=pretty");
        assert_eq!(query.text("tname"), Ok(Some("my table")));
        assert_eq!(query.text("key"), Ok(Some("a/b c")));
        assert_eq!(query.bytes("value"), Some(&[0xff][..]));
        assert_eq!(query.text("value"), Err(NotUtf8("value")));
        assert!(query.has("unsafe"));
        assert_eq!(query.text("unsafe"), Ok(Some("")));
        assert_eq!(query.text("json"), Ok(Some("pretty")));
        assert_eq!(query.text("nid"), Ok(None));
    }

    #[test]
    fn the_first_of_several_equal_names_counts() {
        assert_eq!(Query::parse("nid=a&nid=b").text("nid"), Ok(Some("a")));
    }

    #[test]
    fn a_pair_with_an_invalid_escape_is_ignored() {
        for broken in ["%", "%2", "%zz", "%2g", "a%"] {
            let query = Query::parse(&format!("key={broken}&nid=n"));
            assert!(!query.has("key"), "{broken}");
            assert_eq!(query.text("nid"), Ok(Some("n")));
        }
    }

    #[test]
    fn a_form_has_precedence_over_the_query() {
        let query = Query::parse_form(b"key=a&value=\xff%00", "key=b&nid=n");
        assert_eq!((query.text("key"), query.text("nid")), (Ok(Some("a")), Ok(Some("n"))));
        assert_eq!(query.bytes("value"), Some(&b"\xff\0"[..]));
    }

    #[test]
    fn a_value_may_contain_an_equals_sign() {
        assert_eq!(Query::parse("value=aGk=&x").text("value"), Ok(Some("aGk=")));
    }
}
