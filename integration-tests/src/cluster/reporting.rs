//! The report of a failed scenario.

use super::{Cluster, Peer};

impl Cluster {
    /// Reports a broken invariant.
    #[track_caller]
    pub(crate) fn violation(&mut self, peer: Peer, what: String) -> ! {
        self.note_on(peer, format!("VIOLATION: {what}"));
        panic!("{} at {:?}: {what}", self.name(peer), self.now());
    }

    /// The command that repeats the run.
    fn replay_command(&self) -> String {
        if let Some(command) = &self.settings.replay {
            return command.clone();
        }
        let seed = self.settings.fabric.seed;
        let executable = std::env::current_exe().ok();
        let stem = executable.as_deref().and_then(|path| path.file_stem()).and_then(|stem| stem.to_str());
        // The test binary is named after its file, with a hash appended.
        let target = match stem.and_then(|stem| stem.rsplit_once('-')).map(|(target, _)| target) {
            Some("integration_tests") | None => "--lib".to_owned(),
            Some(target) => format!("--test {target}"),
        };
        let test = std::thread::current().name().unwrap_or("").to_owned();
        format!(
            "SIM_SEED={seed} SIM_TRACE=1 cargo test -p integration-tests {target} -- --exact \
             {test} --nocapture"
        )
    }

    /// The last events, the seed, and the command that repeats the run.
    pub fn report(&self) -> String {
        format!(
            "{}\nseed {}, stopped at {:?} of virtual time after {} events, trace hash {:016x}\nagain: {}\n",
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
    /// Prints the report after any failed assertion, in the scenario, in a checker or in a machine.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}
