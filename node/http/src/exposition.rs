//! Prometheus' text format (version 0.0.4).
//!
//! The crates for it keep the metrics themselves, or write OpenMetrics, whose counters Prometheus' own check of this
//! format does not take. The parts of a node count without an exporter, so what is left for one is these lines.

use std::fmt::{Display, Write as _};

use wire::Histogram;

/// The labels of a sample: names and values.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text of metrics, family by family.
#[derive(Debug, Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    /// The text so far.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    /// Begins a family. Its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.trim().replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// Adds a sample.
    pub(crate) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.line(format_args!("{name}{} {value}", text(labels, None)));
    }

    /// Adds the samples of a histogram, in seconds.
    pub(crate) fn histogram(&mut self, name: &str, labels: Labels<'_>, times: &Histogram) {
        for (bound, count) in times.cumulative() {
            let bound = bound.as_secs_f64().to_string();
            self.line(format_args!("{name}_bucket{} {count}", text(labels, Some(&bound))));
        }
        let (all, sum, count) = (text(labels, Some("+Inf")), times.sum().as_secs_f64(), times.count());
        let labels = text(labels, None);
        self.line(format_args!(
            "{name}_bucket{all} {count}\n{name}_sum{labels} {sum}\n{name}_count{labels} {count}"
        ));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to memory cannot fail");
    }
}

/// Labels in braces; nothing if there are none. `bound` is the upper bound of a bucket.
fn text(labels: Labels<'_>, bound: Option<&str>) -> String {
    let bound = bound.map(|bound| ("le", bound));
    let pairs = labels.iter().copied().chain(bound).map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    });
    let pairs = pairs.collect::<Vec<_>>().join(",");
    if pairs.is_empty() { pairs } else { format!("{{{pairs}}}") }
}
