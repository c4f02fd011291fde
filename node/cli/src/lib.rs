//! The command line of the `networkdb` binary.

mod api;
mod commands;
mod demo;
mod failure;
mod import;
mod keygen;
mod keys;
mod logging;
mod output;
mod run;
pub mod settings;
mod tokens;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::demo::DemoOptions;
use crate::settings::RunOptions;
use api::Api;
pub(crate) use output::table as output_table;

/// Replicated tables for service discovery and other runtime state of a cluster.
#[derive(Debug, Parser)]
#[command(name = "networkdb", version, arg_required_else_help = true)]
#[command(
    after_help = "Try it: networkdb demo\n\nStatus: 0 done, 1 refused by the node or not in agreement, 2 wrong call or nobody to ask"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Run(Box<RunCommand>),
    /// Watch several nodes in this process find each other, share tables, lose one of them, and agree again
    Demo(DemoOptions),
    /// Make a secret for a cluster
    Keygen(KeygenCommand),
    /// Make tokens for HTTP: one for reading, one for changing, one for admin
    Tokengen(TokengenCommand),
    /// Show and exchange the secrets that a running node works with
    Keys(KeysCommand),
    /// Join a cluster through other nodes
    Join(JoinCommand),
    /// Show the members of the cluster
    Peers(PeersCommand),
    /// Join, leave and look at networks
    Network(NetworkCommand),
    /// Create, read, update and delete entries
    Entry(EntryCommand),
    /// Show the tables of a network
    Tables(TablesCommand),
    /// Show a table
    Table(TableCommand),
    /// Follow changes: first what is there, then each change as it happens
    Watch(WatchCommand),
    /// Read entries from JSON lines into a table
    Import(ImportCommand),
    /// Write a table as JSON lines
    Export(ExportCommand),
    /// Compare what several nodes show of their networks
    Agreement(AgreementCommand),
}

#[derive(Debug, Args)]
struct RunCommand {
    #[command(flatten)]
    options: RunOptions,
    /// Check the settings, print them as a configuration file, and end
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct KeygenCommand {
    /// Write the secret to this new file, readable by its owner only, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TokengenCommand {
    /// Write the tokens to this new file, readable by its owner only, instead of printing them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ClientOptions {
    /// Where the node answers HTTP
    #[arg(
        long,
        env = "NETWORKDB_API",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:2000",
        global = true
    )]
    api: Api,
    /// The file with the token to show to the node; without it NETWORKDB_TOKEN may hold one
    #[arg(long, env = "NETWORKDB_TOKEN_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Args)]
struct KeysCommand {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    what: KeysWhat,
}

/// To change a cluster's secret while it runs: on every node `add` the new one, then on every node `use` it, then on every
/// node `remove` the old one. Each change is written to the node's secret file; the node does not stop.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
enum KeysWhat {
    /// Show the fingerprints of the node's secrets, and how many of its connections prove themselves by each
    List,
    /// Accept another secret from peers
    Add {
        /// The file with the secret, "-" or nothing for the standard input; never on the command line itself
        file: Option<PathBuf>,
    },
    /// Prove itself by this secret, which it accepts already
    Use {
        /// As `keys list` shows it
        fingerprint: String,
    },
    /// Accept this secret no longer
    Remove {
        /// As `keys list` shows it
        fingerprint: String,
    },
    /// Work with exactly the secrets of this file, whatever was before; the first is the node's own
    Apply {
        /// The file, "-" or nothing for the standard input
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct JoinCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// Nodes of the cluster
    #[arg(required = true, value_name = "HOST[:PORT]")]
    seeds: Vec<String>,
}

#[derive(Debug, Args)]
struct PeersCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// Only the nodes on this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
}

#[derive(Debug, Args)]
struct NetworkCommand {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    what: NetworkWhat,
}

#[derive(Debug, Subcommand)]
enum NetworkWhat {
    /// Put the node on a network; its tables are there when this returns
    Join {
        /// The network's name
        network: String,
    },
    /// Take the node off a network; its entries there go everywhere
    Leave {
        /// The network's name
        network: String,
    },
    /// Show the networks the node is on
    List,
    /// Show counts and digest of a network
    Stats {
        /// The network's name
        network: String,
    },
}

#[derive(Debug, Args)]
struct EntryCommand {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    what: EntryWhat,
}

#[derive(Debug, Subcommand)]
enum EntryWhat {
    /// Make an entry; refused if the key is there
    Create(WriteEntry),
    /// Give an entry another value; refused if the key is not there
    Update(WriteEntry),
    /// Delete an entry
    Delete(EntryPlace),
    /// Print an entry's value
    Get {
        #[command(flatten)]
        place: EntryPlace,
        /// Print exactly the value's bytes, without a line end
        #[arg(long)]
        raw: bool,
    },
}

#[derive(Debug, Args)]
struct EntryPlace {
    /// The network's name
    network: String,
    /// The table's name
    table: String,
    /// The key
    key: String,
}

#[derive(Debug, Args)]
struct WriteEntry {
    #[command(flatten)]
    place: EntryPlace,
    /// The value as text
    #[arg(required_unless_present = "file")]
    value: Option<String>,
    /// Take the value's bytes from this file, "-" for the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TablesCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The network's name
    network: String,
}

#[derive(Debug, Args)]
struct TableCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The network's name
    network: String,
    /// The table's name
    table: String,
}

#[derive(Debug, Args)]
struct WatchCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// Only this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Only this table
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Leave out the node's own entries
    #[arg(long)]
    exclude_own: bool,
}

