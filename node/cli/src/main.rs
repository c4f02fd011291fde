//! The `networkdb` binary.

fn main() -> std::process::ExitCode {
    networkdb_cli::main()
}
