//! Every documented command is one.

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
        &["run", "--name", "a", "--bind", "127.0.0.2", "--seed", "127.0.0.1", "--network", "n", "--check"],
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
        &["watch", "--prefix", "web/", "--owner", "a", "--max-silence", "1m", "--api", "a,b", "--api", "c"],
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
