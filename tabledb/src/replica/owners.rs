//! The known nodes, their attachment lists, and the admission check that every claim has to pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::{NodeId, NodeName};

use super::message::{AttachmentList, ListVersion};
use crate::Limits;
use crate::digest::{digest_bytes, mix};

/// The state of a node, as reported by membership and by the node itself.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Owner {
    pub(crate) generation: u64,
    pub(crate) alive: bool,
    /// 0: no attachment list has arrived yet.
    pub(crate) list_version: u64,
    /// Networks and epochs, ascending by name. Every node keeps this for every other one: a map would take
    /// 300 bytes for one network.
    networks: Box<[(Arc<str>, u64)]>,
    /// Networks that the node itself, in a session with us, claimed to be on, with epochs later than the
    /// list. Claims of other nodes about it make its writes known, but give it access to nothing.
    own_claims: BTreeMap<Arc<str>, u64>,
}

impl Owner {
    /// The epoch of its attachment to the network, by its attachment list.
    pub(crate) fn listed_epoch(&self, network: &str) -> Option<u64> {
        let at = self.networks.binary_search_by(|(name, _)| (**name).cmp(network)).ok()?;
        Some(self.networks[at].1)
    }

    fn is_on(&self, network: &str) -> bool {
        self.listed_epoch(network).is_some() || self.own_claims.contains_key(network)
    }
}

/// The result of handling an attachment list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListUpdate {
    /// It was newer; these networks were on the former one.
    Applied(Box<[(Arc<str>, u64)]>),
    /// It was known already, or names an instance that membership has not reported yet.
    Known,
    /// It exceeds a limit.
    TooLong,
}

/// The result of the admission check: whether claims about an attachment are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The attachment exists, as far as the owner's attachment list shows.
    Attached,
    /// Later than the known list: accepted until the list arrives.
    Provisional,
    /// Membership has not reported this instance, but may do so soon.
    UnknownInstance,
    /// It has ended, or never existed.
    Refused,
}

/// The most lists kept of instances that membership has not reported yet. Dropped ones are sent again.
const MAX_EARLY_LISTS: usize = 1024;

/// All known nodes, each the only author of its attachment list.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Owners {
    me: NodeId,
    list_version: u64,
    networks: BTreeMap<Arc<str>, u64>,
    others: BTreeMap<NodeName, Owner>,
    early_lists: BTreeMap<NodeName, AttachmentList>,
    /// The number of networks on all lists together, including early ones.
    listed: usize,
    max_listed: usize,
    max_networks: usize,
    max_name: usize,
    /// The digest of all list versions, until one changes.
    digest: Option<u64>,
}

impl Owners {
    pub(crate) fn new(me: NodeId, limits: &Limits) -> Self {
        Self {
            listed: 0,
            max_listed: limits.attachments,
            max_networks: limits.networks,
            max_name: limits.name_bytes,
            me,
            list_version: 1,
            networks: BTreeMap::new(),
            others: BTreeMap::new(),
            early_lists: BTreeMap::new(),
            digest: None,
        }
    }

    pub(crate) fn me(&self) -> &NodeId {
        &self.me
    }

    /// Starts a new instance of this node, with a new attachment list.
    pub(crate) fn renew(&mut self, generation: u64) {
        self.digest = None;
        self.me.generation = generation;
        self.list_version += 1;
    }

    pub(crate) fn own_version(&self) -> u64 {
        self.list_version
    }

    /// Adds a network to our own list; returns the epoch.
    pub(crate) fn join(&mut self, network: Arc<str>) -> u64 {
        self.digest = None;
        self.list_version += 1;
        self.networks.insert(network, self.list_version);
        self.list_version
    }

    /// Removes a network from our own list.
    pub(crate) fn leave(&mut self, network: &str) {
        if self.networks.remove(network).is_some() {
            self.digest = None;
            self.list_version += 1;
        }
    }

    pub(crate) fn own_list(&self) -> AttachmentList {
        list(&self.me, self.list_version, self.networks.iter().map(|(name, epoch)| (name, *epoch)))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Owner> {
        self.others.get(name)
    }

    /// The other alive nodes, ascending by name.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &NodeName> {
        self.others.iter().filter(|(_, owner)| owner.alive).map(|(name, _)| name)
    }

