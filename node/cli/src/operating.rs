//! Commands for those who operate a node: how far the others are, its end, its log, and what a report of a fault should
//! contain.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::api::{Api, Lines};
use super::arguments::{DebugCommand, LeaveCommand, MonitorCommand, RttCommand};
use super::escaping::harmless;
use super::failure::Failure;
use super::output::{print, print_done, print_json, table};
use networkdb_http::v1::model::{LogRecord, MemberView, Members, NodeView};

/// Timeout of a node's end: it has its `--leave-time`, and the rest is for calls in progress.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between two looks at whether a node has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Shows the round-trip times to the members, the farthest first.
pub(super) async fn rtt(RttCommand { client, members: wanted }: RttCommand) -> Result<ExitCode, Failure> {
    let mut found: Members = client.api().get("/v1/members").await?;
    if let Some(unknown) = wanted.iter().find(|name| found.members.iter().all(|known| known.name != **name)) {
        return Err(Failure::Refused(format!(
            "the node knows no member {unknown}; `networkdb peers` shows those that it knows"
        )));
    }
    found.members.retain(|member| match wanted.is_empty() {
        true => !member.this_node && member.state != "left",
        false => wanted.contains(&member.name),
    });
    let time = |member: &MemberView| member.round_trip_seconds.unwrap_or(-1.0);
    found.members.sort_by(|one, other| time(other).total_cmp(&time(one)));
    match client.json {
        true => print_json(&found)?,
        false => print(&rtt_table(&found.members))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rtt_table(members: &[MemberView]) -> String {
    let rows = members.iter().map(|member| {
        let time = match member.round_trip_seconds {
            _ if member.this_node => "this node".to_owned(),
            Some(seconds) => format!("{:.3} ms", seconds * 1e3),
            // A node of a large cluster is connected with some of the others only.
            None => "not connected".to_owned(),
        };
        vec![member.name.clone(), member.state.clone(), time]
    });
    table(&["NAME", "STATE", "ROUND TRIP"], rows)
}

/// Has the node leave its cluster and end, and waits until it has.
pub(super) async fn leave(LeaveCommand { client }: LeaveCommand) -> Result<ExitCode, Failure> {
    let NodeView { name, generation, .. } = client.api().get("/v1/node").await?;
    client.api().request(Method::POST, "/v1/leave", None).await?;
    let ended = async {
        loop {
            match client.api().get::<NodeView>("/v1/node").await {
                Ok(node) if node.name == name && node.generation == generation => {}
                // A node that refuses calls is on its way; one that answers otherwise is another one.
                Err(Failure::Problem { .. } | Failure::Refused(_)) => {}
                _ => return,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
        let seconds = END_TIMEOUT.as_secs();
        return Err(Failure::Refused(format!("node {name} has not ended within {seconds} seconds")));
    }
    print_done(client.json, &format!("Node {} has left the cluster.", harmless(&name)))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the log of the node as it is written.
pub(super) async fn monitor(MonitorCommand { client, level }: MonitorCommand) -> Result<ExitCode, Failure> {
    let response = client.api().request(Method::GET, &format!("/v1/log?level={level}"), None).await?;
    let take = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        print(&if client.json { format!("{text}\n") } else { log_line(&text) })
    };
    client.api().read_lines(response, Lines::each(take)).await?;
    Err(Failure::unusable(format_args!("the node at {} ended the log; it is shutting down", client.api())))
}

/// A line of the log for people: `TIME LEVEL sentence name=value`.
fn log_line(line: &str) -> String {
    let Ok(LogRecord { timestamp, level, message, fields, .. }) = serde_json::from_str(line) else {
        return format!("{}\n", harmless(line));
    };
    let mut shown = format!("{} {level:>5} {message}", timestamp.unwrap_or_default());
    for (name, value) in fields {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        shown += &format!(" {name}={value}");
    }
    format!("{}\n", harmless(shown.trim_start()))
}

/// What a report of a fault needs: a name, and the call that gives it.
const SECTIONS: [(&str, &str); 6] = [
    ("node", "/v1/node"),
    ("members", "/v1/members"),
    ("networks", "/v1/networks"),
    ("keys", "/v1/keys"),
    ("metrics", "/metrics"),
    ("log", "/v1/log?latest_only"),
];

/// Writes what a report of a fault needs to a new file. No value of an entry is in it, and no secret: the calls
/// show neither.
pub(super) async fn debug(DebugCommand { client, out }: DebugCommand) -> Result<ExitCode, Failure> {
    let node: NodeView = client.api().get("/v1/node").await?;
    let mut bundle = Map::new();
    bundle.insert("command".to_owned(), json!({ "version": env!("CARGO_PKG_VERSION") }));
    for (name, path) in SECTIONS {
        let section = match read(client.api(), path).await {
            Ok(text) => section(&text),
            Err(failure) => json!({ "missing": failure.sentence() }),
        };
        bundle.insert(name.to_owned(), section);
    }
    let file =
        out.unwrap_or_else(|| PathBuf::from(format!("networkdb-debug-{}.json", file_name(&node.name))));
    let text = serde_json::to_string_pretty(&bundle).map_err(Failure::unusable)? + "\n";
    // A file that exists is not replaced: it may be the report of an earlier fault.
    let written = OpenOptions::new().write(true).create_new(true).open(&file);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        Failure::unusable(format_args!("cannot write the new file {}: {error}", file.display()))
    })?;
    let sentence = format!(
        "{} has the state of node {} without values and secrets; names of networks, members and labels are in it.",
        file.display(),
        harmless(&node.name)
    );
    print_done(client.json, &sentence)?;
    Ok(ExitCode::SUCCESS)
}

async fn read(api: &Api, path: &str) -> Result<String, Failure> {
    let response = api.request(Method::GET, path, None).await?;
    Ok(String::from_utf8_lossy(&api.read_bytes(response).await?).into_owned())
}

/// JSON as it is, lines of JSON as a list, other text as a list of its lines.
fn section(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| {
        let line = |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|_| line.into()) };
        text.lines().filter(|line| !line.is_empty()).map(line).collect()
    })
}

