//! The command line of the `networkdb` binary.

mod advice;
mod api;
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

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use networkdb::KnownBy;
use tabledb::Version;

use crate::demo::DemoOptions;
use crate::settings::RunOptions;
use crate::settings::values::{label, time};
use api::Api;
use networkdb_http::v1::model::LogLevel;

/// Replicated tables for service discovery and other runtime state of a cluster.
#[derive(Debug, Parser)]
#[command(name = "networkdb", version, arg_required_else_help = true)]
#[command(
    after_help = "Try it: networkdb demo\n\nExit status: 0 success, 1 refused by the node or no agreement, 2 \
                  invalid call or no node reachable"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Run(Box<RunCommand>),
    /// Demonstrate a cluster: several nodes in this process share tables, one crashes, and all agree again
    Demo(DemoOptions),
    /// Generate a secret for a cluster
    Keygen(KeygenCommand),
    /// Generate tokens for HTTP: one for reading, one for changing, one for admin
    Tokengen(TokengenCommand),
    /// Show and change the secrets of a running node
    Keys(KeysCommand),
    /// Join a cluster through other nodes
    Join(JoinCommand),
    /// Show the node: its name, address, version and networks
    Info(InfoCommand),
    /// Show the members of the cluster
    Peers(PeersCommand),
    /// Show how long packets take to the members of the cluster and back
    Rtt(RttCommand),
    /// Join, leave and show networks
    Network(NetworkCommand),
    /// Create, read, update and delete entries
    Entry(EntryCommand),
    /// Show the tables of a network
    Tables(TablesCommand),
    /// Show a table
    Table(TableCommand),
    /// Watch changes: print all entries, then each change as it happens
    Watch(WatchCommand),
    /// Import entries from JSON lines into a table
    Import(ImportCommand),
    /// Export a table as JSON lines
    Export(ExportCommand),
    /// Explain an entry, or a member: what every member knows about it
    Explain(ExplainCommand),
    /// Compare what all members show, network by network
    Agreement(AgreementCommand),
    /// Have the node leave its cluster and end, as SIGTERM does, and wait until it has
    Leave(LeaveCommand),
    /// Print the log of the node as it is written
    Monitor(MonitorCommand),
    /// Write what a report of a fault needs to a file: the state of the node, without values and secrets
    Debug(DebugCommand),
    /// Print the completions of a shell: source them, or write them to where the shell looks for them
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a folder
    Man {
        /// The folder; it must exist
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunCommand {
    #[command(flatten)]
    options: RunOptions,
    /// Check the settings, print them as a configuration file, and exit
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
    /// The URL of the node's HTTP endpoints, or unix:PATH for its admin socket; watch takes several, separated by commas
    #[arg(
        long = "api",
        env = "NETWORKDB_API",
        hide_env_values = true,
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2000",
        global = true
    )]
    apis: Vec<Api>,
    /// The file with the token for the node; the variable NETWORKDB_TOKEN can contain a token instead
    #[arg(long, env = "NETWORKDB_TOKEN_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// The file with the certificates of the authorities to trust over HTTPS, in PEM, instead of those that the system trusts
    #[arg(
        long,
        env = "NETWORKDB_HTTP_AUTHORITY_FILE",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    http_authority_file: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
}

impl ClientOptions {
    /// The node of a command that calls one.
    fn api(&self) -> &Api {
        &self.apis[0]
    }
}

#[derive(Debug, Args)]
struct KeysCommand {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    action: KeysAction,
}

/// To change a cluster's secret while it runs: `add` the new one on every node, then `use` it on every
/// node, then `remove` the old one on every node. The node writes each change to its secret file and
/// keeps running.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
enum KeysAction {
    /// Show the fingerprints of the node's secrets, and the number of connections that use each
    List,
    /// Accept another secret from peers
    Add {
        /// The file with the secret; the standard input for "-" or without a file
        file: Option<PathBuf>,
    },
    /// Authenticate with this secret, which the node accepts already
    Use {
        /// The fingerprint, as `keys list` shows it
        fingerprint: String,
    },
    /// Stop accepting this secret
    Remove {
        /// The fingerprint, as `keys list` shows it
        fingerprint: String,
    },
    /// Replace all secrets by those in this file; the node authenticates with the first one
    Apply {
        /// The file; the standard input for "-" or without a file
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
struct InfoCommand {
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Debug, Args)]
struct PeersCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// Only the nodes on this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Only the members in this state: alive, suspect, failed or left; may be repeated, or separated by commas
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = ["alive", "suspect", "failed", "left"], hide_possible_values = true)]
    states: Vec<String>,
    /// Only the members with this label; may be repeated, then with all of them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct RttCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// Only to these members
    #[arg(value_name = "NAME")]
    members: Vec<String>,
}

