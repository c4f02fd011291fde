//! What is generated from the definition of the command line: completions and manual pages.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::failure::Failure;

/// Prints the completions for a shell.
pub(super) fn completions(shell: Shell, command: &mut Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "networkdb", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for the program and one for each command into `folder`.
pub(super) fn pages(command: Command, folder: &Path) -> Result<ExitCode, Failure> {
    clap_mangen::generate_to(command, folder).map_err(|error| {
        Failure::unusable(format_args!("cannot write the manual pages to {}: {error}", folder.display()))
    })?;
    Ok(ExitCode::SUCCESS)
}
