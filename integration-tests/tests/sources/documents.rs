//! What the documents name exists: the tests in SECURITY.md, the limits and counters in ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The text of every source file of the workspace but this one.
fn sources() -> String {
    fn add(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                add(&path, all);
            } else if path.extension().is_some_and(|of| of == "rs") && name != "documents.rs" {
                all.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = String::new();
    add(&root(), &mut all);
    all
}

/// The cells of the table rows between two headings.
fn rows(document: &str, from: &str, to: &str) -> Vec<Vec<String>> {
    let (_, after) = document.split_once(from).unwrap_or_else(|| panic!("there is no {from:?}"));
    let (part, _) = after.split_once(to).unwrap_or((after, ""));
    let rows = part.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Words of a program: `a_name_like_this`.
fn is_name(text: &str) -> bool {
    text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn every_test_that_security_names_exists() {
    let (document, sources) = (fs::read_to_string(root().join("SECURITY.md")).unwrap(), sources());
    let mut named = BTreeSet::new();
    let actors = rows(&document, "## Who can do what", "## What is not protected");
    let threats = rows(&document, "## Threats, protections, tests", "### How the tests were seen to fail");
    for row in actors.iter().chain(&threats) {
        let tests = row.last().unwrap();
        named.extend(quoted(tests).into_iter().filter(|name| is_name(name)));
    }
    assert!(named.len() > 100, "only {} tests are named; are the tables where they were?", named.len());
    let missing: Vec<_> = named.iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:?}");
}

#[test]
fn every_limit_and_counter_that_architecture_names_exists() {
    let (document, sources) = (fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap(), sources());
    let limits = fs::read_to_string(root().join("node/cli/src/settings/limits.rs")).unwrap();
    let bounds = rows(&document, "## Bounds", "## Dependencies with a story");
    let mut rows_seen = 0;
    for row in bounds.iter().filter(|row| row.len() >= 4 && !row[0].is_empty() && !row[0].starts_with("--")) {
        rows_seen += 1;
        // The limits that `--limit` sets come first; those of HTTP have flags.
        for limit in quoted(&row[0]).into_iter().filter(|name| !name.contains('/') && !name.contains('…')) {
            assert!(limits.contains(&format!("\"{limit}\"")), "there is no limit {limit}");
        }
        for flag in row.iter().flat_map(|cell| quoted(cell)).filter_map(|quoted| quoted.strip_prefix("--")) {
            let field = flag.replace('-', "_");
            assert!(sources.contains(&format!("pub {field}:")), "there is no flag --{flag}");
        }
        for counter in row.last().map(|cell| quoted(cell)).unwrap_or_default() {
            let name = counter.trim_start_matches("…_");
            let parts = ["transport_", "membership_", "replication_", "http_"];
            let name = parts.iter().find_map(|part| name.strip_prefix(part)).unwrap_or(name);
            let exists = [format!("{name},"), format!("pub {name}:"), format!("pub(crate) {name}:")];
            assert!(exists.iter().any(|text| sources.contains(text)), "there is no counter {counter}");
        }
    }
    assert!(rows_seen > 40, "only {rows_seen} limits are listed; are the tables where they were?");
}
