//! Which connection leads to whom: a pure table, without sockets and clocks.
//!
//! One connection is *current* for each life of a peer; others with the same life are *replaced*: nothing new goes over
//! them, what is on them arrives. Two nodes that dial each other at once end up with two connections, and both sides
//! keep the one that the node with the smaller (name, life) dialled.
//!
//! Only addresses that are proven lead to a peer: packets came from there, or it answered there. What a peer says about
//! itself is not enough, or a node with a stolen name could draw off what is meant for the first.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use wire::{Destination, NodeName};

use crate::introduction::InstanceId;
use crate::socket::host_of;

/// A connection, numbered in the order in which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// One life of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub(crate) name: NodeName,
    pub(crate) id: InstanceId,
}

/// A connection as the table sees it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) id: LinkId,
    pub(crate) instance: Instance,
    pub(crate) dialled: bool,
    /// Where the packets of the peer come from.
    pub(crate) address: SocketAddr,
}

/// What a new connection changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// Connections that were current, or the new one itself, and are to be used up.
    pub(crate) replaced: Vec<LinkId>,
    /// Connections whose process is gone, because another one answers at their address now.
    pub(crate) stale: Vec<LinkId>,
}

/// What the end of a connection changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It was not in the table.
    Unknown,
    /// It was being used up.
    Replaced,
    /// Another connection with the same life is current now.
    Succeeded(LinkId),
    /// No connection with this life is left, but a later life of the node answers at the same address.
    Outlived,
    /// No connection with the peer is left.
    Lost,
}

/// The connections of one life that wait to be used up; a peer that keeps dialling gets no more than this.
const MAX_REPLACED: usize = 4;

/// The addresses that are remembered for one life.
const MAX_ADDRESSES: usize = 8;

#[derive(Debug)]
struct InstanceLinks {
    /// `None` if all its connections are being retired.
    current: Option<LinkId>,
    /// Connections that are being used up, and may become current again, oldest first.
    replaced: Vec<LinkId>,
    /// Proven, the latest last.
    addresses: Vec<SocketAddr>,
}

