//! The command line of the `networkdb` binary.

mod advice;
mod api;
mod arguments;
mod certificate;
mod command_line;
mod commands;
mod demo;
mod escaping;
mod failure;
mod import;
mod inquiries;
mod keygen;
mod keys;
mod logging;
mod manual;
mod operating;
mod output;
mod run;
pub mod settings;
mod tokens;
mod trust;
mod watch;

use std::process::ExitCode;

use clap::CommandFactory as _;

use self::arguments::{Command, CommandLine};

/// Runs the command of the command line, and returns its exit status.
pub fn main() -> ExitCode {
    let variables = std::env::vars_os().map(|(name, _)| name);
    let line = command_line::read::<CommandLine>(std::env::args_os().collect(), variables);
    let outcome = match line.unwrap_or_else(|error| error.exit()).command {
        Command::Run(run) => run::run(run.options, run.check),
        Command::Demo(options) => crate::demo::run(&options),
        Command::Keygen(keygen) => keygen::keygen(keygen.out.as_deref()),
        Command::Tokengen(tokengen) => tokens::tokengen(tokengen.out.as_deref()),
        Command::Completions { shell } => manual::completions(shell, &mut CommandLine::command()),
        Command::Man { folder } => manual::pages(CommandLine::command(), &folder),
        client => commands::run(client),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}
