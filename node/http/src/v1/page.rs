//! Parts of lists: every list is sorted, takes `prefix`, `after` and `limit`, and names the next part in a `Link`.

use std::num::NonZeroUsize;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue, LINK};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use utoipa::IntoParams;

use super::parameters::{FromParameters, Given};
use crate::problem::Problem;

/// Which part of a list is requested: all of it by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Only names that begin with this.
    #[param(value_type = Option<String>)]
    pub(super) prefix: String,
    /// Only names behind this one, in the order of their bytes.
    pub(super) after: Option<String>,
    /// The most items. All by default.
    #[param(value_type = Option<u32>, minimum = 1)]
    pub(super) limit: Option<NonZeroUsize>,
}

/// The header that names the next part of a list; none at its end.
pub(super) type Next = Option<[(HeaderName, HeaderValue); 1]>;

impl FromParameters for Page {
    const KNOWN: &'static [&'static str] = &["prefix", "after", "limit"];

    fn read(given: &Given) -> Result<Self, Problem> {
        Ok(Self {
            prefix: given.text("prefix").unwrap_or_default(),
            after: given.text("after"),
            limit: given.parsed("limit", "a whole number from 1")?,
        })
    }
}

impl Page {
    /// The requested part of a sorted list, and the header that names the next one at `uri`.
    pub(super) fn of<T>(&self, uri: &Uri, mut list: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Next) {
        list.retain(|item| {
            let name = name(item);
            name.starts_with(&self.prefix) && self.after.as_deref().is_none_or(|after| name > after)
        });
        let more = self.limit.is_some_and(|limit| list.len() > limit.get());
        list.truncate(self.limit.map_or(usize::MAX, NonZeroUsize::get));
        let next = list.last().filter(|_| more).map(|last| self.next(uri, name(last), ""));
        (list, next)
    }

    /// The header that names the part behind `last` of the list at `uri`, with more parameters.
    pub(super) fn next(&self, uri: &Uri, last: &str, parameters: &str) -> [(HeaderName, HeaderValue); 1] {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let limit = self.limit.map_or(0, NonZeroUsize::get);
        let link = format!(
            "<{}?prefix={}&after={}&limit={limit}{parameters}>; rel=\"next\"",
            uri.path(),
            encoded(&self.prefix),
            encoded(last)
        );
        [(LINK, HeaderValue::from_str(&link).expect("all that is not ASCII is escaped"))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of a part, and the address of the next one.
    fn part(page: &Page) -> (Vec<&'static str>, Option<String>) {
        let list = vec!["a", "a/1", "a/2", "a/3", "b"];
        let (part, next) = page.of(&"/v1/list".parse().unwrap(), list, |name| name);
        (part, next.map(|[(_, link)]| link.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_list_is_read_in_parts() {
        assert_eq!(part(&Page::default()), (vec!["a", "a/1", "a/2", "a/3", "b"], None));
        let first = Page { prefix: "a/".into(), limit: NonZeroUsize::new(2), after: None };
        let next = "</v1/list?prefix=a%2F&after=a%2F2&limit=2>; rel=\"next\"".to_owned();
        assert_eq!(part(&first), (vec!["a/1", "a/2"], Some(next)));
        let second = Page { after: Some("a/2".into()), ..first.clone() };
        assert_eq!(part(&second), (vec!["a/3"], None));
        let exact = Page { limit: NonZeroUsize::new(3), ..first };
        assert_eq!(part(&exact), (vec!["a/1", "a/2", "a/3"], None));
    }
}
