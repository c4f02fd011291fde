//! The wall clocks of hosts: libfaketime shows each process the machine's wall clock plus an offset
//! from a file of its host. Monotonic clocks are not changed, as on a host whose wall clock is set,
//! or that has slept.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Failure;

/// The library's path in distributions, below `/usr/lib` and a directory for the architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, or why the clocks of hosts cannot be set here.
fn library() -> Result<PathBuf, Failure> {
    let below = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|found| found.path());
    let folders = [PathBuf::from("/usr/lib"), PathBuf::from("/usr/lib64")].into_iter().chain(below);
    folders.map(|folder| folder.join(LIBRARY)).find(|path| path.is_file()).ok_or_else(|| {
        "the clocks of hosts are set by means of libfaketime, which is not there: install faketime".to_owned()
    })
}

/// Whether the clocks of hosts can be set here; if not, why.
pub(super) fn require() -> Result<(), Failure> {
    library().map(drop)
}

/// The wall clock of one host, right at first.
#[derive(Debug, Clone)]
pub(super) struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// A clock that this file sets.
    pub(super) fn new(file: PathBuf) -> Result<Self, Failure> {
        let clock = Self { library: library()?, file };
        clock.set_ahead(Duration::ZERO)?;
        Ok(clock)
    }

    /// Sets it ahead of the machine's clock by this much, in whole seconds.
    pub(super) fn set_ahead(&self, ahead: Duration) -> Result<(), Failure> {
        let failed = |path: &Path, error: std::io::Error| format!("cannot write {}: {error}", path.display());
        // A process may read the file at any time: it must never be half written.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("+{}\n", ahead.as_secs())).map_err(|error| failed(&new, error))?;
        std::fs::rename(&new, &self.file).map_err(|error| failed(&self.file, error))
    }

    /// Makes a process that is about to start use this clock.
    pub(super) fn apply_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1")
            .env("NO_FAKE_STAT", "1");
    }
}