    pub(crate) fn is_alive(&self, name: &NodeName) -> bool {
        self.others.get(name).is_some_and(|owner| owner.alive)
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = (&NodeName, &Owner)> {
        self.others.iter()
    }

    /// Adds an instance that membership reports alive. The caller has ended the attachments of an earlier
    /// one. Returns its attachment list if that arrived earlier.
    pub(crate) fn add_instance(&mut self, instance: &NodeId) -> Option<AttachmentList> {
        let owner = Owner {
            generation: instance.generation,
            alive: true,
            list_version: 0,
            networks: Box::default(),
            own_claims: BTreeMap::new(),
        };
        self.digest = None;
        let former = self.others.insert(instance.name.clone(), owner);
        self.listed -= former.map_or(0, |former| former.networks.len());
        let early = self.early_lists.remove(&instance.name)?;
        self.listed -= early.networks.len();
        (early.owner.generation == instance.generation).then_some(early)
    }

    pub(crate) fn set_alive(&mut self, name: &str, alive: bool) {
        if let Some(owner) = self.others.get_mut(name) {
            owner.alive = alive;
            self.digest = None;
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Owner> {
        self.digest = None;
        let removed = self.others.remove(name);
        self.listed -= removed.as_ref().map_or(0, |removed| removed.networks.len());
        removed
    }

    /// A node has claimed itself, on a stream of its own, to be on a network since this epoch. That counts
    /// like its attachment list, which may be on its way: the node is a member from then on. Returns true if
    /// the claim is new.
    pub(crate) fn note_own_claim(&mut self, name: &str, network: Arc<str>, epoch: u64) -> bool {
        let Some(owner) = self.others.get_mut(name) else { return false };
        epoch > owner.list_version && owner.own_claims.insert(network, epoch) != Some(epoch)
    }

    /// Whether `name`, alive or not, is on `network` by its own list or claim, and thus may receive its
    /// content.
    pub(crate) fn is_member(&self, name: &str, network: &str) -> bool {
        self.others.get(name).is_some_and(|owner| owner.is_on(network))
    }

    /// Whether it is this node, or a node that membership has reported.
    pub(crate) fn knows(&self, name: &NodeName) -> bool {
        *name == self.me.name || self.others.contains_key(name)
    }

    /// Whether the version of our own list is higher than any that we issued.
    pub(crate) fn is_forged(&self, owner: &NodeId, version: u64) -> bool {
        *owner == self.me && version > self.list_version
    }

    /// Applies a list if it is newer.
    pub(crate) fn update(&mut self, list: &AttachmentList) -> ListUpdate {
        let name = 1..=self.max_name;
        if list.networks.len() > self.max_networks
            || list.networks.iter().any(|(network, _)| !name.contains(&network.len()))
        {
            return ListUpdate::TooLong;
        }
        let capacity = self.max_listed.saturating_sub(self.listed);
        let Some(owner) = self.others.get_mut(&list.owner.name) else {
            return self.keep_early(list, capacity);
        };
        if list.owner.generation > owner.generation {
            return self.keep_early(list, capacity);
        }
        if list.owner.generation < owner.generation || list.version <= owner.list_version {
            return ListUpdate::Known;
        }
        if list.networks.len() > capacity + owner.networks.len() {
            return ListUpdate::TooLong;
        }
        self.digest = None;
        owner.list_version = list.version;
        owner.own_claims.retain(|_, epoch| *epoch > list.version);
        let networks: BTreeMap<Arc<str>, u64> =
            list.networks.iter().map(|(name, epoch)| (name.as_str().into(), *epoch)).collect();
        self.listed += networks.len();
        let former = std::mem::replace(&mut owner.networks, networks.into_iter().collect());
        self.listed -= former.len();
        ListUpdate::Applied(former)
    }

    fn keep_early(&mut self, list: &AttachmentList, capacity: usize) -> ListUpdate {
        if list.owner.name == self.me.name {
            return ListUpdate::Known;
        }
        let kept = self.early_lists.get(&list.owner.name);
        let later = kept
            .is_none_or(|kept| (list.owner.generation, list.version) > (kept.owner.generation, kept.version));
        if !later || (kept.is_none() && self.early_lists.len() >= MAX_EARLY_LISTS) {
            return ListUpdate::Known;
        }
        let former = kept.map_or(0, |kept| kept.networks.len());
        if list.networks.len() > capacity + former {
            return ListUpdate::TooLong;
        }
        self.listed = self.listed - former + list.networks.len();
        self.early_lists.insert(list.owner.name.clone(), list.clone());
        ListUpdate::Known
    }

    /// The known attachment list of `name`, also our own; `None` before the first.
    pub(crate) fn list_of(&self, name: &str) -> Option<AttachmentList> {
        if self.me.name.as_str() == name {
            return Some(self.own_list());
        }
        let (name, owner) = self.others.get_key_value(name)?;
        let instance = NodeId::new(name.clone(), owner.generation);
        let networks = owner.networks.iter().map(|(name, epoch)| (name, *epoch));
        (owner.list_version > 0).then(|| list(&instance, owner.list_version, networks))
    }

    /// The known version of every list, including our own.
    pub(crate) fn list_versions(&self) -> Vec<ListVersion> {
        let others = self.others.iter().map(|(name, owner)| ListVersion {
            owner: NodeId::new(name.clone(), owner.generation),
            version: owner.list_version,
        });
        std::iter::once(ListVersion { owner: self.me.clone(), version: self.list_version })
            .chain(others)
            .collect()
    }

    /// A digest of the list versions of all alive nodes, including our own. O(cluster) after a change, else
    /// O(1).
    pub(crate) fn lists_digest(&mut self) -> u64 {
        if let Some(known) = self.digest {
            return known;
        }
        let one = |name: &NodeName, generation, version: u64| {
            mix(digest_bytes(name.as_str().as_bytes()) ^ mix(generation) ^ mix(version).rotate_left(23))
        };
        let alive = self.others.iter().filter(|(_, owner)| owner.alive);
        let own = one(&self.me.name, self.me.generation, self.list_version);
        let digest =
            alive.fold(own, |all, (name, owner)| all ^ one(name, owner.generation, owner.list_version));
        self.digest = Some(digest);
        digest
    }

    /// Whether a peer that knows `theirs` knows a later version of that list than we do.
    pub(crate) fn is_behind(&self, theirs: &ListVersion) -> bool {
        match self.others.get(&theirs.owner.name) {
            // Membership has not reported this instance: its list would only be kept as an early one.
            None => false,
            Some(owner) => theirs.owner.generation == owner.generation && theirs.version > owner.list_version,
        }
    }

    /// Whether we know a later version of that list than a peer that knows `theirs`.
    pub(crate) fn is_ahead(&self, theirs: &ListVersion) -> bool {
        if theirs.owner.name == self.me.name {
            return (theirs.owner.generation, theirs.version) < (self.me.generation, self.list_version);
        }
        self.others.get(&theirs.owner.name).is_some_and(|owner| {
            owner.list_version > 0
                && (theirs.owner.generation, theirs.version) < (owner.generation, owner.list_version)
        })
    }

    /// The known version of the list of `name`, 0 if there is none.
    pub(crate) fn list_version_of(&self, name: &str) -> u64 {
        if self.me.name.as_str() == name {
            return self.list_version;
        }
        self.others.get(name).map_or(0, |owner| owner.list_version)
    }

    /// The admission check. It ignores liveness: failure only hides entries, and a check that failed owners
    /// do not pass would also reject updates which supersede their entries. `held` is the epoch of the
    /// owner's current attachment in the network, if any.
    pub(crate) fn admission(
        &self,
        network: &str,
        owner: &str,
        generation: u64,
        epoch: u64,
        held: Option<u64>,
    ) -> Admission {
        if owner == self.me.name.as_str() {
            // For ourselves, only our current attachment exists. The caller reports claims beyond the numbers
            // that we wrote.
            let present = generation == self.me.generation && self.networks.get(network) == Some(&epoch);
            return if present { Admission::Attached } else { Admission::Refused };
        }
        let Some(known) = self.others.get(owner) else { return Admission::UnknownInstance };
        if generation != known.generation {
            return if generation > known.generation {
                Admission::UnknownInstance
            } else {
                Admission::Refused
            };
        }
        match held {
            Some(held) if epoch == held => Admission::Attached,
            Some(held) if epoch < held => Admission::Refused,
            _ if epoch > known.list_version => Admission::Provisional,
            _ if known.listed_epoch(network) == Some(epoch) => Admission::Attached,
            _ => Admission::Refused,
        }
    }

    /// The other alive nodes whose attachment lists are missing.
    pub(crate) fn unlisted(&self) -> impl Iterator<Item = &NodeName> {
        self.others.iter().filter(|(_, owner)| owner.alive && owner.list_version == 0).map(|(name, _)| name)
    }

    /// The other alive nodes that are on `network` by their own list or claim, ascending by name.
    pub(crate) fn members_of<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a NodeName> + 'a {
        self.others.iter().filter(move |(_, owner)| owner.alive && owner.is_on(network)).map(|(name, _)| name)
    }
}

fn list<'a>(
    owner: &NodeId,
    version: u64,
    networks: impl Iterator<Item = (&'a Arc<str>, u64)>,
) -> AttachmentList {
    let networks = networks.map(|(name, epoch)| (name.to_string(), epoch)).collect();
    AttachmentList { owner: owner.clone(), version, networks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn list_at(generation: u64, version: u64, networks: &[(&str, u64)]) -> AttachmentList {
        let networks = networks.iter().map(|&(name, epoch)| (name.to_owned(), epoch)).collect();
        AttachmentList { owner: NodeId::new(name("a"), generation), version, networks }
    }

    /// We are "me", on the network since epoch 2. The instance of "a" has generation 5, and is on the network
    /// since epoch 3 by a list of version 4.
    fn owners() -> Owners {
        let mut owners = Owners::new(NodeId::new(name("me"), 1), &Limits::default());
        assert_eq!(owners.join("net".into()), 2);
        owners.add_instance(&NodeId::new(name("a"), 5));
        assert!(matches!(owners.update(&list_at(5, 4, &[("net", 3)])), ListUpdate::Applied(_)));
        owners
    }

    #[test]
    fn claims_on_the_list_or_later_than_it_are_admitted() {
        let owners = owners();
        let admission = |generation, epoch, held| owners.admission("net", "a", generation, epoch, held);
        assert_eq!(admission(5, 3, None), Admission::Attached);
        assert_eq!(admission(5, 3, Some(3)), Admission::Attached);
        assert_eq!(
            admission(5, 2, None),
            Admission::Refused,
            "an epoch that the list does not know has ended"
        );
        assert_eq!(admission(5, 4, Some(3)), Admission::Refused, "so has one up to the list's version");
        assert_eq!(admission(5, 5, Some(3)), Admission::Provisional, "the list may be older");
        assert_eq!(admission(5, 7, Some(7)), Admission::Attached);
        assert_eq!(
            admission(5, 6, Some(7)),
            Admission::Refused,
            "a late event of an ended provisional epoch"
        );
        assert_eq!(admission(4, 3, None), Admission::Refused, "an earlier instance");
        assert_eq!(
            admission(6, 3, None),
            Admission::UnknownInstance,
            "a later instance, which membership has not reported"
        );
        assert_eq!(owners.admission("net", "b", 1, 1, None), Admission::UnknownInstance);
        assert_eq!(owners.admission("other", "a", 5, 3, None), Admission::Refused, "another network");
    }

    #[test]
    fn failure_does_not_affect_admission() {
        let mut owners = owners();
        owners.set_alive("a", false);
        assert_eq!(owners.admission("net", "a", 5, 3, None), Admission::Attached);
    }

    #[test]
    fn of_ourselves_only_the_current_attachment_is_admitted() {
        let mut owners = owners();
        assert_eq!(owners.admission("net", "me", 1, 2, None), Admission::Attached);
        assert_eq!(owners.admission("net", "me", 1, 9, None), Admission::Refused);
        assert_eq!(owners.admission("net", "me", 2, 2, None), Admission::Refused);
        owners.leave("net");
        assert_eq!(owners.admission("net", "me", 1, 2, None), Admission::Refused);
    }

    #[test]
    fn only_a_later_list_of_the_same_instance_is_applied() {
        let mut owners = owners();
        assert_eq!(owners.update(&list_at(5, 4, &[])), ListUpdate::Known, "the same version");
        assert_eq!(owners.update(&list_at(4, 9, &[])), ListUpdate::Known, "an earlier instance");
        let ListUpdate::Applied(former) = owners.update(&list_at(5, 6, &[("net", 6)])) else {
            panic!("it is newer")
        };
        assert_eq!(*former, [("net".into(), 3)]);
        assert_eq!(owners.update(&list_at(5, 5, &[])), ListUpdate::Known, "a late one");
    }

    #[test]
    fn a_list_that_arrives_before_its_instance_is_kept() {
        let mut owners = owners();
        assert_eq!(owners.update(&list_at(6, 2, &[("net", 2)])), ListUpdate::Known);
        assert_eq!(
            owners.update(&list_at(6, 1, &[])),
            ListUpdate::Known,
            "an earlier one does not replace it"
        );
        owners.remove("a");
        assert_eq!(owners.add_instance(&NodeId::new(name("a"), 6)), Some(list_at(6, 2, &[("net", 2)])));
        assert_eq!(owners.list_version_of("a"), 0, "the caller applies it");
    }

    #[test]
    fn watermarks_reveal_members_that_are_behind() {
        let mut owners = owners();
        let theirs = |generation, version| ListVersion { owner: NodeId::new(name("a"), generation), version };
        assert!(
            owners.is_behind(&theirs(5, 5))
                && !owners.is_behind(&theirs(5, 4))
                && !owners.is_behind(&theirs(6, 9))
        );
        assert!(
            owners.is_ahead(&theirs(5, 3))
                && !owners.is_ahead(&theirs(5, 4))
                && owners.is_ahead(&theirs(4, 9))
        );
        let before = owners.lists_digest();
        owners.join("more".into());
        assert_ne!(owners.lists_digest(), before);
    }
}
