//! A network namespace with nothing but a loopback interface, whose counters count its participants only.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::participant::Failure;

/// Whether namespaces can be made: by root, with the tools of util-linux and iproute2.
pub(crate) fn available() -> bool {
    let found = |tool: &str| {
        let path = std::env::var("PATH").unwrap_or_default();
        path.split(':').any(|folder| Path::new(folder).join(tool).exists())
    };
    rustix::process::geteuid().is_root() && ["unshare", "nsenter", "ip"].into_iter().all(found)
}

/// Exists until it is dropped, or the program ends: then the process that keeps it open reads the end of its input.
#[derive(Debug)]
pub(crate) struct Namespace(Child);

/// What the loopback interface has sent. It counts each packet once as sent and once as received: only the
/// former is here. A packet may be a batch of datagrams that the kernel has not split.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
}

impl Namespace {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut namespace = Self(child.map_err(|error| format!("cannot run unshare: {error}"))?);
        let output = namespace.0.stdout.take().ok_or("unshare has no output")?;
        let mut line = String::new();
        let _ = BufReader::new(output).read_line(&mut line);
        if line.trim() == "up" { Ok(namespace) } else { Err("unshare makes no network namespace".to_owned()) }
    }

    /// A command that runs `program` in it, as the process that this starts.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg("--").arg(program);
        command
    }

    pub(crate) fn sent(&self) -> Result<Sent, Failure> {
        let path = format!("/proc/{}/net/dev", self.0.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
        let fields: Vec<u64> =
            line.unwrap_or_default().split_whitespace().filter_map(|field| field.parse().ok()).collect();
        match fields[..] {
            // Eight fields of what was received come first.
            [_, _, _, _, _, _, _, _, bytes, packets, ..] => Ok(Sent { bytes, packets }),
            _ => Err(format!("{path} does not have the counters of lo: {text}")),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