/// The name of a node as a part of the name of a file.
fn file_name(name: &str) -> String {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.chars().map(|c| if is_fine(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_shown_for_people_and_controls_no_terminal() {
        let line =
            r#"{"timestamp":"T","level":"INFO","message":"joined","answered":1,"peer":"a","target":"cli"}"#;
        assert_eq!(log_line(line), "T  INFO joined answered=1 peer=a\n");
        assert_eq!(log_line(r#"{"level":"WARN","message":"m"}"#), "WARN m\n");
        assert!(!log_line("{\"level\":\"INFO\",\"message\":\"\\u001b[2J\"}").contains('\u{1b}'));
        assert!(!log_line("no \u{1b}[2J").contains('\u{1b}'));
    }

    #[test]
    fn round_trips_are_shown_in_columns() {
        let member = |name: &str, time, this_node| MemberView {
            name: name.into(),
            generation: 1,
            address: "127.0.0.1:7946".into(),
            state: "alive".into(),
            state_seconds: 1.0,
            labels: Default::default(),
            last_seen_seconds: None,
            round_trip_seconds: time,
            this_node,
        };
        let members = [member("a", Some(0.0123), false), member("b", None, false), member("c", None, true)];
        assert_eq!(
            rtt_table(&members),
            concat!(
                "NAME  STATE  ROUND TRIP\n",
                "a     alive  12.300 ms\n",
                "b     alive  not connected\n",
                "c     alive  this node\n"
            )
        );
    }

    #[test]
    fn a_section_is_json_or_a_list_of_lines() {
        assert_eq!(section("{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(section("{\"a\":1}\n\n{\"a\":2}\n"), json!([{ "a": 1 }, { "a": 2 }]));
        assert_eq!(section("# HELP a\na 1\n"), json!(["# HELP a", "a 1"]));
    }

    #[test]
    fn no_name_of_a_node_leads_to_another_folder() {
        assert_eq!(file_name("../żółw 1"), "..____w_1");
    }
}
