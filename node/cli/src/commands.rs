//! The commands that call a running node.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::LOCATION;
use hyper::{Method, Response, StatusCode};

use super::api::{Api, Condition, Lines, parameter, path, read_line};
use super::arguments::{
    ClientOptions, Command, EntryAction, EntryCommand, EntryPath, ExportCommand, ImportCommand, ImportMode,
    InfoCommand, JoinCommand, NetworkAction, NetworkCommand, PeersCommand, ReceiptOptions, TableCommand,
    TablesCommand, WriteEntry,
};
use super::escaping::harmless;
use super::failure::Failure;
use super::import::{open, upload};
use super::inquiries::{agreement, explain};
use super::keys::keys;
use super::operating;
use super::output::{age, json_line, print, print_done, print_json, shown, table};
use super::tokens::Token;
use super::trust::Trust;
use super::watch::watch;
use networkdb_http::v1::ProblemCode;
use networkdb_http::v1::model::{
    EntryRecord, ImportOutcome, JoinOutcome, JoinRequest, LeaveOutcome, MemberView, Members,
    NetworkJoinOutcome, NetworkView, Networks, NodeView, Peers, Tables, WriteOutcome,
};

/// Calls the node, prints its response, and returns the exit status.
pub(super) fn run(mut command: Command) -> Result<ExitCode, Failure> {
    let takes_several = matches!(command, Command::Watch(_));
    let as_own_user = matches!(
        command,
        Command::Keys(_) | Command::Join(_) | Command::Leave(_) | Command::Monitor(_) | Command::Debug(_)
    );
    if let Some(client) = command.client() {
        if client.apis.len() > 1 && !takes_several {
            return Err(Failure::unusable(
                "this command calls one node; only watch takes several after --api",
            ));
        }
        let token = Token::find(client.token_file.as_deref())?;
        let trust = Trust::find(client.http_authority_file.as_deref())?;
        for api in &mut client.apis {
            let complete = api.clone().with_token(token.clone()).with_trust(&trust);
            *api = if as_own_user { complete.over_socket() } else { complete };
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unusable(format_args!("cannot start the async runtime: {error}")))?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Keys(command) => keys(command).await,
            Command::Join(command) => join(command).await,
            Command::Info(command) => info(command).await,
            Command::Peers(command) => peers(command).await,
            Command::Rtt(command) => operating::rtt(command).await,
            Command::Network(command) => network(command).await,
            Command::Entry(command) => entry(command).await,
            Command::Tables(command) => tables(command).await,
            Command::Table(command) => show_table(command).await,
            Command::Watch(command) => watch(command).await,
            Command::Import(command) => import(command).await,
            Command::Export(command) => export(command).await,
            Command::Explain(command) => explain(command).await,
            Command::Agreement(command) => agreement(command).await,
            Command::Leave(command) => operating::leave(command).await,
            Command::Monitor(command) => operating::monitor(command).await,
            Command::Debug(command) => operating::debug(command).await,
            Command::Run(_)
            | Command::Demo(_)
            | Command::Keygen(_)
            | Command::Tokengen(_)
            | Command::Completions { .. }
            | Command::Man { .. } => unreachable!("these commands call no node"),
        }
    });
    // A blocked read of the standard input must not keep the process running.
    runtime.shutdown_background();
    outcome
}

