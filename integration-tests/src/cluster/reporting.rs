//! What a failed scenario tells.

use super::{Cluster, Peer};

impl Cluster {
    /// Something happened that must never happen.
    #[track_caller]
    pub(crate) fn violation(&mut self, peer: Peer, what: String) -> ! {
        self.note_on(peer, format!("VIOLATION: {what}"));
        panic!("{} at {:?}: {what}", self.name(peer), self.now());
    }

    /// How a person runs the same again.
    fn replay_command(&self) -> String {
        if let Some(command) = &self.settings.replay {
            return command.clone();
        }
        let seed = self.settings.fabric.seed;
        let executable = std::env::current_exe().ok();
        let stem = executable.as_deref().and_then(|path| path.file_stem()).and_then(|stem| stem.to_str());
        // The test binary is called after its file, with a hash behind.
        let target = match stem.and_then(|stem| stem.rsplit_once('-')).map(|(target, _)| target) {
            Some("integration_tests") | None => "--lib".to_owned(),
            Some(target) => format!("--test {target}"),
        };
        let test = std::thread::current().name().unwrap_or("").to_owned();
        format!(
            "SIM_SEED={seed} SIM_TRACE=1 cargo test -p integration-tests {target} -- --exact {test} --nocapture"
        )
    }

    /// The seed, the command that runs the same again, and the last happenings.
    pub fn report(&self) -> String {
        format!(
            "{}\nseed {}, stopped at {:?} of virtual time after {} happenings, trace hash {:016x}\nagain: {}\n",
            self.fabric.trace().tail(),
            self.settings.fabric.seed,
            self.now(),
            self.fabric.trace().count(),
            self.trace_hash(),
            self.replay_command(),
        )
    }
}

impl Drop for Cluster {
    /// Whatever assertion failed, in the scenario, in a checker or in a machine: the story comes with it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}
