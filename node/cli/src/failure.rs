//! Failures of commands: a sentence and an exit status.

use std::process::ExitCode;

use networkdb_http::v1::ProblemCode;

use super::escaping::harmless;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The node refused the request, or nodes do not agree: status 1.
    Refused(String),
    /// The node refused the request, for the reason with this code: status 1.
    Problem {
        /// What the node said.
        sentence: String,
        /// The code of the problem, as the node's documentation lists it.
        code: String,
    },
    /// The call is invalid, or no node is reachable: status 2.
    Unusable(String),
    /// The reader of the standard output closed it: status 0.
    ReaderGone,
}

impl Failure {
    /// An invalid call, or no reachable node.
    pub(crate) fn unusable(sentence: impl std::fmt::Display) -> Self {
        Self::Unusable(sentence.to_string())
    }

    /// Whether the node refused the request for the reason with this code.
    pub(crate) fn is(&self, wanted: ProblemCode) -> bool {
        matches!(self, Self::Problem { code, .. } if code == wanted.as_str())
    }

    /// The failure as a sentence.
    pub(crate) fn sentence(&self) -> &str {
        match self {
            Self::Refused(sentence) | Self::Problem { sentence, .. } | Self::Unusable(sentence) => sentence,
            Self::ReaderGone => "the reader of the output closed it",
        }
    }

    /// Prints the sentence to the standard error, and returns the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        let (sentence, status) = match self {
            Self::Refused(sentence) | Self::Problem { sentence, .. } => (sentence, 1),
            Self::Unusable(sentence) => (sentence, 2),
            Self::ReaderGone => return ExitCode::SUCCESS,
        };
        // Parts of the sentence may come from a peer. Its line ends are this program's own.
        let sentence = sentence.split('\n').map(harmless).collect::<Vec<_>>().join("\n");
        // An error of the standard error cannot be reported.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("networkdb: {sentence}\n"));
        ExitCode::from(status)
    }
}

impl From<std::io::Error> for Failure {
    /// An error of the standard output.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Unusable(format!("cannot write the output: {error}")),
        }
    }
}