#[derive(Debug, Args)]
struct NetworkCommand {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    action: NetworkAction,
}

#[derive(Debug, Subcommand)]
enum NetworkAction {
    /// Join a network; returns after the initial sync of its tables
    Join {
        /// The network's name
        network: String,
    },
    /// Leave a network; all members drop the node's entries
    Leave {
        /// The network's name
        network: String,
        /// Succeed too if the node is not on the network
        #[arg(long)]
        if_needed: bool,
    },
    /// Show the networks that the node has joined
    List,
    /// Show the counts and the digest of a network
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
    action: EntryAction,
}

#[derive(Debug, Subcommand)]
enum EntryAction {
    /// Create an entry; refused if the key exists
    Create(WriteEntry),
    /// Create an entry or replace it, whichever node wrote it
    Put(WriteEntry),
    /// Update an entry; refused if the key does not exist
    Update {
        #[command(flatten)]
        write: WriteEntry,
        #[command(flatten)]
        condition: VersionCondition,
    },
    /// Delete an entry
    Delete {
        #[command(flatten)]
        entry: EntryPath,
        #[command(flatten)]
        condition: VersionCondition,
        #[command(flatten)]
        receipt: ReceiptOptions,
        /// Succeed too if there is no such entry
        #[arg(long)]
        if_needed: bool,
    },
    /// Print an entry's value as it is; on a terminal with a line end, and with control characters escaped
    Get {
        #[command(flatten)]
        entry: EntryPath,
        /// Print the value as it is on a terminal too
        #[arg(long)]
        raw: bool,
    },
}

#[derive(Debug, Args)]
struct EntryPath {
    /// The network's name
    network: String,
    /// The table's name
    table: String,
    /// The key
    key: String,
}

#[derive(Debug, Args)]
struct VersionCondition {
    /// Only if the entry still has this version, as `entry get --json` shows it; otherwise nothing changes
    #[arg(long, value_name = "VERSION")]
    if_version: Option<Version>,
}

#[derive(Debug, Args)]
struct ReceiptOptions {
    /// Return when so many members have the write: all, majority, or a number, the node included; status 1 if too few
    /// have it in time
    #[arg(long, value_name = "MEMBERS")]
    known_by: Option<KnownBy>,
    /// How long to wait for that, up to 20s [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = time, requires = "known_by")]
    within: Option<Duration>,
}

#[derive(Debug, Args)]
struct WriteEntry {
    #[command(flatten)]
    entry: EntryPath,
    #[command(flatten)]
    receipt: ReceiptOptions,
    /// The value as text
    #[arg(required_unless_present = "file")]
    value: Option<String>,
    /// Read the value from this file, "-" for the standard input
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
    network: Option<String>,
    /// Only this table of the network
    table: Option<String>,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Only entries of this node
    #[arg(long, value_name = "NODE")]
    owner: Option<String>,
    /// Exclude the node's own entries
    #[arg(long)]
    exclude_own: bool,
    /// How long a node may be silent before the watch goes on at another one; nodes send something every ten seconds
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = silence)]
    max_silence: Duration,
}

/// The longest silence of a node.
fn silence(text: &str) -> Result<Duration, String> {
    let time = crate::settings::values::time(text)?;
    if time.is_zero() { Err("a node is always silent for a moment".to_owned()) } else { Ok(time) }
}

#[derive(Debug, Args)]
struct ImportCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The network's name
    network: String,
    /// The table's name
    table: String,
    /// The file with lines such as {"key":"k","value":"v"} or {"key":"k","value_base64":"dg=="}; the standard
    /// input for "-" or without a file
    file: Option<PathBuf>,
    /// For a key that exists already: upsert updates it, create reports an error
    #[arg(long, value_enum, default_value_t = ImportMode::Upsert, hide_possible_values = true)]
    mode: ImportMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ImportMode {
    /// Update it
    Upsert,
    /// Report an error
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
    /// How long to wait for the answers of other members, up to 20s [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    within: Option<Duration>,
}

#[derive(Debug, Args)]
struct ExplainCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The network's name
    #[arg(required_unless_present = "member", requires = "table")]
    network: Option<String>,
    /// The table's name
    #[arg(requires = "key")]
    table: Option<String>,
    /// The key
    key: Option<String>,
    /// Explain this member instead: when it last answered, and who accused it
    #[arg(long, value_name = "NAME", conflicts_with = "network")]
    member: Option<String>,
    /// How long to wait for the answers of other members, up to 20s [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    within: Option<Duration>,
}

#[derive(Debug, Args)]
struct LeaveCommand {
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Debug, Args)]
struct MonitorCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The least important level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    level: LogLevel,
}

