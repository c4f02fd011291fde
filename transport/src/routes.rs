//! Which connection leads to which peer: a pure table, without sockets and clocks.
//!
//! One connection is *current* for each instance of a peer. Other connections with the same instance are
//! *replaced*: they carry no new datagrams or streams, and are drained. Two nodes that dial each other
//! at the same time get two connections. Both keep the one that was dialled by the node with the smaller
//! (name, instance id).
//!
//! Only validated addresses lead to a peer: packets came from there, or the peer answered there. The
//! address that a peer announces is not enough. Otherwise a node with a stolen name could divert the
//! traffic of the first one.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use wire::{Destination, NodeName};

use crate::introduction::InstanceId;
use crate::socket::host_of;

/// A connection, numbered in order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(crate) u64);

/// One instance of a node: the process behind a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub(crate) name: NodeName,
    pub(crate) id: InstanceId,
}

/// A connection in the table.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) id: LinkId,
    pub(crate) instance: Instance,
    pub(crate) dialled: bool,
    /// The source address of the peer's packets.
    pub(crate) address: SocketAddr,
}

/// The changes caused by a new connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// Connections to drain: the ones that were current, or the new one itself.
    pub(crate) replaced: Vec<LinkId>,
    /// Connections of a process that no longer exists, because another one answers at its address.
    pub(crate) stale: Vec<LinkId>,
}

/// The change caused by the end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// It was not in the table.
    Unknown,
    /// It was replaced or retired before.
    Replaced,
    /// Another connection with the same instance is current now.
    Succeeded(LinkId),
    /// There is no other connection with this instance, but a later instance of the node answers at the
    /// same address.
    Outlived,
    /// There is no other connection with the peer.
    Lost,
}

/// The most replaced connections of one instance, however often the peer dials.
const MAX_REPLACED: usize = 4;

/// The most addresses that are remembered for one instance.
const MAX_ADDRESSES: usize = 8;

#[derive(Debug)]
struct InstanceLinks {
    /// `None` if all its connections are retired.
    current: Option<LinkId>,
    /// Connections that are being drained and may become current again, oldest first.
    replaced: Vec<LinkId>,
    /// Validated addresses, the latest last.
    addresses: Vec<SocketAddr>,
}

impl InstanceLinks {
    /// Removes and returns the connection that becomes current again: the latest that the node with the
    /// smaller identity dialled, or else the latest. The other side makes the same choice.
    fn best_replaced(&mut self, routes: &HashMap<LinkId, Route>, we_are_smaller: bool) -> Option<LinkId> {
        let preferred = |id: &LinkId| routes.get(id).is_some_and(|route| route.dialled == we_are_smaller);
        let index = self.replaced.iter().rposition(preferred).or(self.replaced.len().checked_sub(1))?;
        Some(self.replaced.remove(index))
    }
}

/// The table of connections.
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

    /// The number of connections with peers at this IP address (of IPv6, in its /64), whatever their
    /// ports.
    pub(crate) fn count_at_host(&self, address: IpAddr) -> usize {
        self.by_host.get(&host_of(address)).copied().unwrap_or(0)
    }

    /// The connection for new datagrams and streams to `to`.
    pub(crate) fn find(&self, to: &Destination) -> Option<LinkId> {
        let candidates = self.by_address.get(&to.address)?;
        let wanted = |instance: &Instance| to.name.as_ref().is_none_or(|name| *name == instance.name);
        candidates.iter().rev().find(|(instance, _)| wanted(instance)).map(|(_, id)| *id)
    }

    /// Whether new datagrams and streams use this connection.
    pub(crate) fn is_current(&self, id: LinkId) -> bool {
        let links = self.routes.get(&id).and_then(|route| self.by_instance.get(&route.instance));
        links.is_some_and(|links| links.current == Some(id))
    }

    /// Whether a node of this name has a current connection.
    pub(crate) fn is_connected(&self, name: &NodeName) -> bool {
        let first = Instance { name: name.clone(), id: InstanceId::MIN };
        let instances = self.by_instance.range(first..).take_while(|(instance, _)| instance.name == *name);
        instances.into_iter().any(|(_, links)| links.current.is_some())
    }

    /// The names of all nodes with a current connection, in order.
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
    pub(crate) fn links_with(&self, name: &NodeName, address: Option<SocketAddr>) -> Vec<LinkId> {
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

    /// Adds a connection whose handshake is complete.
    pub(crate) fn add(&mut self, route: Route) -> Added {
        let mut added = Added::default();
        let Route { id, instance, dialled, address } = route.clone();
        // A process has one socket, so any other process at this address no longer exists. A restarted
        // node must not wait for the idle timeout of its earlier instance.
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
            // Of two connections that the same side dialled the later one is kept: a node that dials
            // again has lost the first.
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

    /// Retires a connection: it carries nothing new, and never becomes current again.
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

    /// Removes a connection that has ended.
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

    /// Maps the addresses of an instance to its current connection.
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
