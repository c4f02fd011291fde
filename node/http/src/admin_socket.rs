//! The Unix socket on which a node serves its own user, with all rights: a process that can open it can also
//! read the secret file.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// Why the socket was not created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another node serves it.
    #[error("the admin socket {} is in use by another node", .0.display())]
    InUse(PathBuf),
    /// The path exists, and is not a socket.
    #[error("{} exists already, and is not a socket", .0.display())]
    Occupied(PathBuf),
    /// The system refused it.
    #[error("cannot create the admin socket {}: {error}", path.display())]
    Unusable {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Other users could replace the socket.
    #[error(
        "the folder {} of the admin socket belongs to another user, or other users may write there",
        .0.display()
    )]
    Folder(PathBuf),
}

/// A socket that only the node's user and root can use. Dropping this removes it.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the created file, so that a file that replaced it is not removed.
    file: (u64, u64),
}

impl AdminSocket {
    /// Creates the socket of the node that serves HTTP at `address`, at the path where its user's commands
    /// look for it.
    pub fn bind_default(address: SocketAddr) -> Result<Self, SocketError> {
        let mut refused = None;
        for folder in folders() {
            let made = own_folder(&folder).and_then(|()| Self::bind(&folder.join(name(address))));
            match made {
                Ok(socket) => return Ok(socket),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.expect("there is always a folder to try"))
    }

    /// Creates the socket at `path`. Replaces one that a dead process has left there.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let unusable = |error| SocketError::Unusable { path: path.to_owned(), error };
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if !is_socket(path) {
                    return Err(SocketError::Occupied(path.to_owned()));
                }
                // A full backlog also means that a node serves the socket.
                match std::os::unix::net::UnixStream::connect(path) {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    _ => return Err(SocketError::InUse(path.to_owned())),
                }
                std::fs::remove_file(path).map_err(unusable)?;
                UnixListener::bind(path)
            }
            bound => bound,
        }
        .map_err(unusable)?;
        // Before this, other users may connect; `accept` refuses them by their user ID.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(unusable)?;
        let found = std::fs::symlink_metadata(path).map_err(unusable)?;
        Ok(Self { listener, path: path.to_owned(), file: (found.dev(), found.ino()) })
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection of the node's user or root. Closes the connections of other users.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let user = stream.peer_cred().map(|caller| caller.uid());
            match user {
                Ok(user) if user == 0 || user == geteuid().as_raw() => return Ok(stream),
                Ok(user) => tracing::warn!(user, "refused a connection of another user to the admin socket"),
                Err(error) => tracing::debug!(%error, "a client of the admin socket disconnected at once"),
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            // If it cannot be removed, the next node replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The socket of the node that serves HTTP at `host` and `port`, if it is on this host and belongs to this
/// user.
pub fn find(host: &str, port: u16) -> Option<PathBuf> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) if host == "localhost" => {
            vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]
        }
        Err(_) => return None,
    };
    // A node that listens on all addresses also listens on this one, if it is an address of this host.
    let everywhere = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
    let everywhere = everywhere.into_iter().filter(|_| addresses.iter().any(IpAddr::is_loopback));
    let addresses = addresses.iter().copied().chain(everywhere).collect::<Vec<_>>();
    folders().into_iter().filter(|folder| is_own(folder)).find_map(|folder| {
        let mut paths = addresses.iter().map(|address| folder.join(name((*address, port).into())));
        paths.find(|path| is_socket(path))
    })
}

/// The socket's file name for the node that serves HTTP at `address`; unique on a host.
fn name(address: SocketAddr) -> String {
    format!("{address}.sock")
}

/// The folders for sockets of this user's nodes, in order: the user's runtime folder; /run for root; a folder
/// in /tmp that must belong to this user.
fn folders() -> Vec<PathBuf> {
    let user = geteuid();
    let of_session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let of_session = of_session.filter(|folder| folder.is_absolute() && is_own(folder));
    let of_root = user.is_root().then(|| PathBuf::from("/run"));
    let mut folders =
        of_session.into_iter().chain(of_root).map(|folder| folder.join("networkdb")).collect::<Vec<_>>();
    folders.push(PathBuf::from(format!("/tmp/networkdb-{}", user.as_raw())));
    folders
}

fn own_folder(folder: &Path) -> Result<(), SocketError> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(SocketError::Unusable { path: folder.to_owned(), error })
        }
        _ if is_own(folder) => Ok(()),
        _ => Err(SocketError::Folder(folder.to_owned())),
    }
}

/// Whether this is a folder, not a link to one, that belongs to this user and that no other user may write.
fn is_own(folder: &Path) -> bool {
    std::fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0)
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_to_its_user_and_removed_with_its_node() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::InUse(_))), "its node is running");
        let (_caller, accepted) = tokio::join!(UnixStream::connect(&path), socket.accept());
        accepted.unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_the_socket_of_a_dead_node_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(is_socket(&path), "it is left behind");
        let first = AdminSocket::bind(&path).unwrap();
        // A socket that replaced the first one stays when the first is dropped.
        std::fs::remove_file(&path).unwrap();
        let second = AdminSocket::bind(&path).unwrap();
        drop(first);
        assert!(is_socket(&path));
        drop(second);
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::Occupied(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_folder_that_others_may_write_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |mode| std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
        mode(0o700);
        assert!(own_folder(folder.path()).is_ok());
        mode(0o777);
        assert!(matches!(own_folder(folder.path()), Err(SocketError::Folder(_))));
        mode(0o700);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(!is_own(&link));
    }

    #[test]
    fn two_nodes_on_a_host_have_two_names() {
        let names = ["127.0.0.1:2000", "127.0.0.1:2001", "127.0.0.2:2000", "[::1]:2000"];
        let names = names.map(|address| name(address.parse().unwrap()));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{names:?}");
        assert!(find("db.example", 2000).is_none());
    }
}
