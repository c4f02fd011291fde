//! What the command line of the `networkdb` binary takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use networkdb::KnownBy;
use tabledb::Version;

use crate::api::Api;
use crate::demo::DemoOptions;
use crate::settings::RunOptions;
use crate::settings::values::{label, time};
use networkdb_http::v1::model::LogLevel;

/// Replicated tables for service discovery and other runtime state of a cluster.
#[derive(Debug, Parser)]
#[command(name = "networkdb", version, arg_required_else_help = true)]
#[command(
    after_help = "Try it: networkdb demo\n\nExit status: 0 success, 1 refused by the node or no agreement, 2 \
                  invalid call or no node reachable"
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
pub(crate) struct RunCommand {
    #[command(flatten)]
    pub(crate) options: RunOptions,
    /// Check the settings, print them as a configuration file, and exit
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenCommand {
    /// Write the secret to this new file, readable by its owner only, instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TokengenCommand {
    /// Write the tokens to this new file, readable by its owner only, instead of printing them
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
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
    pub(crate) apis: Vec<Api>,
    /// The file with the token for the node; the variable NETWORKDB_TOKEN can contain a token instead
    #[arg(long, env = "NETWORKDB_TOKEN_FILE", hide_env_values = true, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// The file with the certificates of the authorities to trust over HTTPS, in PEM, instead of those that the system trusts
    #[arg(
        long,
        env = "NETWORKDB_HTTP_AUTHORITY_FILE",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    pub(crate) http_authority_file: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl ClientOptions {
    /// The node of a command that calls one.
    pub(crate) fn api(&self) -> &Api {
        &self.apis[0]
    }
}

#[derive(Debug, Args)]
pub(crate) struct KeysCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    #[command(subcommand)]
    pub(crate) action: KeysAction,
}

/// To change a cluster's secret while it runs: `add` the new one on every node, then `use` it on every
/// node, then `remove` the old one on every node. The node writes each change to its secret file and
/// keeps running.
#[derive(Debug, Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum KeysAction {
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
pub(crate) struct JoinCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// Nodes of the cluster
    #[arg(required = true, value_name = "HOST[:PORT]")]
    pub(crate) seeds: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InfoCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

#[derive(Debug, Args)]
pub(crate) struct PeersCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// Only the nodes on this network
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Only the members in this state: alive, suspect, failed or left; may be repeated, or separated by commas
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = ["alive", "suspect", "failed", "left"], hide_possible_values = true)]
    pub(crate) states: Vec<String>,
    /// Only the members with this label; may be repeated, then with all of them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct RttCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// Only to these members
    #[arg(value_name = "NAME")]
    pub(crate) members: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    #[command(subcommand)]
    pub(crate) action: NetworkAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkAction {
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
pub(crate) struct EntryCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    #[command(subcommand)]
    pub(crate) action: EntryAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EntryAction {
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
pub(crate) struct EntryPath {
    /// The network's name
    pub(crate) network: String,
    /// The table's name
    pub(crate) table: String,
    /// The key
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct VersionCondition {
    /// Only if the entry still has this version, as `entry get --json` shows it; otherwise nothing changes
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<Version>,
}

#[derive(Debug, Args)]
pub(crate) struct ReceiptOptions {
    /// Return when so many members have the write: all, majority, or a number, the node included; status 1 if too few
    /// have it in time
    #[arg(long, value_name = "MEMBERS")]
    pub(crate) known_by: Option<KnownBy>,
    /// How long to wait for that, up to 20s [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = time, requires = "known_by")]
    pub(crate) within: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct WriteEntry {
    #[command(flatten)]
    pub(crate) entry: EntryPath,
    #[command(flatten)]
    pub(crate) receipt: ReceiptOptions,
    /// The value as text
    #[arg(required_unless_present = "file")]
    pub(crate) value: Option<String>,
    /// Read the value from this file, "-" for the standard input
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TablesCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The network's name
    pub(crate) network: String,
}

#[derive(Debug, Args)]
pub(crate) struct TableCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The network's name
    pub(crate) network: String,
    /// The table's name
    pub(crate) table: String,
}

#[derive(Debug, Args)]
pub(crate) struct WatchCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// Only this network
    pub(crate) network: Option<String>,
    /// Only this table of the network
    pub(crate) table: Option<String>,
    /// Only keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Only entries of this node
    #[arg(long, value_name = "NODE")]
    pub(crate) owner: Option<String>,
    /// Exclude the node's own entries
    #[arg(long)]
    pub(crate) exclude_own: bool,
    /// How long a node may be silent before the watch goes on at another one; nodes send something every ten seconds
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = silence)]
    pub(crate) max_silence: Duration,
}

/// The longest silence of a node.
fn silence(text: &str) -> Result<Duration, String> {
    let time = crate::settings::values::time(text)?;
    if time.is_zero() { Err("a node is always silent for a moment".to_owned()) } else { Ok(time) }
}

#[derive(Debug, Args)]
pub(crate) struct ImportCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The network's name
    pub(crate) network: String,
    /// The table's name
    pub(crate) table: String,
    /// The file with lines such as {"key":"k","value":"v"} or {"key":"k","value_base64":"dg=="}; the standard
    /// input for "-" or without a file
    pub(crate) file: Option<PathBuf>,
    /// For a key that exists already: upsert updates it, create reports an error
    #[arg(long, value_enum, default_value_t = ImportMode::Upsert, hide_possible_values = true)]
    pub(crate) mode: ImportMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportMode {
    /// Update it
    Upsert,
    /// Report an error
    Create,
}

#[derive(Debug, Args)]
pub(crate) struct ExportCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The network's name
    pub(crate) network: String,
    /// The table's name
    pub(crate) table: String,
    /// Write to this file instead of the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AgreementCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// Only this network
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// How long to wait for the answers of other members, up to 20s [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) within: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The network's name
    #[arg(required_unless_present = "member", requires = "table")]
    pub(crate) network: Option<String>,
    /// The table's name
    #[arg(requires = "key")]
    pub(crate) table: Option<String>,
    /// The key
    pub(crate) key: Option<String>,
    /// Explain this member instead: when it last answered, and who accused it
    #[arg(long, value_name = "NAME", conflicts_with = "network")]
    pub(crate) member: Option<String>,
    /// How long to wait for the answers of other members, up to 20s [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) within: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct LeaveCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
}

#[derive(Debug, Args)]
pub(crate) struct MonitorCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The least important level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    pub(crate) level: LogLevel,
}

#[derive(Debug, Args)]
pub(crate) struct DebugCommand {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The new file; without it networkdb-debug-NAME.json in this folder, by the name of the node
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

impl Command {
    /// The client options of a command that calls a node.
    pub(crate) fn client(&mut self) -> Option<&mut ClientOptions> {
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

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
