//! Changes of the visible state.

use std::borrow::Cow;
use std::sync::Arc;

use wire::NodeName;

use crate::digest::{digest_bytes, mix};
use crate::{Key, Value, Version};

/// Which changes a watcher wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct WatchFilter {
    /// Only this network; `None` for all.
    pub network: Option<String>,
    /// Only this table; `None` for all.
    pub table: Option<String>,
    /// Only keys that begin with this; all by default.
    pub prefix: String,
    /// Only entries of this node; `None` for those of all.
    pub owner: Option<NodeName>,
    /// Leave out entries this node owns itself.
    pub exclude_own: bool,
}

/// What happened to the visible state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
// Exhaustive: an entry appears, changes or disappears.
pub enum ChangeKind {
    /// It became visible.
    Create,
    /// Its value or owner changed.
    Update,
    /// It is no longer visible.
    Delete,
}

/// Why a key is no longer visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
// Exhaustive: a driver that deletes real things decides for each.
pub enum DeleteReason {
    /// A node deleted it, or overwrote it with a value that is not visible here.
    Deleted,
    /// Its owner has failed. The entry is kept, and becomes visible again if the owner returns.
    OwnerFailed,
    /// Its owner has left the network.
    OwnerLeft,
    /// Its owner has left the cluster, was replaced by a later instance of itself, or was forgotten.
    OwnerGone,
    /// This node has left the network. What happened to the entry is unknown.
    NetworkLeft,
    /// It is still there: a node owns it now whose entries the filter of the watcher leaves out.
    OtherOwner,
}

/// One change of the visible state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// In which network.
    pub network: Arc<str>,
    /// In which table.
    pub table: Arc<str>,
    /// To which key.
    pub key: Key,
    /// The value now; `None` after a delete.
    pub value: Option<Value>,
    /// The value before; `None` before a create.
    pub previous: Option<Value>,
    /// The version of the entry now, as [`Entry::version`](crate::Entry::version); `None` after a delete.
    pub version: Option<Version>,
    /// The owner of the entry, or its last owner after a delete.
    pub owner: NodeName,
    /// Why it is deleted; `None` for other changes.
    pub reason: Option<DeleteReason>,
}

impl WatchFilter {
    /// Whether it admits a key.
    pub(crate) fn wants_key(&self, network: &str, table: &str, key: &str) -> bool {
        self.wants_network(network)
            && self.table.as_deref().is_none_or(|wanted| wanted == table)
            && key.starts_with(&self.prefix)
    }

    pub(crate) fn wants_network(&self, network: &str) -> bool {
        self.network.as_deref().is_none_or(|wanted| wanted == network)
    }

    /// Whether it admits, on the node `me`, entries of `owner`.
    pub(crate) fn wants_owner(&self, owner: &NodeName, me: &NodeName) -> bool {
        self.owner.as_ref().is_none_or(|wanted| wanted == owner) && !(self.exclude_own && owner == me)
    }

    /// The same on every machine.
    pub(crate) fn digest(&self) -> u64 {
        let Self { network, table, prefix, owner, exclude_own } = self;
        let owner = owner.as_ref().map(NodeName::as_str);
        digest_bytes(&wire::codec::encode(&(network, table, prefix, owner, exclude_own)))
    }
}

/// A change with what a watch needs that resumes behind it.
#[derive(Debug, Clone)]
pub(crate) struct RecordedChange {
    pub(crate) change: Change,
    /// The write that made it. `None` if there is none (an owner failed, returned or ended), or it is not known.
    pub(crate) cause: Option<Cause>,
    /// The write of the entry before; `None` before a create.
    pub(crate) previous: Option<WriteId>,
    /// A write under the key that was behind this change, and was not shown here.
    pub(crate) skipped: Option<Skipped>,
    /// The owner of the entry before, shown or not.
    pub(crate) former_owner: Option<NodeName>,
    /// Its position among all changes of the database, if its history is kept.
    pub(crate) position: u64,
}

/// Identifies a write on all nodes, like its dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WriteId {
    /// The digest of its attachment.
    pub(crate) writer: u64,
    pub(crate) number: u64,
}

impl WriteId {
    /// The same on every machine.
    pub(crate) fn digest(self) -> u64 {
        mix(self.writer ^ mix(self.number))
    }
}

impl From<Version> for WriteId {
    fn from(Version { writer, number, .. }: Version) -> Self {
        Self { writer, number }
    }
}

/// A write that clients of other nodes may have received, and those of this node did not: it was hidden, it was less than
/// what was here when it arrived, or it never arrived because it was replaced before it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) write: WriteId,
    /// Whether it was an entry, and not a delete; `None` if that is not known.
    pub(crate) is_live: Option<bool>,
}

/// The write that made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) write: WriteId,
    /// All numbers of the attachment up to this one had been seen then.
    pub(crate) complete_to: u64,
}

impl RecordedChange {
    /// An entry of a snapshot.
    pub(crate) fn of_snapshot(change: Change) -> Self {
        Self { change, cause: None, previous: None, skipped: None, former_owner: None, position: 0 }
    }

    /// The change as a watcher sees it that wants the entries of some owners only; `None` if it sees none.
    pub(crate) fn of_owners(&self, wants: impl Fn(&NodeName) -> bool) -> Option<Cow<'_, Self>> {
        let Self { change, previous, former_owner, .. } = self;
        let before = previous.is_some() && former_owner.as_ref().is_some_and(&wants);
        let after = change.value.is_some() && wants(&change.owner);
        match (before, after) {
            (false, false) => None,
            (true, true) => Some(Cow::Borrowed(self)),
            (true, false) if change.value.is_none() => Some(Cow::Borrowed(self)),
            (false, true) => {
                let change =
                    Change { kind: ChangeKind::Create, previous: None, reason: None, ..change.clone() };
                Some(Cow::Owned(Self { change, previous: None, ..self.clone() }))
            }
            (true, false) => {
                let change = Change {
                    kind: ChangeKind::Delete,
                    // A copy: the key of a change holds the record that it is in, here with a value that is neither
                    // sent nor counted.
                    key: Key::from(&*change.key),
                    value: None,
                    version: None,
                    owner: former_owner.as_ref().unwrap_or(&change.owner).clone(),
                    reason: Some(DeleteReason::OtherOwner),
                    ..change.clone()
                };
                Some(Cow::Owned(Self { change, ..self.clone() }))
            }
        }
    }
}
