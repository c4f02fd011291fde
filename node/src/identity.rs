//! Where what a node proves itself with is kept, and how it is changed while the node runs.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use transport::{
    CertificateSet, CertificateSetError, Fingerprint, Identity, IdentityError, KeySet, KeySetError,
};
use zeroize::Zeroizing;

use crate::Node;

/// No file of secrets or certificates is longer, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a node's identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// The program that runs the node has given it, and changes it by [`transport::Transport::set_identity`].
    Program,
    /// A file with secrets, one a line. Changes of single secrets are written there.
    SecretFile(PathBuf),
    /// Files in PEM of an operator's own authority. They are only read.
    Certificates {
        /// The node's certificate, with any intermediate ones after it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// The certificates of the authorities that are accepted.
        authorities: PathBuf,
    },
}

/// Why the files of an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {error}", path.display())]
    Unreadable {
        /// Which file it was to be.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The secret file does not make sense.
    #[error("secret file {}: {error}; `networkdb keygen` makes a secret", path.display())]
    Secrets {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without the secret.
        error: KeySetError,
    },
    /// The certificate files do not make sense, or not together.
    #[error("certificate {}: {error}", path.display())]
    Certificates {
        /// The file with the node's certificate.
        path: PathBuf,
        /// What is wrong, without the private key.
        error: CertificateSetError,
    },
}

impl IdentitySource {
    /// Reads the files; `None` if there are none.
    pub fn read(&self) -> Result<Option<Identity>, IdentityFileError> {
        match self {
            Self::Program => Ok(None),
            Self::SecretFile(path) => Ok(Some(read_secrets(path)?.keys.into())),
            Self::Certificates { certificate, key, authorities } => {
                let chain = read("certificate file", certificate)?;
                let secret = read("key file", key)?;
                let trusted = read("authority file", authorities)?;
                CertificateSet::from_pem(
                    &chain,
                    &secret,
                    &trusted,
                    std::time::UNIX_EPOCH + crate::clock::wall_clock(),
                )
                .map(|certificates| Some(certificates.into()))
                .map_err(|error| IdentityFileError::Certificates { path: certificate.clone(), error })
            }
        }
    }

    /// The file that nobody but the node's user should be able to read.
    pub fn private_file(&self) -> Option<&Path> {
        match self {
            Self::Program => None,
            Self::SecretFile(path) | Self::Certificates { key: path, .. } => Some(path),
        }
    }
}

/// A change of the secrets of a running node. Each of them made twice is made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Accept these too.
    Add(KeySet),
    /// Prove itself by this one, which it accepts already.
    Use(Fingerprint),
    /// Accept this one no longer.
    Remove(Fingerprint),
    /// Work with exactly these, whatever was before.
    Replace(KeySet),
}

