//! With whom there is a connection: whatever may go to anybody goes to one of them, for it costs no handshake.
//!
//! Nodes that start at once know of each other long before they are connected. If each told its news to random others, and
//! asked random others for what it lacks, every node would dial every other one within seconds.

use std::collections::BTreeSet;

use wire::NodeName;

/// With whom there is a connection, as far as that is known.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// `None` as long as nothing has been said about connections: then all are alike.
    with: Option<BTreeSet<NodeName>>,
}

impl Connections {
    /// There has come to be a connection with `peer`, or is none any more.
    pub(crate) fn change(&mut self, peer: &NodeName, connected: bool) {
        let with = self.with.get_or_insert_default();
        match connected {
            true => drop(with.insert(peer.clone())),
            false => drop(with.remove(peer)),
        }
    }

    /// There are none.
    pub(crate) fn forget(&mut self) {
        self.with = Some(BTreeSet::new());
    }

    /// Whether something can be sent to `peer` without a handshake, as far as is known.
    pub(crate) fn reach(&self, peer: &NodeName) -> bool {
        self.with.as_ref().is_none_or(|with| with.contains(peer))
    }

    /// Those of `peers` with whom there is a connection; all of them if there is none with any.
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
        connections.change(&names[1], true);
        assert_eq!(connections.prefer(all()), [&names[1]]);
        connections.change(&names[1], false);
        assert_eq!(connections.prefer(all()), all(), "nobody can be reached without a handshake");
        connections.change(&names[2], true);
        connections.forget();
        assert!(!connections.reach(&names[2]));
    }
}
