//! The binary under test.

use std::process::Command;

/// A call of `networkdb`, without the settings in the environment of the test.
pub(crate) fn networkdb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_networkdb"));
    command.args(arguments);
    // The folder of the admin sockets.
    command.env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"));
    // The folder of authorities that the host trusts.
    command.env_remove("SSL_CERT_DIR");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NETWORKDB_") {
            command.env_remove(name);
        }
    }
    command
}