/// Why the identity of a running node was not changed. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeKeysError {
    /// The node has no file of secrets.
    #[error(
        "this node was started without a secret file, so its secrets cannot be changed; start it with one"
    )]
    NoFile,
    /// The node has certificates instead.
    #[error(
        "this node proves itself by certificates of an authority; replace their files, and have the node read them again"
    )]
    Certificates,
    /// Somebody has changed the file.
    #[error(
        "the secret file {} holds other secrets than the node works with; have the node read it again, then try again", .0.display()
    )]
    FileDiffers(PathBuf),
    /// The change is not possible.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] IdentityFileError),
    /// The file cannot be written. A change that a restart undoes in silence is none.
    #[error(
        "cannot write the secret file {}, so nothing was changed: {error}; change the file yourself, and have the node \
         read it again", path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// This node cannot have it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Node {
    /// Where this node's identity comes from.
    pub fn identity_source(&self) -> &IdentitySource {
        self.source()
    }

    /// Reads the files again and works with what they hold from now on. Returns that. Blocks for as long as the system
    /// takes to read.
    ///
    /// # Errors
    /// If they do not make sense, or there are none; the former identity stays in use.
    pub fn reread_identity(&self) -> Result<Identity, ChangeKeysError> {
        let _changing = self.changing_identity();
        let identity = self.source().read()?.ok_or(ChangeKeysError::NoFile)?;
        self.transport().set_identity(identity.clone())?;
        Ok(identity)
    }

    /// Changes the secrets, in their file first and then in use, and returns them. Blocks for as long as the system takes
    /// to write.
    ///
    /// The file is replaced in one step by one that only this process's user can read. Its comments stay.
    ///
    /// # Errors
    /// See there; nothing has changed.
    pub fn change_keys(&self, change: &KeyChange) -> Result<KeySet, ChangeKeysError> {
        let _changing = self.changing_identity();
        let present = match self.transport().identity() {
            Identity::Secrets(keys) => keys,
            Identity::Certificates(_) => return Err(ChangeKeysError::Certificates),
        };
        let IdentitySource::SecretFile(path) = self.source() else { return Err(ChangeKeysError::NoFile) };
        let changed = match change {
            KeyChange::Add(more) => {
                let mut keys = present.clone();
                for secret in more.secrets() {
                    keys = keys.with(secret.clone())?;
                }
                keys
            }
            KeyChange::Use(fingerprint) => present.with_primary(*fingerprint)?,
            KeyChange::Remove(fingerprint) => present.without(*fingerprint)?,
            KeyChange::Replace(keys) => keys.clone(),
        };
        let file = read_secrets(path)?;
        if file.keys != changed {
            if file.keys != present {
                return Err(ChangeKeysError::FileDiffers(path.clone()));
            }
            write_secrets(path, &file.comments, &changed)
                .map_err(|error| ChangeKeysError::Write { path: path.clone(), error })?;
        }
        self.transport().set_identity(changed.clone())?;
        Ok(changed)
    }
}

/// What a secret file holds.
struct SecretFile {
    keys: KeySet,
    comments: Vec<String>,
}

fn read_secrets(path: &Path) -> Result<SecretFile, IdentityFileError> {
    let bytes = read("secret file", path)?;
    let unreadable =
        |error| IdentityFileError::Unreadable { what: "secret file", path: path.to_owned(), error };
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not text")))?;
    let keys =
        KeySet::parse(text).map_err(|error| IdentityFileError::Secrets { path: path.to_owned(), error })?;
    let comments = text.lines().filter(|line| line.trim_start().starts_with('#')).map(str::to_owned);
    Ok(SecretFile { keys, comments: comments.collect() })
}

/// The whole of a file, wiped when dropped: a text that grew while it was read would leave pieces behind.
fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityFileError> {
    use std::io::Read as _;
    let whole = || {
        let file = std::fs::File::open(path)?;
        // Of the open file, not of whatever has the name a moment later.
        if file.metadata()?.mode() & 0o022 != 0 {
            let told = "other users of this host can write it, and so decide who is in the cluster; take that away with chmod 600";
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, told));
        }
        // One byte more than it seems to have, so that the end is found without growing.
        let size = file.metadata()?.len().min(MAX_FILE_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let told = format!("it is longer than {MAX_FILE_BYTES} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, told));
        }
        Ok(bytes)
    };
    whole().map_err(|error| IdentityFileError::Unreadable { what, path: path.to_owned(), error })
}

/// Replaces the file in one step: whoever reads it sees the former secrets or these, and a crash leaves one of them.
fn write_secrets(path: &Path, comments: &[String], keys: &KeySet) -> std::io::Result<()> {
    // What the name leads to is replaced, not a link on the way.
    let path = std::fs::canonicalize(path)?;
    let former = std::fs::metadata(&path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}.new", std::process::id()));
    // Left behind by a process that had our number, and ended while it wrote.
    let _ = std::fs::remove_file(&beside);
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        // Only a privileged process can; for others the file is their own anyway.
        let _ = std::os::unix::fs::fchown(&file, Some(former.uid()), Some(former.gid()));
        for comment in comments {
            writeln!(file, "{comment}")?;
        }
        for secret in keys.secrets() {
            file.write_all(secret.to_text().as_bytes())?;
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        std::fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
