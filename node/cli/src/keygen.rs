//! `networkdb keygen`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::failure::Failure;

/// Generates a secret, and prints it or writes it to a new file that only its owner can read.
pub(super) fn keygen(out: Option<&Path>) -> Result<ExitCode, Failure> {
    let secret = transport::generate_secret();
    let Some(path) = out else {
        writeln!(std::io::stdout(), "{}", *secret)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| writeln!(file, "{}", *secret));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::unusable(format_args!(
            "{} exists already and may hold a secret in use; choose another file, or delete it first",
            path.display()
        )),
        _ => Failure::unusable(format_args!("cannot write the secret to {}: {error}", path.display())),
    })?;
    writeln!(
        std::io::stderr(),
        "Wrote a new secret to {}. Copy the file to every host of the cluster and start each node with \
         --secret-file.",
        path.display()
    )?;
    Ok(ExitCode::SUCCESS)
}
