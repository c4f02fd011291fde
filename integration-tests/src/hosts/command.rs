//! Calls of the network tools: `ip`, `nft` and `tc`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Failure, Namespace};

/// Why hosts cannot be made here, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether hosts can be made here: that needs root, iproute2 and nftables.
pub fn require() -> Result<(), Unavailable> {
    if !rustix::process::geteuid().is_root() {
        return Err(Unavailable(
            "hosts are network namespaces, and only root can make those: run it as root".to_owned(),
        ));
    }
    for (tool, package) in [("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")] {
        let found = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            return Err(Unavailable(format!(
                "hosts are made with {tool}, which is not there: install {package}"
            )));
        }
    }
    // In a container, root may lack the permission.
    Namespace::new("trial")
        .map(drop)
        .map_err(|error| Unavailable(format!("hosts cannot be made here: {error}")))
}

/// Runs a tool and returns its output.
pub(super) fn run(tool: &str, arguments: &[&str]) -> Result<String, Failure> {
    feed(tool, arguments, "")
}

/// Runs a tool with `input` as its standard input.
pub(super) fn feed(tool: &str, arguments: &[&str], input: &str) -> Result<String, Failure> {
    let called = || format!("{tool} {}", arguments.join(" "));
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", called()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ended without reading reports that by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("{}: {error}", called()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} failed ({}): {}", called(), output.status, errors.trim()))
}
