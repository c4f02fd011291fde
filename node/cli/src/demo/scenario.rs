//! The steps of the demonstration. Every step ends when all nodes agree, or fails with their differences.

use std::collections::BTreeMap;

use super::cluster::{DemoCluster, NETWORK, STEP_TIMEOUT, Stopwatch, TABLE};
use super::screen::Screen;
use super::services::Source;
use crate::failure::Failure;
use crate::output::table;

/// The index of the node that crashes.
const CRASHER: usize = 1;

/// The expected value of a record, and the index of its owner.
#[derive(Debug, Clone)]
struct Expected {
    value: String,
    owner: usize,
}

/// The nodes, and the expected records of their table.
pub(super) struct Scenario<'a> {
    pub(super) cluster: DemoCluster,
    screen: &'a mut Screen,
    records: BTreeMap<String, Expected>,
}

impl<'a> Scenario<'a> {
    /// Starts the nodes, and waits until they know each other.
    pub(super) async fn begin(screen: &'a mut Screen, count: usize) -> Result<Scenario<'a>, Failure> {
        screen.step(format_args!("{count} nodes start, and find each other")).await;
        let stopwatch = Stopwatch::start();
        let cluster = DemoCluster::start(count).await?;
        for demo_node in &cluster.nodes {
            screen.line(format_args!(
                "     {}  {:<21}  {}",
                demo_node.name,
                demo_node.node.advertised_address().to_string(),
                demo_node.url
            ));
        }
        let scenario = Self { cluster, screen, records: BTreeMap::new() };
        match stopwatch.until(|_| scenario.cluster.know_each_other()).await {
            Some(took) => scenario.screen.done(format_args!("every node knows all {count}"), took),
            None => return Err(scenario.fail("the nodes do not all know each other").await),
        }
        Ok(scenario)
    }

    /// Runs all other steps.
    pub(super) async fn run(&mut self, source: &Source) -> Result<(), String> {
        let last = self.cluster.nodes.len() - 1;
        self.join_all().await?;
        self.load(source).await?;
        let (updated, moved, deleted) = self.choose();
        self.change(CRASHER, last, &updated, &moved, &deleted).await?;
        self.leave_network(last).await?;
        self.crash_and_return().await?;
        self.compare().await
    }

    async fn join_all(&mut self) -> Result<(), String> {
        let count = self.cluster.nodes.len();
        self.screen.step(format_args!("All join the network {NETWORK:?}")).await;
        let stopwatch = Stopwatch::start();
        for demo_node in self.cluster.running() {
            demo_node.node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        }
        let took = stopwatch.until(|_| self.cluster.network_has(count)).await;
        let took = took.ok_or_else(|| format!("the nodes do not all count {count} on the network"))?;
        self.screen.done(format_args!("every node counts {count} on it"), took);
        Ok(())
    }

    async fn load(&mut self, source: &Source) -> Result<(), String> {
        let (writer, total) = (self.cluster.nodes[0].name.clone(), source.records.len());
        self.screen.step(format_args!("{writer} registers {total} services from {}", source.origin)).await;
        let others =
            self.cluster.nodes.iter().skip(1).map(|demo_node| demo_node.name.clone()).collect::<Vec<_>>();
        let mut progress = self.screen.progress(&others, total);
        let stopwatch = Stopwatch::start();
        for (key, value) in &source.records {
            self.create(0, key, value)?;
        }
        let written = stopwatch.elapsed();
        let mut look = |elapsed| {
            let mut arrived = 0;
            for (row, demo_node) in self.cluster.nodes.iter().skip(1).enumerate() {
                let count = demo_node.statistics().map_or(0, |statistics| statistics.entries);
                progress.set(row, count, elapsed);
                arrived += usize::from(count == total);
            }
            arrived == others.len()
        };
        stopwatch.until(&mut look).await;
        let took = stopwatch.until(|_| self.cluster.agree(total)).await;
        progress.finish(self.screen);
        self.screen.detail(format_args!("the {total} writes took {writer} {}", super::screen::time(written)));
        self.agreed(took, "every node shows all of them")
    }

    /// The keys that the crashing node will update, those that the last node will update, and those that it
    /// will delete.
    fn choose(&self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let keys = self.records.keys().cloned().collect::<Vec<_>>();
        let share = (keys.len() / 8).max(1);
        let mut pieces = keys.chunks(share).map(<[String]>::to_vec);
        let mut next = || pieces.next().unwrap_or_default();
        (next(), next(), next())
    }

    async fn change(
        &mut self,
        first: usize,
        second: usize,
        updated: &[String],
        moved: &[String],
        deleted: &[String],
    ) -> Result<(), String> {
        let names = (self.cluster.nodes[first].name.clone(), self.cluster.nodes[second].name.clone());
        let title = format!(
            "{} updates {} of them, {} updates {} others and deletes {}",
            names.0,
            updated.len(),
            names.1,
            moved.len(),
            deleted.len()
        );
        self.screen.step(title).await;
        let stopwatch = Stopwatch::start();
        for (writer, name, keys) in [(first, &names.0, updated), (second, &names.1, moved)] {
            for key in keys {
                let value = format!("{} via {name}", self.records[key].value);
                let db = self.cluster.nodes[writer].node.tables();
                db.update(NETWORK, TABLE, key, value.as_bytes()).map_err(|error| error.to_string())?;
                self.records.insert(key.clone(), Expected { value, owner: writer });
            }
        }
        for key in deleted {
            let db = self.cluster.nodes[second].node.tables();
            db.delete(NETWORK, TABLE, key).map_err(|error| error.to_string())?;
            self.records.remove(key);
        }
        let took = stopwatch.until(|_| self.cluster.agree(self.records.len())).await;
        self.agreed(took, "every node shows the changes")
    }

    async fn leave_network(&mut self, leaver: usize) -> Result<(), String> {
        let (name, rest) = (self.cluster.nodes[leaver].name.clone(), self.cluster.nodes.len() - 1);
        let own = self.take_records_of(leaver);
        self.screen.step(format_args!("{name} leaves the network, and comes back")).await;
        let stopwatch = Stopwatch::start();
        let node = self.cluster.nodes[leaver].node.clone();
        node.leave_network(NETWORK).await.map_err(|error| error.to_string())?;
        let took = stopwatch
            .until(|_| self.cluster.network_has(rest) && self.cluster.agree(self.records.len()))
            .await;
        self.agreed(took, &format!("its {} records are gone everywhere", own.len()))?;
        let stopwatch = Stopwatch::start();
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        let took = stopwatch
            .until(|_| self.cluster.network_has(rest + 1) && self.cluster.agree(self.records.len()))
            .await;
        self.agreed(
            took,
            &format!("it is back, and shows the {} records of the others", self.records.len()),
        )?;
        self.register_again(leaver, &own).await
    }

    async fn crash_and_return(&mut self) -> Result<(), String> {
        let name = self.cluster.nodes[CRASHER].name.clone();
        let own = self.take_records_of(CRASHER);
        self.screen.step(format_args!("{name} crashes, without leaving")).await;
        let stopwatch = Stopwatch::start();
        self.cluster.crash(CRASHER).await;
        let took = stopwatch
            .until(|_| self.cluster.know_each_other() && self.cluster.agree(self.records.len()))
            .await;
        self.agreed(
            took,
            &format!("the others detected it; its {} records are hidden everywhere", own.len()),
        )?;
        self.screen.step(format_args!("{name} starts again under the same name")).await;
        let stopwatch = Stopwatch::start();
        self.cluster.restart(CRASHER).await.map_err(|failure| failure.sentence().to_owned())?;
        let node = self.cluster.nodes[CRASHER].node.clone();
        let took = stopwatch.until(|_| self.cluster.know_each_other()).await;
        let took = took.ok_or_else(|| format!("the nodes do not all know {name} again"))?;
        self.screen.done(format_args!("every node knows all {}", self.cluster.nodes.len()), took);
        let stopwatch = Stopwatch::start();
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        let count = self.cluster.nodes.len();
        let took = stopwatch
            .until(|_| self.cluster.network_has(count) && self.cluster.agree(self.records.len()))
            .await;
        self.agreed(took, &format!("it shows the {} records of the others", self.records.len()))?;
        self.register_again(CRASHER, &own).await
    }

    async fn compare(&mut self) -> Result<(), String> {
        self.screen.step("The tables, compared").await;
        let rows = self.cluster.attached().map(|(demo_node, statistics)| {
            vec![
                format!("     {}", demo_node.name),
                statistics.peers.to_string(),
                statistics.entries.to_string(),
                statistics.hidden.to_string(),
                format!("{:016x}", statistics.digest),
            ]
        });
        let table = table(&["     node", "#nodes", "#records", "#hidden", "digest"], rows);
        for line in table.lines() {
            self.screen.line(line);
        }
        let expected = self.records.iter().map(|(key, record)| (key.clone(), record.value.clone())).collect();
        match self.cluster.differences(&expected) {
            none if none.is_empty() && self.cluster.agree(self.records.len()) => {
                let (nodes, records) = (self.cluster.nodes.len(), self.records.len());
                self.screen
                    .good(format_args!("all {nodes} nodes agree on all {records} records, key by key"));
                Ok(())
            }
            none if none.is_empty() => {
                Err("the nodes show the same records, but their digests differ".to_owned())
            }
            differences => Err(differences.join("; ")),
        }
    }

    async fn register_again(
        &mut self,
        writer: usize,
        own: &BTreeMap<String, Expected>,
    ) -> Result<(), String> {
        let stopwatch = Stopwatch::start();
        for (key, Expected { value, .. }) in own {
            self.create(writer, key, value)?;
        }
        let took = stopwatch.until(|_| self.cluster.agree(self.records.len())).await;
        self.agreed(took, &format!("it registered its {} again; every node shows them", own.len()))
    }

    fn create(&mut self, writer: usize, key: &str, value: &str) -> Result<(), String> {
        let db = self.cluster.nodes[writer].node.tables();
        db.create(NETWORK, TABLE, key, value.as_bytes()).map_err(|error| error.to_string())?;
        self.records.insert(key.to_owned(), Expected { value: value.to_owned(), owner: writer });
        Ok(())
    }

    fn take_records_of(&mut self, owner: usize) -> BTreeMap<String, Expected> {
        let (own, others) =
            std::mem::take(&mut self.records).into_iter().partition(|(_, record)| record.owner == owner);
        self.records = others;
        own
    }

    fn agreed(&self, took: Option<std::time::Duration>, what: &str) -> Result<(), String> {
        let Some(took) = took else {
            let expected =
                self.records.iter().map(|(key, record)| (key.clone(), record.value.clone())).collect();
            let differences = self.cluster.differences(&expected);
            let why = if differences.is_empty() {
                "the nodes count each other differently".to_owned()
            } else {
                differences.join("; ")
            };
            return Err(format!("after {} s this is not true: {what}; {why}", STEP_TIMEOUT.as_secs()));
        };
        let digest = self.cluster.attached().next().map_or(0, |(_, statistics)| statistics.digest);
        self.screen.agreed(what, digest, took);
        Ok(())
    }

    async fn fail(self, what: &str) -> Failure {
        self.cluster.end(std::time::Duration::ZERO).await;
        Failure::Refused(format!("after {} s {what}", STEP_TIMEOUT.as_secs()))
    }
}
