//! The lines of the report: a quantity of several sides, with ratios.

/// One quantity, measured several times on each side. Ratios are those of the first side to another, of their minimums
/// and of their medians: 2 means that the first takes twice as much.
#[derive(Debug)]
pub(crate) struct Comparison {
    title: String,
    unit: &'static str,
    sides: Vec<Side>,
}

#[derive(Debug)]
struct Side {
    name: String,
    samples: Vec<f64>,
    note: Option<String>,
}

impl Comparison {
    pub(crate) fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self { title: title.into(), unit, sides: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &str, sample: f64) {
        self.side(name).samples.push(sample);
    }

    /// Says something about a side, such as why it has no figures.
    pub(crate) fn note(&mut self, name: &str, note: impl Into<String>) {
        self.side(name).note = Some(note.into());
    }

    fn side(&mut self, name: &str) -> &mut Side {
        let at = self.sides.iter().position(|side| side.name == name).unwrap_or_else(|| {
            self.sides.push(Side { name: name.to_owned(), samples: Vec::new(), note: None });
            self.sides.len() - 1
        });
        &mut self.sides[at]
    }

    pub(crate) fn print(&self) {
        if self.sides.is_empty() {
            return; // It could not be measured here, as packets without a namespace.
        }
        println!("{}, {}", self.title, self.unit);
        let first = self.sides.first().and_then(Side::summary);
        for (at, side) in self.sides.iter().enumerate() {
            let mut line = format!("  {:<26}", side.name);
            if let Some((minimum, median)) = side.summary() {
                let ratio = first.filter(|_| at > 0).map(|first| (first.0 / minimum, first.1 / median));
                if side.samples.len() == 1 {
                    line += &format!("{:>8}", digits(median));
                    line +=
                        &ratio.map_or_else(String::new, |(_, ratio)| format!("  ratio {}", digits(ratio)));
                } else {
                    line += &format!("minimum {:>8}  median {:>8}", digits(minimum), digits(median));
                    line += &ratio.map_or_else(String::new, |(low, middle)| {
                        format!("  ratio {:>6} and {:>6}", digits(low), digits(middle))
                    });
                    line += &format!("  ({} times)", side.samples.len());
                }
            }
            if let Some(note) = &side.note {
                line += &format!("  {note}");
            }
            println!("{}", line.trim_end());
        }
    }
}

impl Side {
    /// Minimum and median.
    fn summary(&self) -> Option<(f64, f64)> {
        Some((*sorted(&self.samples).first()?, percentile(&self.samples, 0.5)?))
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The smallest sample that is not exceeded by this fraction of all.
pub(crate) fn percentile(samples: &[f64], fraction: f64) -> Option<f64> {
    let sorted = sorted(samples);
    let rank = (sorted.len() as f64 * fraction).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Three significant digits, if the number has no more before its point.
pub(crate) fn digits(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}
