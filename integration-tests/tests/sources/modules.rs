//! Modules form no circle: what two modules of a crate share lies below both.
//!
//! Compared are the modules beside each other, each with all modules below it, by the paths in their text
//! that begin with `crate`, `super` or `self`. Calls of methods are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Module = Vec<String>;

const CRATES: [&str; 7] =
    ["membership", "tabledb", "transport", "transport/wire", "node", "node/http", "node/cli"];

/// The code of every module below a folder, without tests and comments.
fn read(folder: &Path, above: &[String], modules: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let stem = name.trim_end_matches(".rs");
        if ["main", "fuzzing", "tests"].contains(&stem) || stem.ends_with("_tests") {
            continue;
        }
        let mut module = above.to_vec();
        if !["lib", "mod"].contains(&stem) {
            module.push(stem.to_owned());
        }
        if entry.path().is_dir() {
            read(&entry.path(), &module, modules);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).unwrap();
            let code = text.split("\nmod tests {").next().unwrap().lines();
            let code = code.map(|line| line.split("//").next().unwrap().to_owned() + "\n");
            modules.insert(module, code.collect());
        }
    }
}

/// The paths of a `use`, with braces expanded.
fn expand(tree: &str) -> Vec<String> {
    let (mut paths, mut path, mut before, mut renamed) = (Vec::new(), String::new(), Vec::new(), false);
    for c in tree.chars() {
        match c {
            '{' => before.push(path.clone()),
            ',' | '}' => {
                let next = before.last().cloned().unwrap_or_default();
                paths.push(std::mem::replace(&mut path, next));
                renamed = false;
                if c == '}' {
                    before.pop();
                }
            }
            c if c.is_whitespace() => renamed = !path.is_empty() && !path.ends_with(':'),
            c if !renamed => path.push(c),
            _ => {}
        }
    }
    paths.push(path);
    paths
}

/// A path from the root of the crate, for one that is written in `module`.
fn absolute(module: &Module, path: &str) -> Module {
    path.split("::").filter(|part| !part.is_empty()).fold(module.clone(), |mut whole, part| {
        match part {
            "crate" => whole.clear(),
            "super" => drop(whole.pop()),
            "self" | "*" => {}
            _ => whole.push(part.to_owned()),
        }
        whole
    })
}

type Uses = BTreeMap<String, BTreeSet<String>>;

fn reached<'a>(uses: &'a Uses, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        let used = uses.get(module).into_iter().flatten().map(String::as_str);
        next.extend(used.filter(|to| reached.insert(*to)));
    }
    reached
}

/// The circles of a crate: the module above them, and their members.
fn circles(sources: &Path) -> BTreeSet<(String, String)> {
    let mut modules = BTreeMap::new();
    read(sources, &[], &mut modules);
    let (mut uses, mut imported) = (Vec::new(), BTreeMap::<Module, Module>::new());
    for (module, code) in &modules {
        for (index, part) in code.replace("\nuse ", "\n use ").split(" use ").enumerate() {
            let (tree, rest) = part.split_once(';').filter(|_| index > 0).unwrap_or(("", part));
            for path in expand(tree).iter().map(|path| absolute(module, path)) {
                imported.extend(path.last().map(|name| (absolute(module, name), path.clone())));
                uses.push((module, path));
            }
            let words = rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let paths =
                words.filter(|word| ["crate:", "super:", "self:"].iter().any(|at| word.starts_with(at)));
            uses.extend(paths.map(|path| (module, absolute(module, path))));
        }
    }
    // The module that holds what a path names. The root holds every path.
    let is_module = |path: &[String]| modules.contains_key(path);
    let home = |path: &Module| (0..=path.len()).rfind(|&length| is_module(&path[..length])).unwrap();
    let mut graphs = BTreeMap::<String, Uses>::new();
    for (user, mut path) in uses {
        // A module may import a name from another one that imports it itself.
        for _ in 0..4 {
            let elsewhere = path.get(..=home(&path)).and_then(|name| imported.get(name));
            path = elsewhere.unwrap_or(&path).clone();
        }
        let shared = user.iter().zip(&path[..home(&path)]).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (user.get(shared), path[..home(&path)].get(shared)) {
            let graph = graphs.entry(user[..shared].join("::")).or_default();
            graph.entry(a.clone()).or_default().insert(b.clone());
        }
    }
    let mut circles = BTreeSet::new();
    for (above, graph) in &graphs {
        for module in graph.keys() {
            let mut circle = reached(graph, module);
            circle.retain(|to| reached(graph, to).contains(&**module));
            if !circle.is_empty() {
                circles.insert((above.clone(), circle.into_iter().collect::<Vec<_>>().join(" ")));
            }
        }
    }
    circles
}

#[test]
fn modules_form_no_circles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in CRATES {
        let found = circles(&root.join(name).join("src"));
        assert!(found.is_empty(), "circles of {name}, with the module above each: {found:?}");
    }
}
