//! A cluster of processes of one kind of store, in a network namespace of its own.

use std::time::Duration;

use crate::namespace::{Namespace, available};
use crate::participant::{Failure, Kind, PROMPT, Participant, processor_of};

/// How often chitchat gossips where speed is measured: as in its own tests.
pub(crate) const QUICK: Duration = Duration::from_millis(50);

/// Timeout until all know all.
const FORMED_WITHIN: Duration = Duration::from_secs(120);

/// The processes end with it.
#[derive(Debug)]
pub(crate) struct Cluster {
    kind: Kind,
    interval: Duration,
    seed: String,
    started: usize,
    pub(crate) participants: Vec<Participant>,
    pub(crate) namespace: Option<Namespace>,
}

impl Cluster {
    /// Starts `count` nodes, and waits until each knows that all have joined the network.
    pub(crate) fn form(kind: Kind, count: usize, interval: Duration) -> Result<Self, Failure> {
        let namespace = available().then(Namespace::new).transpose()?;
        let (participants, seed) = (Vec::new(), "-".to_owned());
        let mut cluster = Self { kind, interval, seed, started: 0, participants, namespace };
        let mut first = cluster.start_process()?;
        let answer = first.answer(PROMPT)?;
        cluster.seed = answer.split(' ').next().unwrap_or_default().to_owned();
        cluster.participants.push(first);
        for _ in 1..count {
            let next = cluster.start_process()?;
            cluster.participants.push(next);
        }
        for participant in &mut cluster.participants[1..] {
            participant.answer(FORMED_WITHIN)?;
        }
        cluster.ask_all("network", FORMED_WITHIN)?;
        cluster.ask_all(&waiting("members", count, FORMED_WITHIN), FORMED_WITHIN + PROMPT)?;
        Ok(cluster)
    }

    /// One more process, which joins the cluster. Its address, and when it began, are the answer that is still to be read.
    /// Each has a loopback address of its own, so that ports cannot collide.
    pub(crate) fn start_process(&mut self) -> Result<Participant, Failure> {
        let mut participant = Participant::start(self.kind, self.namespace.as_ref())?;
        let number = self.started;
        self.started += 1;
        let (high, low) = (number / 200, number % 200 + 1);
        let interval = self.interval.as_millis();
        participant.send(&format!("start n{number} 127.0.{high}.{low} {} {interval}", self.seed))?;
        Ok(participant)
    }

    /// Gives all the same command, and waits for all answers.
    fn ask_all(&mut self, command: &str, timeout: Duration) -> Result<(), Failure> {
        for participant in &mut self.participants {
            participant.send(command)?;
        }
        for participant in &mut self.participants {
            participant.answer(timeout)?;
        }
        Ok(())
    }

    /// The processor time of all so far.
    pub(crate) fn processor(&mut self) -> Result<Duration, Failure> {
        processor_of(&mut self.participants)
    }

    /// Has all but the first wait until they show `count` entries.
    pub(crate) fn send_hold(&mut self, count: usize, timeout: Duration) -> Result<(), Failure> {
        for participant in &mut self.participants[1..] {
            participant.send(&waiting("hold", count, timeout))?;
        }
        Ok(())
    }

    /// When the last of them did.
    pub(crate) fn held(&mut self, timeout: Duration) -> Result<Duration, Failure> {
        let mut last = Duration::ZERO;
        for participant in &mut self.participants[1..] {
            last = last.max(participant.answer_time(timeout + PROMPT)?);
        }
        Ok(last)
    }
}

/// A command that waits for a count.
pub(crate) fn waiting(command: &str, count: usize, timeout: Duration) -> String {
    format!("{command} {count} {}", timeout.as_millis())
}
