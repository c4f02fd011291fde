//! The two forms of a watch, of which a request chooses one by its `Accept`.

use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName};

use crate::problem::{Problem, ProblemCode};

/// How the events of a watch are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchForm {
    /// A JSON object on each line.
    JsonLines,
    /// Server-sent events, as browsers read them.
    Events,
}

impl WatchForm {
    /// The one that the request prefers; JSON lines without a preference.
    pub(super) fn accepted_by(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(ACCEPT).iter().peekable();
        if values.peek().is_none() {
            return Ok(Self::JsonLines);
        }
        let ranges: Vec<_> =
            values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).collect();
        let weight = |form: Self| {
            // The most specific range decides.
            let matching = ranges.iter().filter_map(|range| form.matched_by(range));
            matching
                .max_by_key(|(specificity, _)| *specificity)
                .map(|(specificity, quality)| (quality, specificity))
        };
        let acceptable = |form: &Self| weight(*form).is_some_and(|(quality, _)| quality > 0);
        // Of equal ones the last: JSON lines.
        let best =
            [Self::Events, Self::JsonLines].into_iter().filter(acceptable).max_by_key(|form| weight(*form));
        best.ok_or_else(|| {
            let sentence = format_args!(
                "a watch is {} or {}, and the request accepts neither",
                Self::JsonLines.media_type(),
                Self::Events.media_type()
            );
            Problem::new(ProblemCode::NotAcceptable, sentence)
        })
    }

    /// How specific a media range is that matches the form, and its quality in thousandths.
    fn matched_by(self, range: &str) -> Option<(u8, u16)> {
        let mut parts = range.split(';').map(str::trim);
        let wanted = parts.next()?.to_ascii_lowercase();
        let (kind, _) = self.media_type().split_once('/')?;
        let specificity = match wanted.split_once('/')? {
            ("*", "*") => 0,
            (wanted, "*") if wanted == kind => 1,
            _ if wanted == self.media_type() => 2,
            _ => return None,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let quality = quality.map_or(1.0, |text| text.parse::<f32>().unwrap_or(0.0));
        Some((specificity, (quality.clamp(0.0, 1.0) * 1000.0) as u16))
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    pub(super) fn headers(self) -> [(HeaderName, &'static str); 2] {
        [(CONTENT_TYPE, self.media_type()), (CACHE_CONTROL, "no-store")]
    }

    /// What the response begins with: how soon a browser reconnects, in milliseconds.
    pub(super) fn preamble(self) -> &'static str {
        match self {
            Self::JsonLines => "",
            Self::Events => "retry: 1000\n\n",
        }
    }

    /// What readers ignore.
    pub(super) fn heartbeat(self) -> &'static str {
        match self {
            Self::JsonLines => "\n",
            Self::Events => ":\n\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_the_request_prefers() {
        let (lines, events) = (Ok(WatchForm::JsonLines), Ok(WatchForm::Events));
        let of = |accept: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            WatchForm::accepted_by(&headers).map_err(|problem| problem.code)
        };
        assert_eq!(WatchForm::accepted_by(&HeaderMap::new()), lines);
        for (accept, form) in [
            ("*/*", lines.clone()),
            ("application/*", lines.clone()),
            ("application/x-ndjson, text/event-stream", lines.clone()),
            ("text/event-stream;q=0.5, application/x-ndjson;q=0.4", events.clone()),
            ("text/event-stream", events.clone()),
            ("TEXT/EVENT-STREAM; charset=utf-8", events.clone()),
            ("text/*", events.clone()),
            ("*/*, text/event-stream", events.clone()),
            ("text/event-stream;q=0, */*", lines.clone()),
        ] {
            assert_eq!(
                of(accept).as_ref(),
                form.as_ref().map_err(|problem: &Problem| &problem.code),
                "{accept}"
            );
        }
        for accept in ["text/html", "application/json", "*/*;q=0", "", "text"] {
            assert_eq!(of(accept), Err(ProblemCode::NotAcceptable), "{accept}");
        }
    }
}