#[derive(Debug, Args)]
struct ImportCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The network's name
    network: String,
    /// The table's name
    table: String,
    /// Lines such as {"key":"k","value":"v"} or {"key":"k","value_base64":"dg=="}; without, the standard input
    file: Option<PathBuf>,
    /// What to do about a key that is there already: upsert gives it the new value, create reports it
    #[arg(long, value_enum, default_value_t = ImportMode::Upsert, hide_possible_values = true)]
    mode: ImportMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ImportMode {
    /// Give it the new value
    Upsert,
    /// Leave it alone and report it
    Create,
}

#[derive(Debug, Args)]
struct ExportCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The network's name
    network: String,
    /// The table's name
    table: String,
    /// Write to this file instead of the standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct AgreementCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// Only this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Where other nodes answer HTTP; may be repeated, or separated by commas
    #[arg(long = "with", value_name = "URL", value_delimiter = ',')]
    others: Vec<Api>,
    /// Show the token to those nodes too; without, it is shown to that of --api alone
    #[arg(long)]
    share_token: bool,
}

impl Command {
    /// How a command that asks a node is to do that.
    fn client(&mut self) -> Option<&mut ClientOptions> {
        match self {
            Self::Run(_) | Self::Demo(_) | Self::Keygen(_) | Self::Tokengen(_) => None,
            Self::Keys(KeysCommand { client, .. })
            | Self::Join(JoinCommand { client, .. })
            | Self::Peers(PeersCommand { client, .. })
            | Self::Network(NetworkCommand { client, .. })
            | Self::Entry(EntryCommand { client, .. })
            | Self::Tables(TablesCommand { client, .. })
            | Self::Table(TableCommand { client, .. })
            | Self::Watch(WatchCommand { client, .. })
            | Self::Import(ImportCommand { client, .. })
            | Self::Export(ExportCommand { client, .. })
            | Self::Agreement(AgreementCommand { client, .. }) => Some(client),
        }
    }
}

/// Runs the command that the process was called with, and says how it went.
pub fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    let outcome = match command {
        Command::Run(run) => run::run(run.options, run.check),
        Command::Demo(options) => crate::demo::run(&options),
        Command::Keygen(keygen) => keygen::keygen(keygen.out.as_deref()),
        Command::Tokengen(tokengen) => tokens::tokengen(tokengen.out.as_deref()),
        client => commands::run(client),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Command, clap::Error> {
        CommandLine::try_parse_from([&["networkdb"], words].concat()).map(|line| line.command)
    }

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_manual_is_understood() {
        for words in [
            &["run"][..],
            &[
                "run",
                "--name",
                "a",
                "--bind",
                "127.0.0.2",
                "--seed",
                "127.0.0.1",
                "--network",
                "n",
                "--check",
            ],
            &["demo", "--once", "--nodes", "5", "--file", "/etc/services"],
            &["keygen", "--out", "secret"],
            &["keys", "list", "--json"],
            &["keys", "add"],
            &["keys", "add", "secret"],
            &["keys", "use", "0123456789abcdef"],
            &["keys", "remove", "0123456789abcdef"],
            &["keys", "apply", "-"],
            &["tokengen", "--out", "http-tokens"],
            &["peers", "--token-file", "http-tokens"],
            &["join", "127.0.0.2", "host:7946"],
            &["peers", "--json", "--network", "n"],
            &["network", "join", "n", "--api", "http://127.0.0.1:2001"],
            &["network", "--json", "list"],
            &["network", "leave", "n"],
            &["network", "stats", "n"],
            &["entry", "create", "n", "t", "k", "v"],
            &["entry", "update", "n", "t", "k", "--file", "-"],
            &["entry", "delete", "n", "t", "k"],
            &["entry", "get", "n", "t", "k", "--raw"],
            &["tables", "n"],
            &["table", "n", "t"],
            &["watch", "--network", "n", "--table", "t", "--exclude-own"],
            &["import", "n", "t", "file", "--mode", "create"],
            &["export", "n", "t", "--out", "file"],
            &["agreement", "--with", "127.0.0.1:2001,127.0.0.1:2002", "--share-token"],
        ] {
            if let Err(error) = parse(words) {
                panic!("{words:?}: {error}");
            }
        }
    }

    #[test]
    fn wrong_calls_are_refused_with_status_2() {
        for words in [
            &["nosuch"][..],
            &["run", "--bind", "localhost"],
            &["run", "--label", "zone"],
            &["run", "--preset", "lam"],
            &["run", "--reap-time", "soon"],
            &["demo", "--nodes", "1"],
            &["demo", "--nodes", "10"],
            &["join"],
            &["keys"],
            &["entry", "create", "n", "t", "k"],
            &["entry", "create", "n", "t", "k", "v", "--file", "f"],
            &["peers", "--api", "https://127.0.0.1:2000"],
        ] {
            match parse(words) {
                Ok(command) => panic!("{words:?} is {command:?}"),
                Err(error) => assert_eq!(error.exit_code(), 2, "{words:?}"),
            }
        }
    }

    #[test]
    fn the_node_to_ask_is_the_local_one_unless_told() {
        let Ok(Command::Peers(peers)) = parse(&["peers"]) else { panic!("it is a call of peers") };
        // The environment may name another one; the default shows only without.
        if std::env::var_os("NETWORKDB_API").is_none() {
            assert_eq!(peers.client.api.to_string(), "http://127.0.0.1:2000");
        }
        assert!(!peers.client.json);
    }
}
