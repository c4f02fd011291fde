//! Who there is, and which networks each is on: the lists, and the gate that every claim has to pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::{NodeId, NodeName};

use super::message::{AttachmentList, ListVersion};
use super::ranges::{digest_bytes, mix};
use crate::Limits;

/// What membership and the owner itself have said about a node.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) generation: u64,
    pub(crate) alive: bool,
    /// 0: no list has arrived yet.
    pub(crate) list_version: u64,
    /// Networks and epochs, ascending by name. Every node keeps this of every other one: a map would take 300 bytes for one
    /// network.
    networks: Box<[(Arc<str>, u64)]>,
    /// Networks that it has said itself, to us, that it is on, since epochs that the list does not reach yet. What others say
    /// of it makes its writes known, but gets it nothing.
    own_claims: BTreeMap<Arc<str>, u64>,
}

impl Owner {
    /// Since which epoch its list says that it is on the network.
    pub(crate) fn listed_epoch(&self, network: &str) -> Option<u64> {
        let at = self.networks.binary_search_by(|(name, _)| (**name).cmp(network)).ok()?;
        Some(self.networks[at].1)
    }

    fn is_on(&self, network: &str) -> bool {
        self.listed_epoch(network).is_some() || self.own_claims.contains_key(network)
    }
}

/// What became of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ListUpdate {
    /// It is news; these networks were on the former one.
    Taken(Box<[(Arc<str>, u64)]>),
    /// It is not, or not yet.
    Known,
    /// It is longer than may be.
    TooLong,
}

/// Whether an attachment named by a peer may be spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As far as the owner's list goes, it exists.
    Attached,
    /// Later than the list we hold: believed until the list arrives.
    Provisional,
    /// Membership has not told us of this life; it may be about to.
    UnknownInstance,
    /// It has ended, or never was.
    Refused,
}

/// How many lists of lives that membership has not told of yet are kept. They come again if dropped.
const MAX_EARLY_LISTS: usize = 1024;

/// The owners of everything, each the only author of its list.
#[derive(Debug)]
pub(crate) struct Owners {
    me: NodeId,
    list_version: u64,
    networks: BTreeMap<Arc<str>, u64>,
    others: BTreeMap<NodeName, Owner>,
    early_lists: BTreeMap<NodeName, AttachmentList>,
    /// How many networks are on all lists together, the early ones included.
    listed: usize,
    max_listed: usize,
    max_networks: usize,
    max_name: usize,
    /// The digest of all versions, until one changes.
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

    /// Starts a new life of this node; its list begins anew.
    pub(crate) fn renew(&mut self, generation: u64) {
        self.digest = None;
        self.me.generation = generation;
        self.list_version += 1;
    }

    pub(crate) fn own_version(&self) -> u64 {
        self.list_version
    }

    /// Puts ourselves on a network; returns the epoch.
    pub(crate) fn join(&mut self, network: Arc<str>) -> u64 {
        self.digest = None;
        self.list_version += 1;
        self.networks.insert(network, self.list_version);
        self.list_version
    }

    /// Takes ourselves off a network.
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

