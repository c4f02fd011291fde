//! The lines of the report.

/// The samples of one quantity on one side.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) samples: Vec<f64>,
}

/// Prints the best and the median of each side, and the first side's ratio to each other one. `best` picks the sample
/// that suffered least from other load.
pub(crate) fn print(what: &str, unit: &str, best: fn(f64, f64) -> f64, sides: &[Side]) {
    println!("{what}, {unit}");
    let summary = |side: &Side| {
        let mut sorted = side.samples.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        Some((sorted.iter().copied().reduce(best)?, *sorted.get(sorted.len() / 2)?))
    };
    let first = sides.first().and_then(summary);
    for (at, side) in sides.iter().enumerate() {
        let Some((chosen, median)) = summary(side) else {
            println!("  {:<22}nothing was measured", side.name);
            continue;
        };
        let ratio = first.filter(|_| at > 0).map_or_else(String::new, |(best, middle)| {
            format!("  ratio {:>6.2} and {:>6.2}", best / chosen, middle / median)
        });
        println!("  {:<22}best {chosen:>10.1}  median {median:>10.1}{ratio}", side.name);
    }
}

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
