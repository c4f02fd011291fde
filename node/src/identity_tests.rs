//! Changes of secrets, in their file and in use, and errors that prevent them.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;
use transport::{MAX_SECRETS, SECRET_PREFIX, Secret, generate_secret};
use wire::NodeName;

use super::*;
use crate::{Node, NodeConfig};

fn secret() -> Secret {
    Secret::parse(&generate_secret()).unwrap()
}

fn text_of(secrets: &[&Secret]) -> String {
    secrets.iter().map(|secret| format!("{}\n", *secret.to_text())).collect()
}

fn set_of(secrets: &[&Secret]) -> KeySet {
    KeySet::parse(&text_of(secrets)).unwrap()
}

/// A node that has been started with a secret file.
struct Started {
    node: Node,
    folder: TempDir,
    path: PathBuf,
}

impl Started {
    async fn with(secrets: &[&Secret]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, format!("# the cluster's\n{}# and no more\n", text_of(secrets))).unwrap();
        let source = IdentitySource::SecretFile(path.clone());
        let identity = source.read().unwrap().unwrap();
        let config = NodeConfig::new(NodeName::new("a").unwrap(), "127.0.0.1:0".parse().unwrap(), identity);
        let node = Node::start(NodeConfig { identity_source: source, ..config }).await.unwrap();
        Self { node, folder, path }
    }

    fn in_use(&self) -> KeySet {
        self.node.transport().identity().secrets().unwrap().clone()
    }

    fn in_file(&self) -> KeySet {
        KeySet::parse(&std::fs::read_to_string(&self.path).unwrap()).unwrap()
    }

    #[track_caller]
    fn holds(&self, secrets: &[&Secret]) {
        assert_eq!((self.in_use(), self.in_file()), (set_of(secrets), set_of(secrets)));
    }
}