    /// The others that are alive, ascending by name.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &NodeName> {
        self.others.iter().filter(|(_, owner)| owner.alive).map(|(name, _)| name)
    }

    pub(crate) fn is_alive(&self, name: &NodeName) -> bool {
        self.others.get(name).is_some_and(|owner| owner.alive)
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = (&NodeName, &Owner)> {
        self.others.iter()
    }

    /// Takes up a life that membership says is alive. The caller has ended the attachments of an earlier one. Returns
    /// its list, if that came first.
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

    /// A node has said itself, on a stream of its own, that it is on a network since this epoch: as good as its list, which
    /// may be on the way. From then on it counts, and is shown, as a member. True if that was news.
    pub(crate) fn note_own_claim(&mut self, name: &str, network: Arc<str>, epoch: u64) -> bool {
        let Some(owner) = self.others.get_mut(name) else { return false };
        epoch > owner.list_version && owner.own_claims.insert(network, epoch) != Some(epoch)
    }

    /// Whether `name` is on `network` by its own word, be it alive or not: whether it may get anything of it.
    pub(crate) fn is_member(&self, name: &str, network: &str) -> bool {
        self.others.get(name).is_some_and(|owner| owner.is_on(network))
    }

    /// Whether it is ourselves, or somebody that membership has told of.
    pub(crate) fn knows(&self, name: &NodeName) -> bool {
        *name == self.me.name || self.others.contains_key(name)
    }

    /// Whether somebody claims more of our own list than we ever wrote.
    pub(crate) fn is_forged(&self, owner: &NodeId, version: u64) -> bool {
        *owner == self.me && version > self.list_version
    }

    /// Takes a list in if it is news.
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
        ListUpdate::Taken(former)
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

    /// The list of `name` as known here, our own included; `None` before the first.
    pub(crate) fn list_of(&self, name: &str) -> Option<AttachmentList> {
        if self.me.name.as_str() == name {
            return Some(self.own_list());
        }
        let (name, owner) = self.others.get_key_value(name)?;
        let instance = NodeId::new(name.clone(), owner.generation);
        let networks = owner.networks.iter().map(|(name, epoch)| (name, *epoch));
        (owner.list_version > 0).then(|| list(&instance, owner.list_version, networks))
    }

    /// How far every list is known here, our own included.
    pub(crate) fn list_versions(&self) -> Vec<ListVersion> {
        let others = self.others.iter().map(|(name, owner)| ListVersion {
            owner: NodeId::new(name.clone(), owner.generation),
            version: owner.list_version,
        });
        std::iter::once(ListVersion { owner: self.me.clone(), version: self.list_version })
            .chain(others)
            .collect()
    }

    /// A digest of the list versions of all who are alive, our own included. O(cluster) after a change, else O(1).
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

    /// Whether somebody who knows `theirs` knows more of that list than we do.
    pub(crate) fn is_behind(&self, theirs: &ListVersion) -> bool {
        match self.others.get(&theirs.owner.name) {
            // A life that membership has not told of: its list would only be parked.
            None => false,
            Some(owner) => theirs.owner.generation == owner.generation && theirs.version > owner.list_version,
        }
    }

    /// Whether we know more of that list than somebody who knows `theirs`.
    pub(crate) fn is_ahead(&self, theirs: &ListVersion) -> bool {
        if theirs.owner.name == self.me.name {
            return (theirs.owner.generation, theirs.version) < (self.me.generation, self.list_version);
        }
        self.others.get(&theirs.owner.name).is_some_and(|owner| {
            owner.list_version > 0
                && (theirs.owner.generation, theirs.version) < (owner.generation, owner.list_version)
        })
    }

    /// What is known of the list version of `name`, 0 for nothing.
    pub(crate) fn list_version_of(&self, name: &str) -> u64 {
        if self.me.name.as_str() == name {
            return self.list_version;
        }
        self.others.get(name).map_or(0, |owner| owner.list_version)
    }

    /// The gate. Liveness is not asked: failure only hides, and shutting the failed out would keep out the news of a
    /// death. `held` is the epoch of the owner's attachment that the network holds, if any.
    pub(crate) fn admission(
        &self,
        network: &str,
        owner: &str,
        generation: u64,
        epoch: u64,
        held: Option<u64>,
    ) -> Admission {
        if owner == self.me.name.as_str() {
            // In our own name: only our present attachment. The caller tells us if it claims more than we wrote.
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

    /// The alive others whose lists have not come.
    pub(crate) fn unlisted(&self) -> impl Iterator<Item = &NodeName> {
        self.others.iter().filter(|(_, owner)| owner.alive && owner.list_version == 0).map(|(name, _)| name)
    }

    /// The alive others that are on `network` by their own word, ascending by name.
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

    /// We are "me", on the network since epoch 2; "a" lives in generation 5 and is on it since epoch 3 by a list of
    /// version 4.
    fn owners() -> Owners {
        let mut owners = Owners::new(NodeId::new(name("me"), 1), &Limits::default());
        assert_eq!(owners.join("net".into()), 2);
        owners.add_instance(&NodeId::new(name("a"), 5));
        assert!(matches!(owners.update(&list_at(5, 4, &[("net", 3)])), ListUpdate::Taken(_)));
        owners
    }

    #[test]
    fn the_gate_lets_in_what_the_list_says_and_what_may_be_later() {
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
        assert_eq!(admission(4, 3, None), Admission::Refused, "an earlier life");
        assert_eq!(
            admission(6, 3, None),
            Admission::UnknownInstance,
            "a later life, of which membership has not told"
        );
        assert_eq!(owners.admission("net", "b", 1, 1, None), Admission::UnknownInstance);
        assert_eq!(owners.admission("other", "a", 5, 3, None), Admission::Refused, "another network");
    }

    #[test]
    fn failure_does_not_shut_the_gate() {
        let mut owners = owners();
        owners.set_alive("a", false);
        assert_eq!(owners.admission("net", "a", 5, 3, None), Admission::Attached);
    }

    #[test]
    fn nobody_speaks_of_us_but_of_our_present_attachment() {
        let mut owners = owners();
        assert_eq!(owners.admission("net", "me", 1, 2, None), Admission::Attached);
        assert_eq!(owners.admission("net", "me", 1, 9, None), Admission::Refused);
        assert_eq!(owners.admission("net", "me", 2, 2, None), Admission::Refused);
        owners.leave("net");
        assert_eq!(owners.admission("net", "me", 1, 2, None), Admission::Refused);
    }

    #[test]
    fn only_a_later_list_of_the_same_life_is_news() {
        let mut owners = owners();
        assert_eq!(owners.update(&list_at(5, 4, &[])), ListUpdate::Known, "the same version");
        assert_eq!(owners.update(&list_at(4, 9, &[])), ListUpdate::Known, "an earlier life");
        let ListUpdate::Taken(former) = owners.update(&list_at(5, 6, &[("net", 6)])) else {
            panic!("it is news")
        };
        assert_eq!(*former, [("net".into(), 3)]);
        assert_eq!(owners.update(&list_at(5, 5, &[])), ListUpdate::Known, "a late one");
    }

    #[test]
    fn a_list_that_comes_before_its_life_is_kept() {
        let mut owners = owners();
        assert_eq!(owners.update(&list_at(6, 2, &[("net", 2)])), ListUpdate::Known);
        assert_eq!(
            owners.update(&list_at(6, 1, &[])),
            ListUpdate::Known,
            "an earlier one does not replace it"
        );
        owners.remove("a");
        assert_eq!(owners.add_instance(&NodeId::new(name("a"), 6)), Some(list_at(6, 2, &[("net", 2)])));
        assert_eq!(owners.list_version_of("a"), 0, "the caller takes it in");
    }

    #[test]
    fn heads_tell_who_is_behind() {
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