impl InstanceLinks {
    /// Takes the connection that is to be used again: of those that the node with the smaller identity dialled the
    /// latest, or else the latest. The other side decides alike.
    fn best_replaced(&mut self, routes: &HashMap<LinkId, Route>, we_are_smaller: bool) -> Option<LinkId> {
        let preferred = |id: &LinkId| routes.get(id).is_some_and(|route| route.dialled == we_are_smaller);
        let index = self.replaced.iter().rposition(preferred).or(self.replaced.len().checked_sub(1))?;
        Some(self.replaced.remove(index))
    }
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Routes {
    local: Instance,
    routes: HashMap<LinkId, Route>,
    by_host: HashMap<IpAddr, usize>,
    by_instance: BTreeMap<Instance, InstanceLinks>,
    /// The latest last.
    by_address: HashMap<SocketAddr, Vec<(Instance, LinkId)>>,
}

impl Routes {
    pub(crate) fn new(local: Instance) -> Self {
        Self {
            local,
            routes: HashMap::new(),
            by_host: HashMap::new(),
            by_instance: BTreeMap::new(),
            by_address: HashMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// How many connections there are with peers at this IP address, of IPv6 in its /64, whatever their ports.
    pub(crate) fn from(&self, address: IpAddr) -> usize {
        self.by_host.get(&host_of(address)).copied().unwrap_or(0)
    }

    /// The connection for something new that goes to `to`.
    pub(crate) fn find(&self, to: &Destination) -> Option<LinkId> {
        let candidates = self.by_address.get(&to.address)?;
        let wanted = |instance: &Instance| to.name.as_ref().is_none_or(|name| *name == instance.name);
        candidates.iter().rev().find(|(instance, _)| wanted(instance)).map(|(_, id)| *id)
    }

    /// Whether new things go over this connection.
    pub(crate) fn is_current(&self, id: LinkId) -> bool {
        let links = self.routes.get(&id).and_then(|route| self.by_instance.get(&route.instance));
        links.is_some_and(|links| links.current == Some(id))
    }

    /// Whether there is a connection for something new with a node of this name.
    pub(crate) fn is_connected(&self, name: &NodeName) -> bool {
        let first = Instance { name: name.clone(), id: InstanceId::MIN };
        let instances = self.by_instance.range(first..).take_while(|(instance, _)| instance.name == *name);
        instances.into_iter().any(|(_, links)| links.current.is_some())
    }

    /// The names of all nodes with whom there is a connection, in order.
    pub(crate) fn connected(&self) -> Vec<NodeName> {
        let mut names: Vec<_> = self
            .by_instance
            .iter()
            .filter(|(_, links)| links.current.is_some())
            .map(|(instance, _)| instance.name.clone())
            .collect();
        names.dedup();
        names
    }

    /// Every connection with a node of this name, at this address if one is given, in order.
    pub(crate) fn of(&self, name: &NodeName, address: Option<SocketAddr>) -> Vec<LinkId> {
        let mut found: Vec<_> = self
            .routes
            .values()
            .filter(|route| {
                route.instance.name == *name && address.is_none_or(|address| route.address == address)
            })
            .map(|route| route.id)
            .collect();
        found.sort_unstable();
        found
    }

    /// Takes up a connection whose handshake is complete.
    pub(crate) fn add(&mut self, route: Route) -> Added {
        let mut added = Added::default();
        let Route { id, instance, dialled, address } = route.clone();
        // One process has one socket: whoever else was there is gone. A restarted node must not wait until the idle
        // time of its earlier life is over.
        let gone: Vec<Instance> = self
            .routes
            .values()
            .filter(|other| other.address == address && other.instance != instance)
            .map(|other| other.instance.clone())
            .collect();
        for other in gone {
            let routes = &self.routes;
            let is_there = |id: &LinkId| routes.get(id).is_some_and(|route| route.address == address);
            if let Some(links) = self.by_instance.get_mut(&other) {
                added.stale.extend(links.current.take_if(|current| is_there(current)));
                added.stale.extend(links.replaced.extract_if(.., |id| is_there(id)));
                links.current = links.current.or_else(|| links.best_replaced(routes, self.local < other));
                links.addresses.retain(|known| *known != address);
            }
            self.unindex(address, &other);
            self.index(&other);
        }
        added.stale.sort_unstable();
        added.stale.dedup();

        *self.by_host.entry(host_of(address.ip())).or_default() += 1;
        self.routes.insert(id, route);
        let links = self.by_instance.entry(instance.clone()).or_insert(InstanceLinks {
            current: None,
            replaced: Vec::new(),
            addresses: Vec::new(),
        });
        links.addresses.retain(|known| *known != address);
        let forgotten = (links.addresses.len() >= MAX_ADDRESSES).then(|| links.addresses.remove(0));
        links.addresses.push(address);
        let keeps_old = links.current.and_then(|old| self.routes.get(&old)).is_some_and(|old| {
            // Of two that the same side dialled the later one counts: whoever dials again has lost the first.
            old.dialled != dialled && old.dialled == (self.local < instance)
        });
        if keeps_old {
            links.replaced.push(id);
            added.replaced.push(id);
        } else if let Some(old) = links.current.replace(id) {
            links.replaced.push(old);
            added.replaced.push(old);
        }
        if links.replaced.len() > MAX_REPLACED {
            added.stale.push(links.replaced.remove(0));
        }
        if let Some(forgotten) = forgotten {
            self.unindex(forgotten, &instance);
        }
        self.index(&instance);
        added
    }

    /// Takes a connection out of use for good: nothing new goes over it, and it never becomes current again.
    pub(crate) fn retire(&mut self, id: LinkId) -> Removed {
        let Some(route) = self.routes.get(&id) else { return Removed::Unknown };
        let instance = route.instance.clone();
        let Some(links) = self.by_instance.get_mut(&instance) else { return Removed::Unknown };
        links.replaced.retain(|other| *other != id);
        let removed = if links.current == Some(id) {
            links.current = links.best_replaced(&self.routes, self.local < instance);
            links.current.map_or(Removed::Lost, Removed::Succeeded)
        } else {
            Removed::Replaced
        };
        self.index(&instance);
        removed
    }

    /// Forgets a connection that has ended.
    pub(crate) fn remove(&mut self, id: LinkId) -> Removed {
        let removed = self.retire(id);
        let Some(route) = self.routes.remove(&id) else { return removed };
        let host = host_of(route.address.ip());
        match self.by_host.get_mut(&host) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.by_host.remove(&host)),
        }
        let instance = route.instance;
        let empty = self.by_instance.get(&instance).is_some_and(|links| links.current.is_none());
        if empty && !self.routes.values().any(|other| other.instance == instance) {
            self.by_instance.remove(&instance);
        }
        let to = Destination { name: Some(instance.name), address: route.address };
        match removed {
            Removed::Lost if self.find(&to).is_some() => Removed::Outlived,
            removed => removed,
        }
    }

    /// Makes the addresses of one life lead to its current connection.
    fn index(&mut self, instance: &Instance) {
        let Some(links) = self.by_instance.get(instance) else { return };
        let (current, addresses) = (links.current, links.addresses.clone());
        for address in addresses {
            self.unindex(address, instance);
            if let Some(current) = current {
                self.by_address.entry(address).or_default().push((instance.clone(), current));
            }
        }
    }

    fn unindex(&mut self, address: SocketAddr, instance: &Instance) {
        if let Some(entries) = self.by_address.get_mut(&address) {
            entries.retain(|(other, _)| other != instance);
            if entries.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
