//! The files of a node's identity, and what can be changed in them.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use transport::{
    CertificateSet, CertificateSetError, Fingerprint, Identity, IdentityError, KeySet, KeySetError,
};
use zeroize::Zeroizing;

/// The longest file of secrets or certificates that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The source of a node's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: what reads, shows or watches a source decides for each kind.
pub enum IdentitySource {
    /// The program that embeds the node sets it, and changes it by [`transport::Transport::set_identity`].
    Program,
    /// A file with one secret a line. The node writes changes of single secrets there.
    SecretFile(PathBuf),
    /// PEM files of an operator's own authority. The node only reads them.
    Certificates {
        /// The node's certificate, with any intermediate ones after it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
        /// The certificates of the accepted authorities.
        authorities: PathBuf,
    },
}

/// Why the files of an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityFileError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {error}", path.display())]
    Unreadable {
        /// The kind of file.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The secret file is invalid.
    #[error("secret file {}: {error}", path.display())]
    Secrets {
        /// The file.
        path: PathBuf,
        /// The error, without the secret.
        error: KeySetError,
    },
    /// A certificate file is invalid, or the files do not belong together.
    #[error("certificate {}: {error}", path.display())]
    Certificates {
        /// The file with the node's certificate.
        path: PathBuf,
        /// The error, without the private key.
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

    /// The file that only the node's user should be able to read.
    pub fn private_file(&self) -> Option<&Path> {
        match self {
            Self::Program => None,
            Self::SecretFile(path) | Self::Certificates { key: path, .. } => Some(path),
        }
    }
}

/// A change of the secrets of a running node. Changes are idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: callers build it, and the node makes each change.
pub enum KeyChange {
    /// Accept these secrets too.
    Add(KeySet),
    /// Authenticate with this secret, which the node accepts already.
    Use(Fingerprint),
    /// Stop accepting this secret.
    Remove(Fingerprint),
    /// Replace all secrets by these.
    Replace(KeySet),
}

/// Why the identity of a running node was not changed. The previous identity stays in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeKeysError {
    /// The node has no file of secrets.
    #[error(
        "this node was started without a secret file, so its secrets cannot be changed; start it with one"
    )]
    NoFile,
    /// The node has certificates instead.
    #[error(
        "this node authenticates with certificates of an authority; replace their files, and have the node \
         read them again"
    )]
    Certificates,
    /// The file has changed since the node read it.
    #[error(
        "the secret file {} differs from the secrets that the node uses; have the node read it again, then \
         try again",
        .0.display()
    )]
    FileDiffers(PathBuf),
    /// The change is not possible.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] IdentityFileError),
    /// The file cannot be written. The node refuses a change that a restart would undo.
    #[error(
        "cannot write the secret file {}, so nothing was changed: {error}; change the file yourself, and \
         have the node read it again", path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The identity is not valid for this node.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The content of a secret file.
pub(crate) struct SecretFile {
    pub(crate) keys: KeySet,
    pub(crate) comments: Vec<String>,
}

pub(crate) fn read_secrets(path: &Path) -> Result<SecretFile, IdentityFileError> {
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

/// Reads a whole file into one buffer that is wiped when dropped. A buffer that grew would leave unwiped
/// copies behind.
fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityFileError> {
    use std::io::Read as _;
    let whole = || {
        let file = std::fs::File::open(path)?;
        // The metadata of the open file: the path may lead to another file by now.
        if file.metadata()?.mode() & 0o022 != 0 {
            let message = "other users of this host can write it, and so decide which nodes are in the \
                           cluster; remove that permission with chmod 600";
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, message));
        }
        // One byte more than the size, so that the buffer does not grow when the end is read.
        let size = file.metadata()?.len().min(MAX_FILE_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let message = format!("it is longer than {MAX_FILE_BYTES} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
        }
        Ok(bytes)
    };
    whole().map_err(|error| IdentityFileError::Unreadable { what, path: path.to_owned(), error })
}

/// Replaces the file atomically: a reader sees the previous secrets or these, also after a crash.
pub(crate) fn write_secrets(path: &Path, comments: &[String], keys: &KeySet) -> std::io::Result<()> {
    // A symbolic link stays; the file behind it is replaced.
    let path = std::fs::canonicalize(path)?;
    let former = std::fs::metadata(&path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}.new", std::process::id()));
    // A crashed process with the same process ID may have left this file.
    let _ = std::fs::remove_file(&beside);
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        // Only a privileged process can change the owner; the files of others have the right owner already.
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
