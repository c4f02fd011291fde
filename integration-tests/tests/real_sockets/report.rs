//! What each node of a cluster holds, in words: the message of a test that failed.

use std::fmt::{self, Display, Formatter};

use networkdb::Node;

use crate::cluster::Cluster;

/// So many entries of a table are shown, and so many characters of a value.
const SHOWN: usize = 8;

impl Display for Cluster {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.nodes().try_for_each(|(name, node)| describe(name, node, f))
    }
}

fn describe(name: &str, node: &Node, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "{name} at {}:", node.advertised_address())?;
    for member in node.members() {
        let (record, state) = (&member.record, member.state);
        writeln!(f, "  {state} {} at {}, incarnation {}", record.id, record.address, member.incarnation)?;
    }
    let tables = node.tables();
    for network in tables.networks() {
        let Some(counts) = tables.statistics(&network) else { continue };
        let peers = tables.network_peers(&network).iter().map(ToString::to_string).collect::<Vec<_>>();
        writeln!(f, "  network {network} with {}: {counts:?}", peers.join(", "))?;
        for table in tables.tables(&network) {
            let entries = tables.entries(&network, &table);
            for entry in entries.iter().take(SHOWN) {
                let start = String::from_utf8_lossy(&entry.value()[..entry.value().len().min(SHOWN)]);
                let (key, bytes, owner) = (&entry.key(), entry.value().len(), &entry.owner());
                writeln!(f, "    {table}/{key} = {start:?} ({bytes} bytes) of {owner}")?;
            }
            if entries.len() > SHOWN {
                writeln!(f, "    and {} more in {table}", entries.len() - SHOWN)?;
            }
        }
    }
    Ok(())
}
