//! Changes of the identity while the node runs.

use transport::{Identity, KeySet};

use crate::handle::Node;
use crate::identity::{ChangeKeysError, IdentitySource, KeyChange, read_secrets, write_secrets};

impl Node {
    /// The source of this node's identity.
    pub fn identity_source(&self) -> &IdentitySource {
        self.source()
    }

    /// Reads the files again, uses the identity in them from now on, and returns it. Blocks while it reads.
    ///
    /// # Errors
    /// If the files are invalid, or there are none. The previous identity stays in use.
    pub fn reread_identity(&self) -> Result<Identity, ChangeKeysError> {
        let _changing = self.changing_identity();
        let identity = self.source().read()?.ok_or(ChangeKeysError::NoFile)?;
        self.transport().set_identity(identity.clone())?;
        Ok(identity)
    }

    /// Changes the secrets, first in their file and then in use, and returns them. Blocks while it writes.
    ///
    /// The node replaces the file atomically by one that only this process's user can read. It keeps the
    /// comments.
    ///
    /// # Errors
    /// Any [`ChangeKeysError`]; nothing has changed then.
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
