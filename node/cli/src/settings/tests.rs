//! The precedence of the sources of settings, and their validation.

use std::io::Write as _;

use clap::{Arg, CommandFactory as _, Parser};
use tempfile::NamedTempFile;

use super::*;
use networkdb_http::access::Access;

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    options: RunOptions,
}

fn options(flags: &[&str]) -> RunOptions {
    Command::try_parse_from([&["run"], flags].concat()).unwrap().options
}

fn resolve(flags: &[&str]) -> Result<Settings, String> {
    Settings::resolve(options(flags), "host").map_err(|error| error.to_string())
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn by_default_a_node_is_reachable_from_its_own_host_only() {
    let settings = resolve(&[]).unwrap();
    assert_eq!(settings.name.as_str(), "host");
    assert_eq!(settings.cluster.as_str(), "default");
    assert_eq!(settings.bind, "127.0.0.1:7946".parse().unwrap());
    assert_eq!(settings.http.address, Some("127.0.0.1:2000".parse().unwrap()));
    assert!(settings.identity.is_development());
    assert_eq!(settings.reap_time, Duration::from_secs(1800));
    assert_eq!(settings.preset, Preset::Lan);
}

#[test]
fn with_a_secret_it_listens_on_all_addresses() {
    let secret = file(&transport::generate_secret());
    let settings = resolve(&["--secret-file", path(&secret)]).unwrap();
    assert_eq!(settings.bind, "0.0.0.0:7946".parse().unwrap());
    assert!(!settings.identity.is_development());
}

#[test]
fn flags_have_precedence_over_the_file_and_the_file_over_defaults() {
    let file = file(
        "name = \"from-file\"\nseed = [\"a\"]\nhttp = \"127.0.0.1:3000\"\npreset = \"wan\"\n[label]\nzone = \"a\"\n",
    );
    let settings =
        resolve(&["--config", path(&file), "--name", "from-flag", "--seed", "b", "--seed", "c,d"]).unwrap();
    assert_eq!(settings.name.as_str(), "from-flag");
    assert_eq!(settings.seeds, ["b", "c", "d"]);
    assert_eq!(settings.http.address, Some("127.0.0.1:3000".parse().unwrap()));
    assert_eq!(settings.preset, Preset::Wan);
    assert_eq!(settings.labels["zone"], "a");
    assert_eq!(settings.log_level, "info");
}

#[test]
fn other_hosts_have_access_with_a_secret_only() {
    let error = resolve(&["--bind", "0.0.0.0"]).unwrap_err();
    assert!(
        error.contains("0.0.0.0:7946 is not a loopback address") && error.contains("networkdb keygen"),
        "{error}"
    );
    assert!(resolve(&["--bind", "127.0.0.2"]).is_ok());
    assert!(resolve(&["--bind", "::1"]).is_ok());
}

#[test]
fn http_for_other_hosts_needs_tokens_or_a_declaration_that_it_is_open() {
    for address in ["0.0.0.0", "10.0.0.1:80", "::"] {
        let error = resolve(&["--http", address]).unwrap_err();
        assert!(error.contains("--http-token-file FILE") && error.contains("--http-open"), "{error}");
        assert!(resolve(&["--http", address, "--http-open"]).is_ok());
    }
    let tokens = file("change 0123456789abcdefghij\n");
    let settings = resolve(&["--http", "0.0.0.0", "--http-token-file", path(&tokens)]).unwrap();
    assert!(matches!(settings.http.config.access, Access::Tokens(_)));
    let error = resolve(&["--http-open", "--http-token-file", path(&tokens)]).unwrap_err();
    assert!(error.contains("contradict"), "{error}");
    let error = resolve(&["--http", "0.0.0.0", "--http-open", "false"]).unwrap_err();
    assert!(error.contains("--http-open"), "{error}");
}

#[test]
fn a_token_file_that_cannot_be_used_is_named() {
    let error = resolve(&["--http-token-file", "/nowhere/tokens"]).unwrap_err();
    assert!(error.starts_with("cannot read the HTTP token file /nowhere/tokens: "), "{error}");
    let wrong = file("swordfish\n");
    let error = resolve(&["--http-token-file", path(&wrong)]).unwrap_err();
    assert!(error.contains(path(&wrong)) && !error.contains("swordfish"), "{error}");
    for text in ["# none\n", "read swordfish\n"] {
        let wrong = file(text);
        let error = resolve(&["--http-token-file", path(&wrong)]).unwrap_err();
        assert!(error.contains("; make ") && error.contains("with `networkdb tokengen"), "{error}");
    }
}

#[test]
fn https_needs_both_files_and_the_error_names_the_origin_of_the_one_that_is_there() {
    let error = resolve(&["--http-certificate-file", "c"]).unwrap_err();
    let wanted = "--http-certificate-file is c (from the command line), but --http-key-file is missing";
    assert!(error.starts_with(wanted), "{error}");
    let config = file("http-key-file = \"/k\"\n");
    let error = resolve(&["--config", path(&config)]).unwrap_err();
    let of_file = format!("--http-key-file is /k (from the configuration file {})", path(&config));
    let wanted = format!("{of_file}, but --http-certificate-file is missing");
    assert!(error.starts_with(&wanted), "{error}");
    let error = resolve(&["--config", path(&config), "--http-certificate-file", "/nowhere/c"]).unwrap_err();
    assert!(error.starts_with("cannot read the HTTP certificate file /nowhere/c: "), "{error}");
}

#[test]
fn the_longest_body_can_hold_the_largest_value() {
    let bytes = |flags: &[&str]| resolve(flags).unwrap().http.config.limits.body_bytes;
    assert_eq!(bytes(&[]), 4 << 20);
    // The largest value that may be set is smaller.
    assert_eq!(bytes(&["--max-value-bytes", "3145728"]), 4 << 20);
    assert!(resolve(&["--max-value-bytes", "3145729"]).is_err());
    assert_eq!(bytes(&["--http-max-body-bytes", "10"]), 10);
    assert!(resolve(&["--http-max-requests", "0"]).is_err());
    assert!(resolve(&["--http-head-time", "0s"]).is_err());
}

#[test]
fn limits_on_the_command_line_have_precedence_over_the_file() {
    let file = file("max-networks = 7\n[limit]\nconnections = 10\nstreams = 20\nentries = 30\n");
    let flags = ["--config", path(&file), "--limit", "streams=21,tables=40", "--max-entries", "31"];
    let limits = resolve(&flags).unwrap().limits;
    assert_eq!((limits.transport.connections, limits.transport.streams), (10, 21));
    assert_eq!((limits.tables.tables, limits.tables.entries, limits.tables.networks), (40, 31, 7));
    let flags = ["--config", path(&file), "--limit", "networks=8"];
    assert_eq!(resolve(&flags).unwrap().limits.tables.networks, 8, "the flag is before the file");
    let error = Command::try_parse_from(["run", "--limit", "conections=1"]).unwrap_err().to_string();
    assert!(error.contains("--limit") && error.contains("no limit \"conections\""), "{error}");
    assert!(error.contains("there are: connections,"), "{error}");
}

#[test]
fn a_secret_and_a_certificate_exclude_each_other_and_a_certificate_is_whole() {
    let secret = file(&transport::generate_secret());
    let error = resolve(&["--secret-file", path(&secret), "--key-file", "k"]).unwrap_err();
    assert!(error.contains("exclude each other"), "{error}");
    let error = resolve(&["--certificate-file", "c", "--key-file", "k"]).unwrap_err();
    assert!(error.contains("--authority-file is missing"), "{error}");
    let error = resolve(&["--certificate-file", "/nowhere/c", "--key-file", "k", "--authority-file", "a"])
        .unwrap_err();
    assert!(error.starts_with("cannot read the certificate file /nowhere/c"), "{error}");
}

#[test]
fn files_that_are_missing_or_wrong_are_named() {
    let error = resolve(&["--secret-file", "/nowhere/secret"]).unwrap_err();
    assert!(error.starts_with("cannot read the secret file /nowhere/secret: "), "{error}");
    let error = resolve(&["--config", "/nowhere/config"]).unwrap_err();
    assert!(error.starts_with("cannot read the configuration file /nowhere/config: "), "{error}");
    let wrong = file("swordfish\n");
    let error = resolve(&["--secret-file", path(&wrong)]).unwrap_err();
    assert!(error.contains(path(&wrong)) && !error.contains("swordfish"), "{error}");
    let wrong = file("bind = 1\n");
    let error = resolve(&["--config", path(&wrong)]).unwrap_err();
    assert!(error.starts_with(&format!("configuration file {}: line 1: ", path(&wrong))), "{error}");
}

#[test]
fn relative_paths_start_at_the_folder_of_the_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), &*transport::generate_secret()).unwrap();
    let config = folder.path().join("node.toml");
    std::fs::write(&config, "secret-file = \"secret\"\n").unwrap();
    assert!(resolve(&["--config", config.to_str().unwrap()]).is_ok());
}

