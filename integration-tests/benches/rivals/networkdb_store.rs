//! A node of ours, as a program embeds it: the production driver, and the settings of `NodeConfig::new`.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

use networkdb::{KeySet, Node, NodeConfig, NodeName, WatchEvent, WatchFilter};
use tokio::runtime::Runtime;

use crate::clock::now;
use crate::entries::{Values, key};
use crate::participant::Failure;
use crate::store::{Store, StoreSettings};

pub(crate) const NETWORK: &str = "net";
pub(crate) const TABLE: &str = "table";

pub(crate) struct NetworkdbStore(Node);

impl Store for NetworkdbStore {
    fn start(runtime: &Runtime, settings: &StoreSettings) -> Result<Self, Failure> {
        runtime.block_on(async {
            let name = NodeName::new(settings.name.as_str()).map_err(|error| error.to_string())?;
            let bind = SocketAddr::new(settings.bind, 0);
            let config = NodeConfig::new(name, bind, KeySet::development());
            let node = Node::start(config).await.map_err(|error| error.to_string())?;
            if let Some(seed) = settings.seed {
                // A seed that is too busy is asked again in the background.
                let _ = node.join(&[seed.to_string()]).await;
            }
            Ok(Self(node))
        })
    }

    fn address(&self) -> SocketAddr {
        self.0.advertised_address()
    }

    fn join_network(&self, runtime: &Runtime) -> Result<(), Failure> {
        runtime.block_on(self.0.join_network(NETWORK)).map(drop).map_err(|error| error.to_string())
    }

    fn members(&self) -> usize {
        self.0.tables().network_peers(NETWORK).len()
    }

    fn create(&self, numbers: Range<usize>, values: &Values) -> Result<(), Failure> {
        for number in numbers {
            self.0
                .tables()
                .create(NETWORK, TABLE, &key(number), values.of(number))
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.0.tables().statistics(NETWORK).map_or(0, |statistics| statistics.entries)
    }

    /// One thread reads the watch, and ends when nobody waits for arrivals.
    fn arrivals(&self) -> mpsc::Receiver<Duration> {
        let (sender, arrivals) = mpsc::channel();
        let watch = self.0.tables().watch(WatchFilter::default());
        std::thread::spawn(move || {
            for event in watch {
                if matches!(event, WatchEvent::Change(_)) && sender.send(now()).is_err() {
                    return;
                }
            }
        });
        arrivals
    }
}
