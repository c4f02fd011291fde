//! The coordinator's end of a participant: a process that reads commands and writes one line for each.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::namespace::Namespace;

/// Why there is no result, for the person who reads the report.
pub(crate) type Failure = String;

/// The argument after which the role follows.
pub(crate) const ARGUMENT: &str = "participant";

/// Timeout of commands that do not wait for other participants.
pub(crate) const PROMPT: Duration = Duration::from_secs(20);

/// What a participant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Networkdb,
    Chitchat,
    Quic,
    Tcp,
    /// A node of ours with many watchers.
    Watched,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Networkdb => "networkdb",
            Self::Chitchat => "chitchat",
            Self::Quic => "bare QUIC",
            Self::Tcp => "bare TCP",
            Self::Watched => "watched",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = [Self::Networkdb, Self::Chitchat, Self::Quic, Self::Tcp, Self::Watched];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// A running participant. Dropping it kills it; it ends by itself when the coordinator has ended.
#[derive(Debug)]
pub(crate) struct Participant {
    kind: Kind,
    process: Child,
    commands: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Participant {
    pub(crate) fn start(kind: Kind, namespace: Option<&Namespace>) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| format!("cannot start a process of {}: {error}", kind.name());
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = match namespace {
            Some(namespace) => namespace.command(&program),
            None => Command::new(program),
        };
        command.args([ARGUMENT, kind.name()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let (Some(commands), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("a process has no pipes".to_owned());
        };
        let (sender, answers) = mpsc::channel();
        // Ends with the process, or when nobody awaits answers any more.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { kind, process, commands, answers })
    }

    /// Gives a command. [`Self::answer`] has its answer, in the order of the commands.
    pub(crate) fn send(&mut self, command: &str) -> Result<(), Failure> {
        writeln!(self.commands, "{command}")
            .map_err(|error| format!("a process of {} has ended: {error}", self.kind.name()))
    }

    pub(crate) fn answer(&mut self, timeout: Duration) -> Result<String, Failure> {
        match self.answers.recv_timeout(timeout) {
            Ok(line) => match line.strip_prefix("failed ") {
                Some(reason) => Err(format!("{}: {reason}", self.kind.name())),
                None => Ok(line),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(format!("a process of {} does not answer within {timeout:?}", self.kind.name()))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(format!("a process of {} has ended", self.kind.name()))
            }
        }
    }

    pub(crate) fn ask(&mut self, command: &str, timeout: Duration) -> Result<String, Failure> {
        self.send(command)?;
        self.answer(timeout)
    }

    /// The answer to a command whose answer is a time.
    pub(crate) fn ask_time(&mut self, command: &str, timeout: Duration) -> Result<Duration, Failure> {
        self.send(command)?;
        self.answer_time(timeout)
    }

    pub(crate) fn answer_time(&mut self, timeout: Duration) -> Result<Duration, Failure> {
        let answer = self.answer(timeout)?;
        answer.parse().map(Duration::from_nanos).map_err(|_| format!("{answer} is not a time"))
    }

    /// The processor time that it has used so far.
    pub(crate) fn processor(&mut self) -> Result<Duration, Failure> {
        self.ask_time("processor", PROMPT)
    }

    /// The memory that it has for itself, and its share of what it shares with others, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/smaps_rollup", self.process.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| format!("{path} has no Pss"))
    }
}

/// The processor time that all of them have used so far.
pub(crate) fn processor_of(participants: &mut [Participant]) -> Result<Duration, Failure> {
    participants.iter_mut().map(Participant::processor).sum()
}

/// The participant's end: the commands, as they come. When the coordinator has ended the process does, even in the middle of
/// a command.
pub(crate) fn commands() -> mpsc::IntoIter<String> {
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    commands.into_iter()
}

impl Drop for Participant {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