#[derive(Debug, Args)]
struct DebugCommand {
    #[command(flatten)]
    client: ClientOptions,
    /// The new file; without it networkdb-debug-NAME.json in this folder, by the name of the node
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Command {
    /// The client options of a command that calls a node.
    fn client(&mut self) -> Option<&mut ClientOptions> {
        match self {
            Self::Run(_)
            | Self::Demo(_)
            | Self::Keygen(_)
            | Self::Tokengen(_)
            | Self::Completions { .. }
            | Self::Man { .. } => None,
            Self::Keys(KeysCommand { client, .. })
            | Self::Join(JoinCommand { client, .. })
            | Self::Info(InfoCommand { client })
            | Self::Peers(PeersCommand { client, .. })
            | Self::Rtt(RttCommand { client, .. })
            | Self::Network(NetworkCommand { client, .. })
            | Self::Entry(EntryCommand { client, .. })
            | Self::Tables(TablesCommand { client, .. })
            | Self::Table(TableCommand { client, .. })
            | Self::Watch(WatchCommand { client, .. })
            | Self::Import(ImportCommand { client, .. })
            | Self::Export(ExportCommand { client, .. })
            | Self::Explain(ExplainCommand { client, .. })
            | Self::Agreement(AgreementCommand { client, .. })
            | Self::Leave(LeaveCommand { client })
            | Self::Monitor(MonitorCommand { client, .. })
            | Self::Debug(DebugCommand { client, .. }) => Some(client),
        }
    }
}

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
    fn every_documented_command_is_parsed() {
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
            &["peers", "--api", "https://db.example", "--http-authority-file", "authority"],
            &["join", "127.0.0.2", "host:7946"],
            &["info", "--json"],
            &["peers", "--json", "--network", "n"],
            &["peers", "--state", "alive,suspect", "--label", "zone=a", "--label", "rack=1"],
            &["network", "join", "n", "--api", "http://127.0.0.1:2001"],
            &["network", "--json", "list"],
            &["network", "leave", "n", "--if-needed"],
            &["network", "stats", "n"],
            &["entry", "create", "n", "t", "k", "v"],
            &["entry", "update", "n", "t", "k", "--file", "-"],
            &["entry", "put", "n", "t", "k", "v"],
            &["entry", "delete", "n", "t", "k", "--if-needed"],
            &["entry", "update", "n", "t", "k", "v", "--if-version", "1-2-3"],
            &["entry", "delete", "n", "t", "k", "--if-version", "1-2-3"],
            &["entry", "put", "n", "t", "k", "v", "--known-by", "all", "--within", "2s"],
            &["entry", "delete", "n", "t", "k", "--known-by", "3"],
            &["entry", "get", "n", "t", "k", "--raw"],
            &["rtt", "a", "b"],
            &["leave"],
            &["monitor", "--level", "debug", "--json"],
            &["debug", "--out", "report.json"],
            &["tables", "n"],
            &["table", "n", "t"],
            &["watch"],
            &["watch", "n", "--exclude-own"],
            &[
                "watch",
                "--prefix",
                "web/",
                "--owner",
                "a",
                "--max-silence",
                "1m",
                "--api",
                "a,b",
                "--api",
                "c",
            ],
            &["watch", "n", "t"],
            &["import", "n", "t", "file", "--mode", "create"],
            &["export", "n", "t", "--out", "file"],
            &["completions", "bash"],
            &["man", "folder"],
            &["explain", "n", "t", "k", "--within", "500ms"],
            &["explain", "--member", "a"],
            &["agreement", "--network", "n", "--within", "2s"],
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
            // A create needs no version: there must be no entry.
            &["entry", "create", "n", "t", "k", "v", "--if-version", "1-2-3"],
            &["entry", "update", "n", "t", "k", "v", "--if-version", "7"],
            &["entry", "delete", "n", "t", "k", "--if-version", "*"],
            &["entry", "put", "n", "t", "k", "v", "--within", "2s"],
            &["entry", "put", "n", "t", "k", "v", "--known-by", "some"],
            &["explain", "n", "t"],
            &["explain", "n", "t", "k", "--member", "a"],
            &["peers", "--api", "ftp://127.0.0.1:2000"],
            &["peers", "--state", "asleep"],
            &["peers", "--label", "zone"],
        ] {
            match parse(words) {
                Ok(command) => panic!("{words:?} is {command:?}"),
                Err(error) => assert_eq!(error.exit_code(), 2, "{words:?}"),
            }
        }
    }

    #[test]
    fn the_default_node_is_the_local_one() {
        let Ok(Command::Peers(peers)) = parse(&["peers"]) else { panic!("it is a call of peers") };
        // The environment may set another one.
        if std::env::var_os("NETWORKDB_API").is_none() {
            assert_eq!(peers.client.api().to_string(), "http://127.0.0.1:2000");
        }
        assert!(!peers.client.json);
    }
}