#[test]
fn an_advertised_address_without_port_gets_the_bound_port() {
    let settings = resolve(&["--bind", "127.0.0.1:9", "--advertise", "127.0.0.2"]).unwrap();
    assert_eq!(settings.advertise, Some("127.0.0.2:9".parse().unwrap()));
    let error = resolve(&["--advertise", "0.0.0.0"]).unwrap_err();
    assert!(error.contains("an address that other nodes can reach"), "{error}");
}

#[test]
fn the_advertised_address_is_detected_only_when_listening_on_all_addresses() {
    let settings = resolve(&["--bind", "127.0.0.1"]).unwrap();
    assert_eq!(settings.advertised_ip().unwrap(), None);
    let secret = file(&transport::generate_secret());
    let settings = resolve(&["--secret-file", path(&secret), "--seed", "host.invalid,127.0.0.5:1"]).unwrap();
    assert_eq!(settings.advertised_ip().unwrap(), Some("127.0.0.1".parse().unwrap()));
}

#[test]
fn empty_lists_are_empty() {
    let settings = resolve(&["--seed", "", "--network", ""]).unwrap();
    assert!(settings.seeds.is_empty() && settings.networks.is_empty());
    assert!(resolve(&["--network", "a,,b"]).is_err());
}

#[test]
fn a_host_name_that_is_not_a_node_name_is_refused() {
    let error = Settings::resolve(options(&[]), "").unwrap_err().to_string();
    assert!(error.contains("--name"), "{error}");
}