#[tokio::test]
async fn every_change_is_idempotent_and_reaches_the_file_and_the_secrets_in_use() {
    let (old, new) = (secret(), secret());
    let started = Started::with(&[&old]).await;
    std::fs::set_permissions(&started.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let steps = [
        (KeyChange::Add(set_of(&[&new])), vec![&old, &new]),
        (KeyChange::Use(new.fingerprint()), vec![&new, &old]),
        (KeyChange::Remove(old.fingerprint()), vec![&new]),
        (KeyChange::Replace(set_of(&[&old, &new])), vec![&old, &new]),
    ];
    for (change, expected) in steps {
        started.node.change_keys(&change).unwrap();
        started.holds(&expected);
        if !matches!(change, KeyChange::Remove(_)) {
            started.node.change_keys(&change).unwrap();
            started.holds(&expected);
        }
    }
    let text = std::fs::read_to_string(&started.path).unwrap();
    assert!(text.starts_with("# the cluster's\n# and no more\n"), "comments stay: {text}");
    assert_eq!(std::fs::metadata(&started.path).unwrap().permissions().mode() & 0o777, 0o600);
    let left = std::fs::read_dir(started.folder.path()).unwrap().count();
    assert_eq!(left, 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_refused_change_changes_nothing() {
    let (old, unknown) = (secret(), secret());
    let started = Started::with(&[&old]).await;
    let refused = |change| started.node.change_keys(&change).unwrap_err().to_string();
    let text = refused(KeyChange::Remove(old.fingerprint()));
    assert!(text.contains("use another one before"), "{text}");
    for change in [KeyChange::Use(unknown.fingerprint()), KeyChange::Remove(unknown.fingerprint())] {
        let text = refused(change);
        assert!(text.contains(&unknown.fingerprint().to_string()), "{text}");
    }
    let many: Vec<Secret> = (0..MAX_SECRETS).map(|_| secret()).collect();
    let text = refused(KeyChange::Add(set_of(&many.iter().collect::<Vec<_>>())));
    assert!(text.contains("more than 16"), "{text}");
    started.holds(&[&old]);
}

#[tokio::test]
async fn a_file_that_another_process_changed_is_not_overwritten() {
    let (old, theirs, mine) = (secret(), secret(), secret());
    let started = Started::with(&[&old]).await;
    std::fs::write(&started.path, text_of(&[&old, &theirs])).unwrap();
    let error = started.node.change_keys(&KeyChange::Add(set_of(&[&mine]))).unwrap_err();
    assert!(
        matches!(error, ChangeKeysError::FileDiffers(_)) && error.to_string().contains("read it again"),
        "{error}"
    );
    assert_eq!((started.in_use(), started.in_file()), (set_of(&[&old]), set_of(&[&old, &theirs])));
    // A change that the file has already is accepted: another process made the same step.
    started.node.change_keys(&KeyChange::Add(set_of(&[&theirs]))).unwrap();
    started.holds(&[&old, &theirs]);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_leaves_the_secrets_unchanged() {
    let old = secret();
    let started = Started::with(&[&old]).await;
    // This folder blocks the temporary file, also for a privileged process.
    let beside = started.folder.path().join(format!(".secret.{}.new", std::process::id()));
    std::fs::create_dir(beside).unwrap();
    let error = started.node.change_keys(&KeyChange::Add(set_of(&[&secret()]))).unwrap_err();
    assert!(matches!(error, ChangeKeysError::Write { .. }), "{error}");
    started.holds(&[&old]);
}

#[tokio::test]
async fn the_file_behind_a_link_is_replaced_and_the_link_stays() {
    let (old, new) = (secret(), secret());
    let mut started = Started::with(&[&old]).await;
    let target = started.folder.path().join("target");
    std::fs::rename(&started.path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &started.path).unwrap();
    started.node.change_keys(&KeyChange::Add(set_of(&[&new]))).unwrap();
    assert!(std::fs::symlink_metadata(&started.path).unwrap().is_symlink());
    started.path = target;
    started.holds(&[&old, &new]);
}

#[tokio::test]
async fn files_are_reloaded_and_an_invalid_file_changes_nothing() {
    let (old, new) = (secret(), secret());
    let started = Started::with(&[&old]).await;
    // A whole set at once.
    std::fs::write(&started.path, text_of(&[&new])).unwrap();
    started.node.reread_identity().unwrap();
    started.holds(&[&new]);
    for nonsense in ["", "# nothing\n", "swordfish\n"] {
        std::fs::write(&started.path, nonsense).unwrap();
        let error = started.node.reread_identity().unwrap_err();
        assert!(error.to_string().contains("secret file"), "{error}");
        assert_eq!(started.in_use(), set_of(&[&new]));
    }
    std::fs::remove_file(&started.path).unwrap();
    assert!(matches!(started.node.reread_identity(), Err(ChangeKeysError::File(_))));
    assert_eq!(started.in_use(), set_of(&[&new]));
}

#[tokio::test]
async fn a_node_without_a_secret_file_has_nothing_to_change() {
    let config =
        NodeConfig::new(NodeName::new("a").unwrap(), "127.0.0.1:0".parse().unwrap(), KeySet::development());
    let node = Node::start(config).await.unwrap();
    let change = KeyChange::Add(set_of(&[&secret()]));
    assert!(matches!(node.change_keys(&change), Err(ChangeKeysError::NoFile)));
    assert!(matches!(node.reread_identity(), Err(ChangeKeysError::NoFile)));
}

#[tokio::test]
async fn no_part_of_a_node_shows_a_secret_when_it_is_formatted() {
    let secret = secret();
    let started = Started::with(&[&secret]).await;
    let text = secret.to_text().to_string();
    let encoded = &text[SECRET_PREFIX.len()..];
    let node = &started.node;
    let change = KeyChange::Replace(set_of(&[&secret]));
    let broken =
        std::fs::write(&started.path, format!("{text}x")).map(|()| node.reread_identity().unwrap_err());
    let shown = format!(
        "{node:?} {node:#?} {:?} {:?} {change:?} {broken:?} {:?}",
        node.transport().identity(),
        node.identity_source(),
        broken.as_ref().map(ToString::to_string),
    );
    assert!(!shown.contains(encoded), "{shown}");
    assert!(shown.contains(&secret.fingerprint().to_string()));
}
