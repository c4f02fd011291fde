//! Every public enum and settings struct either may grow without breaking callers, or says why it does not grow.
//!
//! The text above each must have `#[non_exhaustive]` or a comment `// Exhaustive: …` with the reason; CONTRIBUTING.md says
//! how to decide. Compared is text, so types inside macros count as well.

use std::fs;
use std::path::Path;

const CRATES: [&str; 7] =
    ["membership", "tabledb", "transport", "transport/wire", "node", "node/http", "node/cli"];

/// The endings of the names of structs that callers set up or read field by field.
const GROWING: [&str; 8] =
    ["Config", "Counters", "Filter", "Limits", "Options", "Settings", "Statistics", "Timeouts"];

/// The public type that a line begins, if it has to be decided.
fn public_type(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let name = |rest: &'static str| {
        let name = line.strip_prefix(rest)?;
        name.split(|c: char| !c.is_alphanumeric()).next()
    };
    let is_growing = |name: &&str| GROWING.iter().any(|ending| name.ends_with(ending));
    name("pub enum ").or_else(|| name("pub struct ").filter(is_growing))
}

/// Whether the attributes and comments above a line decide whether its type may grow.
fn is_decided(above: &[&str]) -> bool {
    let lines = above.iter().rev().map(|line| line.trim());
    let mut own = lines.take_while(|line| !line.is_empty() && !line.ends_with(['{', '}', ';', ',']));
    own.any(|line| {
        let reason = line.strip_prefix("// Exhaustive: ");
        line == "#[non_exhaustive]" || reason.is_some_and(|reason| !reason.trim().is_empty())
    })
}

/// The types of a text that are not decided.
fn undecided(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let types = lines.iter().enumerate().filter_map(|(at, line)| Some((at, public_type(line)?)));
    types.filter(|(at, _)| !is_decided(&lines[..*at])).map(|(_, name)| name).collect()
}

/// The types below a folder that are not decided, each with its file; the number of files read.
fn look(folder: &Path, found: &mut Vec<String>) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let stem = name.trim_end_matches(".rs");
        if ["fuzzing", "tests"].contains(&stem) || stem.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            files += look(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(undecided(&text).iter().map(|name| format!("{name} in {}", path.display())));
            files += 1;
        }
    }
    files
}

#[test]
fn every_public_enum_and_settings_struct_is_decided() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for name in CRATES {
        let files = look(&root.join(name).join("src"), &mut found);
        assert!(files > 3, "{name} has {files} files: the test looks in the wrong place");
    }
    assert!(
        found.is_empty(),
        "give each of these `#[non_exhaustive]`, or a comment `// Exhaustive: …` with the reason:\n  {}",
        found.join("\n  ")
    );
}

#[test]
fn attributes_and_reasons_are_found_and_nothing_else_counts() {
    for decided in [
        "#[non_exhaustive]\npub enum A {",
        "/// Text.\n#[derive(Debug)]\n#[non_exhaustive]\npub enum A {",
        "#[non_exhaustive]\n#[derive(Debug)]\n#[serde(a = \"b\")]\n/// Text.\n    pub struct AConfig {",
        "// Exhaustive: there are two sides.\npub enum A {",
        "enum Private {\n}\npub(crate) enum Inner {\n}\npub struct Plain;",
    ] {
        assert_eq!(undecided(decided), Vec::<&str>::new(), "{decided}");
    }
    for (text, name) in [
        ("pub enum A {", "A"),
        ("// Exhaustive:\npub enum A {", "A"),
        ("#[non_exhaustive]\npub enum Other {\n    X,\n}\npub enum A<T> {", "A"),
        ("// Exhaustive: a reason.\n\npub enum A {", "A"),
        ("/// Text.\npub struct Limits {", "Limits"),
    ] {
        assert_eq!(undecided(text), [name], "{text}");
    }
}