#[test]
fn the_printed_settings_are_a_file_with_the_same_settings() {
    let tokens = file("read 0123456789abcdefghij\n");
    for flags in [
        &[
            "--name",
            "n\"1",
            "--seed",
            "a,b",
            "--label",
            "zone=a",
            "--http",
            "off",
            "--advertise",
            "127.0.0.9",
        ][..],
        &["--http", "0.0.0.0", "--http-open", "--http-name", "a,b", "--http-head-time", "1m"],
        &["--http", "10.0.0.1:1", "--http-token-file", path(&tokens), "--http-max-watches", "0"],
    ] {
        let settings = resolve(flags).unwrap();
        let again = file(&settings.to_toml());
        assert_eq!(resolve(&["--config", path(&again)]).unwrap().to_toml(), settings.to_toml());
    }
}

/// The flags of all settings, with --config.
fn flags() -> Vec<Arg> {
    Command::command().get_arguments().cloned().collect()
}

/// The description and the default in the help of a flag.
fn help(flag: &Arg) -> (String, Option<String>) {
    let help = flag.get_help().unwrap().to_string();
    let Some((description, rest)) = help.split_once(" [default: ") else { return (help, None) };
    let (default, rest) = rest.split_once(']').unwrap();
    assert_eq!(rest, "", "the default is last: {help}");
    (description.to_owned(), Some(default.to_owned()))
}

#[test]
fn every_setting_has_a_flag_an_environment_variable_and_a_line_of_the_printed_file() {
    let printed = resolve(&[]).unwrap().to_toml();
    let flags = flags();
    assert!(flags.len() > 30, "{flags:?}");
    for flag in &flags {
        let name = flag.get_long().unwrap();
        let variable = flag.get_env().unwrap().to_str().unwrap();
        // Variables of lists are in the plural.
        let expected = format!("NETWORKDB_{}", name.to_uppercase().replace('-', "_"));
        assert!(variable == expected || variable == expected + "S", "{variable}");
        assert!(flag.is_hide_env_values_set(), "{name}");
        let has = |line: &str| line.starts_with(&format!("{name} = ")) || line == format!("[{name}]");
        let shown = printed.lines().any(|line| has(line) || line == format!("# {name} is not set"));
        assert!(shown || name == "config", "{name} is not in\n{printed}");
    }
}

#[test]
fn the_defaults_in_the_help_are_in_force() {
    let without = resolve(&[]).unwrap().to_toml();
    let mut in_words = Vec::new();
    for flag in flags() {
        let Some(default) = help(&flag).1 else { continue };
        let name = flag.get_long().unwrap();
        if default.contains(' ') {
            in_words.push(name.to_owned());
        } else {
            let with = resolve(&[&format!("--{name}={default}")]).unwrap().to_toml();
            assert_eq!(with, without, "--{name}={default}");
        }
    }
    // The parts of these are in other tests of this file.
    assert_eq!(in_words, ["name", "bind", "advertise", "admin-socket", "http-max-body-bytes"]);
}

/// The README's table of settings.
fn table() -> String {
    let mut table = "| flag | environment | default | |\n|---|---|---|---|\n".to_owned();
    for flag in flags() {
        let (name, (description, default)) = (flag.get_long().unwrap(), help(&flag));
        let variable = flag.get_env().unwrap().to_str().unwrap();
        let default = default.as_deref().unwrap_or("none");
        table += &format!("| `--{name}` | `{variable}` | {default} | {description} |\n");
    }
    table
}

#[test]
fn the_readme_has_the_table_of_all_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let start = text.find("| flag | environment |").expect("there is a table of settings");
    let end = start + text[start..].find("\n\n").unwrap() + 1;
    let table = table();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, [&text[..start], &table, &text[end..]].concat()).unwrap();
        return;
    }
    for (found, expected) in text[start..end].lines().zip(table.lines()) {
        assert_eq!(found, expected, "run this test with UPDATE_README=1, and it writes the table");
    }
    assert_eq!(text[start..end].len(), table.len(), "run this test with UPDATE_README=1");
}
