//! How a command ends that did not do what it was asked.

use std::process::ExitCode;

use super::output::harmless;

/// One sentence, and what it means to programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The node was asked and refused, or nodes do not agree: status 1.
    Refused(String),
    /// The call is wrong, or there is nobody to ask: status 2.
    Unusable(String),
    /// The reader of our output went away: it had enough.
    ReaderGone,
}

impl Failure {
    /// A wrong call, or nobody to ask.
    pub(crate) fn unusable(sentence: impl std::fmt::Display) -> Self {
        Self::Unusable(sentence.to_string())
    }

    /// What happened, to a person.
    pub(crate) fn sentence(&self) -> &str {
        match self {
            Self::Refused(sentence) | Self::Unusable(sentence) => sentence,
            Self::ReaderGone => "the reader of the output went away",
        }
    }

    /// Tells the person, and gives the status to the program.
    pub(crate) fn report(&self) -> ExitCode {
        let (sentence, status) = match self {
            Self::Refused(sentence) => (sentence, 1),
            Self::Unusable(sentence) => (sentence, 2),
            Self::ReaderGone => return ExitCode::SUCCESS,
        };
        // Some of it came from elsewhere; each line is one of ours.
        let sentence = sentence.split('\n').map(harmless).collect::<Vec<_>>().join("\n");
        // There is nowhere left to say that saying it failed.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("networkdb: {sentence}\n"));
        ExitCode::from(status)
    }
}

impl From<std::io::Error> for Failure {
    /// For writing to the standard output.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Unusable(format!("cannot write the output: {error}")),
        }
    }
}
