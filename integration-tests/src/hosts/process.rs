//! One process of the real binary, in the namespace of its host.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::Failure;
use super::namespace::Inside;

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts this command; its output is appended to `log`.
    pub(super) async fn start(inside: &Inside, mut command: Command, log: PathBuf) -> Result<Self, Failure> {
        let unusable = |error: std::io::Error| format!("cannot write {}: {error}", log.display());
        let output = File::options().create(true).append(true).open(&log).map_err(unusable)?;
        let errors = output.try_clone().map_err(unusable)?;
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NETWORKDB_") {
                command.env_remove(name);
            }
        }
        command
            .arg("--admin-socket")
            .arg(socket_beside(&log))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let shown = command.get_program().display().to_string();
        // A process belongs to the namespace of the thread that starts it.
        let child = inside
            .run(async move { command.spawn() })
            .await?
            .map_err(|error| format!("cannot run {shown}: {error}"))?;
        Ok(Self { child, log })
    }

    /// The socket for its own user.
    pub(super) fn socket(&self) -> PathBuf {
        socket_beside(&self.log)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal)
            .map_err(|error| format!("cannot send {signal:?} to process {pid:?}: {error}"))
    }

    /// How much memory it has in use now, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/status", self.child.id());
        let status =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| format!("{path} does not contain the memory in use"))
    }

    /// If it has ended, how.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it has ended by itself.
    pub(super) async fn wait(&mut self, limit: Duration) -> Result<ExitStatus, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            match self.ended() {
                Some(status) => return Ok(status),
                None if Instant::now() >= deadline => {
                    return Err(format!("process {} did not end within {limit:?}", self.child.id()));
                }
                None => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// The last lines of its output.
    pub(super) fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket_beside(log: &Path) -> PathBuf {
    log.with_extension("sock")
}
