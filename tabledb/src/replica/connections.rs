//! The peers with an established connection. A message that may go to any peer goes to one of them, since it
//! costs no handshake.
//!
//! Nodes that start at once know each other long before they are connected. If each sent its updates to
//! random peers, and asked random peers for what it lacks, every node would dial every other one within
//! seconds.

use std::collections::BTreeSet;

use wire::NodeName;

/// The peers with an established connection, as far as that is known.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Connections {
    /// `None` until the first report of a connection: then all peers are treated alike.
    with: Option<BTreeSet<NodeName>>,
}

impl Connections {
    /// A connection with `peer` was established, or its last one closed.
    pub(crate) fn change(&mut self, peer: &NodeName, connected: bool) {
        let with = self.with.get_or_insert_default();
        match connected {
            true => drop(with.insert(peer.clone())),
            false => drop(with.remove(peer)),
        }
    }

    /// Removes all connections.
    pub(crate) fn forget(&mut self) {
        self.with = Some(BTreeSet::new());
    }

    /// Whether a message reaches `peer` without a handshake, as far as is known.
    pub(crate) fn reach(&self, peer: &NodeName) -> bool {
        self.with.as_ref().is_none_or(|with| with.contains(peer))
    }

    /// The connected peers that are `wanted`, ascending by name; none while connections are not known.
    ///
    /// A node has a few dozen connections in a cluster of thousands: this visits the connections, not all
    /// nodes.
    pub(crate) fn established<'a>(
        &'a self,
        wanted: impl Fn(&NodeName) -> bool + 'a,
    ) -> impl Iterator<Item = &'a NodeName> + 'a {
        self.with.iter().flatten().filter(move |peer| wanted(peer))
    }

    /// The connected ones among `peers`; all of them if none is connected.
    pub(crate) fn prefer<'a>(&self, peers: Vec<&'a NodeName>) -> Vec<&'a NodeName> {
        let near: Vec<_> = peers.iter().copied().filter(|peer| self.reach(peer)).collect();
        if near.is_empty() { peers } else { near }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_a_connection_are_preferred_as_soon_as_connections_are_known() {
        let names = ["a", "b", "c"].map(|name| NodeName::new(name).unwrap());
        let all = || names.iter().collect::<Vec<_>>();
        let mut connections = Connections::default();
        assert_eq!(connections.prefer(all()), all());
        assert_eq!(connections.established(|_| true).count(), 0, "nothing is known yet");
        connections.change(&names[1], true);
        assert_eq!(connections.prefer(all()), [&names[1]]);
        assert!(connections.established(|_| true).eq([&names[1]]));
        assert_eq!(connections.established(|peer| *peer != names[1]).count(), 0);
        connections.change(&names[1], false);
        assert_eq!(connections.prefer(all()), all(), "no peer can be reached without a handshake");
        connections.change(&names[2], true);
        connections.forget();
        assert!(!connections.reach(&names[2]));
    }
}
