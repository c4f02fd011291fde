//! The command line of the binary: its output and its exit status.

use std::path::Path;
use std::process::{Command, Output};

use crate::program::networkdb;

fn ends(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code().expect("it ends by itself"), text(stdout), text(stderr))
}

#[track_caller]
fn assert_refused(arguments: &[&str], sentences: &[&str]) {
    let (status, stdout, stderr) = ends(&mut networkdb(arguments));
    assert_eq!(status, 2, "{arguments:?}: {stderr}");
    assert_eq!(stdout, "", "{arguments:?}");
    for sentence in sentences {
        assert!(stderr.contains(sentence), "{arguments:?}: {sentence:?} is not in {stderr:?}");
    }
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
}

#[test]
fn an_invalid_call_ends_with_status_2_and_a_valid_example() {
    assert_refused(&["nosuch"], &["nosuch", "--help"]);
    assert_refused(
        &["run", "--bind", "localhost"],
        &["\"localhost\" is not an IP address; valid examples: 127.0.0.1"],
    );
    assert_refused(&["run", "--label", "zone"], &["\"zone\" is not a label; valid examples: zone=a"]);
    assert_refused(&["run", "--preset", "lam"], &["lam", "lan, wan, loopback"]);
    assert_refused(&["run", "--name", ""], &["a node name is empty"]);
    assert_refused(&["run", "--reap-time", "soon"], &["soon", "--reap-time"]);
    assert_refused(
        &["run", "--log-level", "transport=loud"],
        &["is not a log filter; valid examples: error, warn"],
    );
    assert_refused(&["run", "--log-level", "nodes=debug"], &["the parts are audit, cli, http"]);
    assert_refused(&["peers", "--api", "ftp://127.0.0.1"], &["valid examples: http://127.0.0.1:2000"]);
    assert_refused(&["demo", "--nodes", "1"], &["2..=9"]);
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["entry", "create", "--help"]] {
        let (status, stdout, stderr) = ends(&mut networkdb(arguments));
        assert_eq!((status, stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(!stdout.is_empty());
    }
}

#[test]
fn a_missing_or_wrong_file_is_named_in_one_sentence() {
    assert_refused(
        &["run", "--secret-file", "/nowhere/secret"],
        &["networkdb: cannot read the secret file /nowhere/secret: "],
    );
    assert_refused(&["demo", "--file", "/nowhere/services"], &["networkdb: cannot read /nowhere/services: "]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    std::fs::write(&config, "name = \"a\"\nsedes = []\n").unwrap();
    let config = config.to_str().unwrap();
    assert_refused(
        &["run", "--config", config],
        &[&format!("configuration file {config}: line 2: there is no setting \"sedes\"; there are: name")],
    );
    let (_, _, stderr) = ends(&mut networkdb(&["run", "--config", config]));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_wrong_secret_is_refused_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "swordfish\n").unwrap();
    let path = secret.to_str().unwrap();
    assert_refused(&["run", "--secret-file", path], &[path, "networkdb keygen"]);
    let (_, _, stderr) = ends(&mut networkdb(&["run", "--secret-file", path]));
    assert!(!stderr.contains("swordfish"), "{stderr}");
}

#[test]
fn other_hosts_need_a_secret() {
    assert_refused(
        &["run", "--bind", "0.0.0.0"],
        &["0.0.0.0:7946 is not a loopback address", "networkdb keygen --out secret", "--secret-file"],
    );
}

#[test]
fn keygen_prints_a_secret_that_run_accepts() {
    let (status, stdout, stderr) = ends(&mut networkdb(&["keygen"]));
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(stdout.lines().count(), 1);
    assert!(stdout.starts_with(transport::SECRET_PREFIX));
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, stdout).unwrap();
    let (status, settings, _) =
        ends(&mut networkdb(&["run", "--check", "--secret-file", secret.to_str().unwrap()]));
    assert_eq!(status, 0);
    assert!(settings.contains("bind = \"0.0.0.0:7946\""), "{settings}");
}

#[test]
fn keygen_writes_a_file_for_its_owner_only_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let path_text = path.to_str().unwrap();
    let (status, stdout, stderr) = ends(&mut networkdb(&["keygen", "--out", path_text]));
    assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(!stderr.contains(before.trim()), "the secret is on the terminal");
    assert_eq!(mode(&path), 0o600);
    assert_refused(&["keygen", "--out", path_text], &[path_text, "exists already"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn flags_have_precedence_over_the_environment_the_file_and_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("node.toml");
    std::fs::write(
        &config,
        "name = \"file\"\ncluster = \"file\"\npreset = \"wan\"\nseed = [\"file\"]\nlabel = { from = \"file\" }\n",
    )
    .unwrap();
    let mut command = networkdb(&["run", "--check", "--name", "flag"]);
    command
        .env("NETWORKDB_CONFIG", &config)
        .env("NETWORKDB_NAME", "environment")
        .env("NETWORKDB_CLUSTER", "environment")
        .env("NETWORKDB_SEEDS", "environment-1,environment-2")
        .env("NETWORKDB_LABELS", "from=environment");
    let (status, settings, stderr) = ends(&mut command);
    assert_eq!(status, 0, "{stderr}");
    for line in [
        "name = \"flag\"",
        "cluster = \"environment\"",
        "seed = [\"environment-1\", \"environment-2\"]",
        "preset = \"wan\"",
        "log-level = \"info\"",
    ] {
        assert!(settings.lines().any(|found| found == line), "{line} is not in\n{settings}");
    }
    assert!(
        settings.contains("from\" = \"environment\"") || settings.contains("from = \"environment\""),
        "{settings}"
    );
}

#[test]
fn a_wrong_environment_variable_is_refused_like_a_flag() {
    let (status, _, stderr) = ends(networkdb(&["run", "--check"]).env("NETWORKDB_BIND", "localhost"));
    assert_eq!(status, 2);
    assert!(stderr.contains("\"localhost\" is not an IP address"), "{stderr}");
    assert!(stderr.contains("of the environment variable NETWORKDB_BIND"), "{stderr}");
    let (status, _, stderr) = ends(networkdb(&["run", "--check"]).env("NETWORKDB_SEED", "10.0.0.1"));
    assert_eq!(status, 2);
    assert!(stderr.contains("did you mean NETWORKDB_SEEDS?"), "{stderr}");
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let (status, script, _) = ends(&mut networkdb(&["completions", "bash"]));
    assert!(status == 0 && script.contains("--secret-file"), "{script}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(ends(&mut networkdb(&["man", path])).0, 0);
    let page = std::fs::read_to_string(folder.path().join("networkdb-run.1")).unwrap();
    assert!(page.contains("NETWORKDB_SECRET_FILE"), "{page}");
    assert_refused(&["man", "/no/such/folder"], &["/no/such/folder", "manual pages"]);
}

#[test]
fn without_a_reachable_node_a_client_ends_with_status_2() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let api = format!("http://127.0.0.1:{port}");
    assert_refused(
        &["peers", "--api", &api],
        &[&format!("networkdb: no node answers at {api} ("), "`networkdb run`"],
    );
    let (status, _, stderr) = ends(networkdb(&["peers"]).env("NETWORKDB_API", &api));
    assert_eq!(status, 2);
    assert!(stderr.contains(&api), "{stderr}");
}
