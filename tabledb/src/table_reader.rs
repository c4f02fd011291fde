//! Reading many entries of one table.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::Entry;
use crate::replica::Table;
use crate::shared::Shared;

/// Reads the entries of one table, as [`TableDb::get`](crate::TableDb::get) does, without finding network and table anew for each.
/// It follows them: a table that is dropped and made again, and a network that is left and joined again, are
/// found by the next call.
///
/// A clone for each thread costs less than one reader for all: threads that share a reader wait for each
/// other's caches.
///
/// # Examples
/// ```
/// use tabledb::{Config, NodeName, TableDb};
///
/// let tables = TableDb::new(Config::starting_now(NodeName::new("host-1")?))?;
/// let services = tables.reader("blue", "services");
/// assert!(services.get("web").is_none());
/// tables.join_network("blue")?;
/// tables.create("blue", "services", "web", "10.0.0.7:80")?;
/// let web = services.get("web").expect("it was created");
/// assert_eq!(web.value(), b"10.0.0.7:80");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableReader {
    shared: Arc<Shared>,
    network: Arc<str>,
    table: Arc<str>,
    /// The table as it was found last.
    found: RwLock<Option<Arc<Table>>>,
}

impl TableReader {
    pub(crate) fn new(shared: Arc<Shared>, network: &str, table: &str) -> Self {
        Self { shared, network: network.into(), table: table.into(), found: RwLock::default() }
    }

    /// The network.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The visible entry under `key`, if any.
    pub fn get(&self, key: &str) -> Option<Entry> {
        {
            let found = self.found.read();
            if let Some(table) = found.as_ref().filter(|table| !table.is_dropped()) {
                return table.get(key);
            }
        }
        let table = self.shared.table(&self.network, &self.table);
        let entry = table.as_ref().and_then(|table| table.get(key));
        // Not for a table that does not exist: readers of the others would wait for each such look-up.
        if table.is_some() {
            *self.found.write() = table;
        }
        entry
    }
}

impl Clone for TableReader {
    fn clone(&self) -> Self {
        let found = RwLock::new(self.found.read().clone());
        Self { shared: self.shared.clone(), network: self.network.clone(), table: self.table.clone(), found }
    }
}

impl fmt::Debug for TableReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableReader")
            .field("network", &self.network)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::NodeName;

    use crate::{Config, TableDb};

    #[test]
    fn a_reader_follows_its_table() {
        const REAP_TIME: Duration = Duration::from_secs(60);
        let mut config = Config::starting_now(NodeName::new("n").unwrap());
        config.reap_time = REAP_TIME;
        let tables = TableDb::new(config).unwrap();
        let (reader, driver) = (tables.reader("net", "t"), tables.driver().unwrap());
        let read = |key| reader.get(key).map(|entry| entry.value().to_vec());
        assert_eq!(read("k"), None, "the network is not joined");
        for round in ["first", "second"] {
            tables.join_network("net").unwrap();
            assert_eq!(read("k"), None, "{round}: the table does not exist");
            tables.create("net", "t", "k", round).unwrap();
            assert_eq!(read("k"), Some(round.into()));
            // The table goes with its last tombstone, and another of its name comes.
            tables.delete("net", "t", "k").unwrap();
            let due = driver.replica().poll_timeout().unwrap() + REAP_TIME * 2;
            driver.replica().handle_timeout(due);
            assert_eq!((read("k"), tables.statistics("net").unwrap().tables), (None, 0));
            tables.create("net", "t", "k", "again").unwrap();
            assert_eq!(read("k"), Some("again".into()));
            tables.leave_network("net").unwrap();
            assert!(!tables.networks().contains(&"net".to_owned()), "alone, it leaves at once");
            assert_eq!(read("k"), None, "{round}: the network was left");
        }
    }
}