async fn join(JoinCommand { client, seeds }: JoinCommand) -> Result<ExitCode, Failure> {
    let request = serde_json::to_vec(&JoinRequest { seeds }).map_err(Failure::unusable)?;
    let body = Some(("application/json", Body::from(request)));
    let response = client.api().request(Method::POST, "/v1/join", body).await?;
    let outcome: JoinOutcome = client.api().read_json(response).await?;
    if client.json {
        print_json(&outcome)?;
    } else {
        let noun = if outcome.answered == 1 { "node" } else { "nodes" };
        print(&format!("Joined the cluster: {} {noun} answered.\n", outcome.answered))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn info(InfoCommand { client }: InfoCommand) -> Result<ExitCode, Failure> {
    let node: NodeView = client.api().get("/v1/node").await?;
    if client.json {
        print_json(&node)?;
        return Ok(ExitCode::SUCCESS);
    }
    let NodeView { name, generation, address, version, uptime_seconds, networks } = node;
    let networks = networks.iter().map(|network| harmless(network)).collect::<Vec<_>>().join(", ");
    let rows = [
        ("name", name),
        ("instance", generation.to_string()),
        ("address", address),
        ("version", version),
        ("started", age(uptime_seconds)),
        ("networks", if networks.is_empty() { "none".to_owned() } else { networks }),
    ];
    let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    let lines = rows.map(|(what, value)| format!("{what:width$}  {}\n", harmless(&value)));
    print(&lines.concat())?;
    Ok(ExitCode::SUCCESS)
}

async fn peers(command: PeersCommand) -> Result<ExitCode, Failure> {
    let PeersCommand { client, network, states, labels } = command;
    let mut members: Members = client.api().get("/v1/members").await?;
    members.members.retain(|member| {
        let has = |(key, value): &(String, String)| member.labels.get(key) == Some(value);
        (states.is_empty() || states.contains(&member.state)) && labels.iter().all(has)
    });
    if let Some(network) = network {
        let Peers { peers } = client.api().get(&path(&["networks", &network, "peers"])).await?;
        members.members.retain(|member| peers.contains(&member.name));
    }
    if client.json {
        print_json(&members)?;
    } else {
        print(&member_table(&members.members))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn member_table(members: &[MemberView]) -> String {
    let rows = members.iter().map(|member| {
        let labels = member.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        vec![
            member.name.clone(),
            member.state.clone(),
            member.address.clone(),
            match member.last_seen_seconds {
                _ if member.this_node => "this node".to_owned(),
                Some(seconds) => age(seconds),
                None => "not directly".to_owned(),
            },
            harmless(&labels.join(",")).into_owned(),
        ]
    });
    table(&["NAME", "STATE", "ADDRESS", "LAST SEEN", "LABELS"], rows)
}

async fn network(NetworkCommand { client, action }: NetworkCommand) -> Result<ExitCode, Failure> {
    match action {
        NetworkAction::Join { network } => {
            let path = path(&["networks", &network]);
            let response = client.api().request_if(Condition::Absent, Method::PUT, &path, None).await?;
            let joined: NetworkJoinOutcome = client.api().read_json(response).await?;
            if client.json {
                print_json(&joined)?;
            } else {
                print(&format!("Joined network {}; {}.\n", harmless(&network), harmless(&joined.outcome)))?;
            }
        }
        NetworkAction::Leave { network, if_needed } => {
            let left = client.api().delete::<LeaveOutcome>(&path(&["networks", &network])).await;
            let left = match left {
                Err(failure) if if_needed && failure.is(ProblemCode::NetworkNotJoined) => {
                    print_done(client.json, "The node is not on the network.")?;
                    return Ok(ExitCode::SUCCESS);
                }
                left => left?,
            };
            let outcome = harmless(&left.outcome);
            if client.json {
                print_json(&left)?;
            } else {
                print(&format!("Left network {}; {outcome}.\n", harmless(&network)))?;
            }
        }
        NetworkAction::List => {
            let networks: Networks = client.api().get("/v1/networks").await?;
            if client.json {
                print_json(&networks)?;
            } else {
                print(&network_table(&networks.networks))?;
            }
        }
        NetworkAction::Stats { network } => {
            let view: NetworkView = client.api().get(&path(&["networks", &network])).await?;
            if client.json { print_json(&view)? } else { print(&network_table(&[view]))? }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn network_table(networks: &[NetworkView]) -> String {
    let rows = networks.iter().map(|network| {
        vec![
            harmless(&network.network).into_owned(),
            network.peers.to_string(),
            network.entries.to_string(),
            network.hidden.to_string(),
            network.tombstones.to_string(),
            network.queue_length.to_string(),
            network.digest.clone(),
        ]
    });
    table(&["NETWORK", "#NODES", "#ENTRIES", "#HIDDEN", "#DELETED", "#QUEUED", "DIGEST"], rows)
}

fn entry_path(EntryPath { network, table, key }: &EntryPath) -> String {
    path(&["networks", network, "tables", table, "entries", key])
}

async fn entry(EntryCommand { client, action }: EntryCommand) -> Result<ExitCode, Failure> {
    match action {
        EntryAction::Create(write) => {
            let response = write_entry(client.api(), &write, Condition::Absent).await?;
            report_write(&client, response, "Created").await?;
        }
        EntryAction::Put(write) => {
            let response = write_entry(client.api(), &write, Condition::None).await?;
            // A new entry has an address, also while too few members have it.
            let done = if response.headers().contains_key(LOCATION) { "Created" } else { "Replaced" };
            report_write(&client, response, done).await?;
        }
        EntryAction::Update { write, condition } => {
            let condition = condition.if_version.map_or(Condition::Present, Condition::Version);
            let response = write_entry(client.api(), &write, condition).await?;
            report_write(&client, response, "Updated").await?;
        }
        EntryAction::Delete { entry, condition, receipt, if_needed } => {
            let path = entry_path(&entry) + &receipt_query(&receipt);
            let condition = condition.if_version.map_or(Condition::None, Condition::Version);
            match client.api().request_if(condition, Method::DELETE, &path, None).await {
                Err(failure) if if_needed && failure.is(ProblemCode::EntryNotFound) => {
                    print_done(client.json, "There is no such entry.")?;
                }
                deleted => report_write(&client, deleted?, "Deleted").await?,
            }
        }
        EntryAction::Get { entry, raw } if client.json && !raw => {
            print_json(&client.api().get::<EntryRecord>(&entry_path(&entry)).await?)?;
        }
        EntryAction::Get { entry, raw } => {
            let response = client.api().request(Method::GET, &(entry_path(&entry) + "?raw"), None).await?;
            let value = client.api().read_bytes(response).await?;
            let mut stdout = std::io::stdout().lock();
            if raw || !stdout.is_terminal() {
                stdout.write_all(&value)?;
            } else {
                // A value from another node must not control the terminal.
                writeln!(stdout, "{}", harmless(&String::from_utf8_lossy(&value)))?;
            }
            stdout.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes an entry, and returns the response.
async fn write_entry(
    api: &Api,
    write: &WriteEntry,
    condition: Condition,
) -> Result<Response<Incoming>, Failure> {
    let value = match (&write.value, &write.file) {
        (Some(value), _) => value.clone().into_bytes(),
        (None, file) => read_value(file.as_deref())?,
    };
    let body = Some(("application/octet-stream", Body::from(value)));
    let path = entry_path(&write.entry) + &receipt_query(&write.receipt);
    api.request_if(condition, Method::PUT, &path, body).await
}

fn receipt_query(ReceiptOptions { known_by, within }: &ReceiptOptions) -> String {
    let known_by = known_by.map(|known_by| parameter("known_by", &known_by.to_string()));
    let within = within.map(|within| parameter("within", &format!("{}ms", within.as_millis())));
    let parameters: Vec<String> = known_by.into_iter().chain(within).collect();
    if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
}

/// Prints what a write did, and which members have it, if that was asked for. It fails if too few have it.
async fn report_write(
    client: &ClientOptions,
    response: Response<Incoming>,
    done: &str,
) -> Result<(), Failure> {
    if response.status() == StatusCode::NO_CONTENT {
        return print_done(client.json, &format!("{done}."));
    }
    let outcome: WriteOutcome = client.api().read_json(response).await?;
    let Some(receipt) = &outcome.receipt else { return print_done(client.json, &format!("{done}.")) };
    if client.json {
        print_json(&outcome)?;
    } else {
        let members = harmless(&receipt.known_by.join(", ")).into_owned();
        print(&format!("{done}. Known by {members}.\n"))?;
    }
    if receipt.known_by.len() >= receipt.wanted {
        return Ok(());
    }
    let missing = receipt.missing.iter();
    let missing = missing.map(|missing| format!("{} ({})", missing.member, missing.explanation));
    Err(Failure::Refused(format!(
        "the entry is written, but {} of {} members are known to have it; missing: {}",
        receipt.known_by.len(),
        receipt.wanted,
        harmless(&missing.collect::<Vec<_>>().join(", "))
    )))
}

fn read_value(file: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    open(file)?
        .read_to_end(&mut value)
        .map_err(|error| Failure::unusable(format_args!("cannot read the value: {error}")))?;
    Ok(value)
}

async fn tables(TablesCommand { client, network }: TablesCommand) -> Result<ExitCode, Failure> {
    let tables: Tables = client.api().get(&path(&["networks", &network, "tables"])).await?;
    if client.json {
        print_json(&tables)?;
    } else {
        let rows =
            tables.tables.iter().map(|row| vec![harmless(&row.table).into_owned(), row.entries.to_string()]);
        print(&table(&["TABLE", "#ENTRIES"], rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show_table(
    TableCommand { client, network, table: name }: TableCommand,
) -> Result<ExitCode, Failure> {
    let response = client
        .api()
        .request(Method::GET, &path(&["networks", &network, "tables", &name, "entries"]), None)
        .await?;
    let mut entries = Vec::new();
    let take = |line: &[u8]| {
        entries.push(read_line::<EntryRecord>(line)?);
        Ok(())
    };
    client.api().read_lines(response, Lines::each(take)).await?;
    if client.json {
        print_json(&serde_json::json!({ "entries": entries }))?;
    } else {
        let rows = entries.iter().map(|entry| {
            vec![
                harmless(&entry.key).into_owned(),
                shown(&entry.value, &entry.value_base64),
                entry.owner.clone().unwrap_or_default(),
            ]
        });
        print(&table(&["KEY", "VALUE", "OWNER"], rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn import(command: ImportCommand) -> Result<ExitCode, Failure> {
    let ImportCommand { client, network, table, file, mode } = command;
    let mode = match mode {
        ImportMode::Upsert => "upsert",
        ImportMode::Create => "create",
    };
    let path = path(&["networks", &network, "tables", &table, "entries"]) + "?" + &parameter("mode", mode);
    let body = Some(("application/x-ndjson", upload(open(file.as_deref())?)));
    let response = client.api().request(Method::POST, &path, body).await?;
    let outcome: ImportOutcome = client.api().read_json(response).await?;
    if client.json {
        print_json(&outcome)?;
    } else {
        let ImportOutcome { created, updated, unchanged, .. } = outcome;
        print(&format!("{created} created, {updated} updated, {unchanged} unchanged.\n"))?;
    }
    if outcome.failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let more = if outcome.failed as usize > outcome.errors.len() { "; …" } else { "" };
    let lines = if outcome.failed == 1 { "line was" } else { "lines were" };
    Err(Failure::Refused(format!(
        "{} {lines} not imported: {}{more}",
        outcome.failed,
        outcome.errors.join("; ")
    )))
}

async fn export(ExportCommand { client, network, table, out }: ExportCommand) -> Result<ExitCode, Failure> {
    let response = client
        .api()
        .request(Method::GET, &path(&["networks", &network, "tables", &table, "entries"]), None)
        .await?;
    let terminal = out.is_none() && std::io::stdout().is_terminal();
    let sink: Box<dyn std::io::Write> = match &out {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => Box::new(std::fs::File::create(path).map_err(|error| {
            Failure::unusable(format_args!("cannot write to {}: {error}", path.display()))
        })?),
    };
    let mut sink = std::io::BufWriter::new(sink);
    let mut count = 0_u64;
    let take = |line: &[u8]| {
        count += 1;
        sink.write_all(&json_line(line, terminal))?;
        Ok(sink.write_all(b"\n")?)
    };
    client.api().read_lines(response, Lines::each(take)).await?;
    sink.flush()?;
    if out.is_some() {
        print_done(client.json, &format!("{count} entries exported."))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, entries: usize, digest: &str) -> NetworkView {
        NetworkView {
            network: name.into(),
            entries,
            hidden: 0,
            tombstones: 1,
            refused: 0,
            queue_length: 0,
            peers: 3,
            synchronised: true,
            join: "synchronised".into(),
            digest: digest.into(),
        }
    }

    #[test]
    fn members_are_shown_in_columns() {
        let member = |name: &str, this_node, seen| MemberView {
            name: name.into(),
            generation: 1,
            address: "127.0.0.1:7946".into(),
            state: "alive".into(),
            state_seconds: 1.0,
            labels: [("zone".into(), "a".into())].into(),
            last_seen_seconds: seen,
            round_trip_seconds: None,
            this_node,
        };
        let members =
            [member("a", true, Some(0.0)), member("bb", false, Some(3.0)), member("c", false, None)];
        assert_eq!(
            member_table(&members),
            concat!(
                "NAME  STATE  ADDRESS         LAST SEEN     LABELS\n",
                "a     alive  127.0.0.1:7946  this node     zone=a\n",
                "bb    alive  127.0.0.1:7946  3 s ago       zone=a\n",
                "c     alive  127.0.0.1:7946  not directly  zone=a\n"
            )
        );
    }

    #[test]
    fn networks_are_shown_in_columns() {
        assert_eq!(
            network_table(&[network("services", 318, "00ff")]),
            concat!(
                "NETWORK   NODES  ENTRIES  HIDDEN  DELETED  QUEUED  DIGEST\n",
                "services      3      318       0        1       0  00ff\n"
            )
        );
    }
}
