//! What happens in the demonstration, step by step. Every step ends when all nodes agree, or says what they do not.

use std::collections::BTreeMap;

use super::screen::Screen;
use super::services::Source;
use super::stage::{NETWORK, PATIENCE, Stage, TABLE, Watch};
use crate::failure::Failure;
use crate::output_table;

/// The one that crashes.
const CRASHER: usize = 1;

/// A record as all should show it, and which node wrote it last.
#[derive(Debug, Clone)]
struct Expected {
    value: String,
    owner: usize,
}

/// The nodes, and what their table should hold at each moment.
pub(super) struct Story<'a> {
    pub(super) stage: Stage,
    screen: &'a mut Screen,
    records: BTreeMap<String, Expected>,
}

impl<'a> Story<'a> {
    /// The nodes start and find each other.
    pub(super) async fn begin(screen: &'a mut Screen, count: usize) -> Result<Story<'a>, Failure> {
        screen.step(format_args!("{count} nodes start, and find each other")).await;
        let watch = Watch::start();
        let stage = Stage::start(count).await?;
        for actor in &stage.actors {
            screen.line(format_args!(
                "     {}  {:<21}  {}",
                actor.name,
                actor.node.advertised_address().to_string(),
                actor.url
            ));
        }
        let story = Self { stage, screen, records: BTreeMap::new() };
        match watch.until(|_| story.stage.know_each_other()).await {
            Some(took) => story.screen.done(format_args!("every node knows all {count}"), took),
            None => return Err(story.end_badly("the nodes do not all know each other").await),
        }
        Ok(story)
    }

    /// All the rest.
    pub(super) async fn tell(&mut self, source: &Source) -> Result<(), String> {
        let last = self.stage.actors.len() - 1;
        self.join_all().await?;
        self.load(source).await?;
        let (updated, moved, deleted) = self.choose();
        self.change(CRASHER, last, &updated, &moved, &deleted).await?;
        self.leave_network(last).await?;
        self.crash_and_return().await?;
        self.compare().await
    }

    async fn join_all(&mut self) -> Result<(), String> {
        let count = self.stage.actors.len();
        self.screen.step(format_args!("All join the network {NETWORK:?}")).await;
        let watch = Watch::start();
        for actor in self.stage.running() {
            actor.node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        }
        let took = watch.until(|_| self.stage.network_has(count)).await;
        let took = took.ok_or_else(|| format!("the nodes do not all count {count} on the network"))?;
        self.screen.done(format_args!("every node counts {count} on it"), took);
        Ok(())
    }

    async fn load(&mut self, source: &Source) -> Result<(), String> {
        let (writer, total) = (self.stage.actors[0].name.clone(), source.records.len());
        self.screen.step(format_args!("{writer} registers {total} services from {}", source.origin)).await;
        let others = self.stage.actors.iter().skip(1).map(|actor| actor.name.clone()).collect::<Vec<_>>();
        let mut progress = self.screen.progress(&others, total);
        let watch = Watch::start();
        for (key, value) in &source.records {
            self.create(0, key, value)?;
        }
        let written = watch.elapsed();
        let mut look = |elapsed| {
            let mut arrived = 0;
            for (row, actor) in self.stage.actors.iter().skip(1).enumerate() {
                let count = actor.statistics().map_or(0, |statistics| statistics.entries);
                progress.set(row, count, elapsed);
                arrived += usize::from(count == total);
            }
            arrived == others.len()
        };
        watch.until(&mut look).await;
        let took = watch.until(|_| self.stage.agree(total)).await;
        progress.finish(self.screen);
        self.screen.quiet(format_args!("the {total} writes took {writer} {}", super::screen::time(written)));
        self.agreed(took, "every node shows all of them")
    }

    /// Keys that the crashing node will update, keys that the last one will, and keys that it will delete.
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
        let names = (self.stage.actors[first].name.clone(), self.stage.actors[second].name.clone());
        let title = format!(
            "{} updates {} of them, {} updates {} others and deletes {}",
            names.0,
            updated.len(),
            names.1,
            moved.len(),
            deleted.len()
        );
        self.screen.step(title).await;
        let watch = Watch::start();
        for (writer, name, keys) in [(first, &names.0, updated), (second, &names.1, moved)] {
            for key in keys {
                let value = format!("{} via {name}", self.records[key].value);
                let db = self.stage.actors[writer].node.tables();
                db.update(NETWORK, TABLE, key, value.as_bytes()).map_err(|error| error.to_string())?;
                self.records.insert(key.clone(), Expected { value, owner: writer });
            }
        }
        for key in deleted {
            let db = self.stage.actors[second].node.tables();
            db.delete(NETWORK, TABLE, key).map_err(|error| error.to_string())?;
            self.records.remove(key);
        }
        let took = watch.until(|_| self.stage.agree(self.records.len())).await;
        self.agreed(took, "every node shows the changes")
    }

    async fn leave_network(&mut self, leaver: usize) -> Result<(), String> {
        let (name, rest) = (self.stage.actors[leaver].name.clone(), self.stage.actors.len() - 1);
        let own = self.take_records_of(leaver);
        self.screen.step(format_args!("{name} leaves the network, and comes back")).await;
        let watch = Watch::start();
        let node = self.stage.actors[leaver].node.clone();
        node.leave_network(NETWORK).await.map_err(|error| error.to_string())?;
        let took =
            watch.until(|_| self.stage.network_has(rest) && self.stage.agree(self.records.len())).await;
        self.agreed(took, &format!("its {} records are gone everywhere", own.len()))?;
        let watch = Watch::start();
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        let took =
            watch.until(|_| self.stage.network_has(rest + 1) && self.stage.agree(self.records.len())).await;
        self.agreed(
            took,
            &format!("it is back, and shows the {} records of the others", self.records.len()),
        )?;
        self.register_again(leaver, &own).await
    }

    async fn crash_and_return(&mut self) -> Result<(), String> {
        let name = self.stage.actors[CRASHER].name.clone();
        let own = self.take_records_of(CRASHER);
        self.screen.step(format_args!("{name} crashes, without a word")).await;
        let watch = Watch::start();
        self.stage.crash(CRASHER).await;
        let took =
            watch.until(|_| self.stage.know_each_other() && self.stage.agree(self.records.len())).await;
        self.agreed(took, &format!("noticed; its {} records are hidden everywhere", own.len()))?;
        self.screen.step(format_args!("{name} starts again under the same name")).await;
        let watch = Watch::start();
        self.stage.restart(CRASHER).await.map_err(|failure| failure.sentence().to_owned())?;
        let node = self.stage.actors[CRASHER].node.clone();
        let took = watch.until(|_| self.stage.know_each_other()).await;
        let took = took.ok_or_else(|| format!("the nodes do not all know {name} again"))?;
        self.screen.done(format_args!("every node knows all {}", self.stage.actors.len()), took);
        let watch = Watch::start();
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        let count = self.stage.actors.len();
        let took =
            watch.until(|_| self.stage.network_has(count) && self.stage.agree(self.records.len())).await;
        self.agreed(took, &format!("it shows the {} records of the others", self.records.len()))?;
        self.register_again(CRASHER, &own).await
    }

    async fn compare(&mut self) -> Result<(), String> {
        self.screen.step("The tables, compared").await;
        let rows = self.stage.attached().map(|(actor, statistics)| {
            vec![
                format!("     {}", actor.name),
                statistics.peers.to_string(),
                statistics.entries.to_string(),
                statistics.hidden.to_string(),
                format!("{:016x}", statistics.digest),
            ]
        });
        let table = output_table(&["     node", "#nodes", "#records", "#hidden", "digest"], rows);
        for line in table.lines() {
            self.screen.line(line);
        }
        let expected = self.records.iter().map(|(key, record)| (key.clone(), record.value.clone())).collect();
        match self.stage.differences(&expected) {
            none if none.is_empty() && self.stage.agree(self.records.len()) => {
                let (nodes, records) = (self.stage.actors.len(), self.records.len());
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
        let watch = Watch::start();
        for (key, Expected { value, .. }) in own {
            self.create(writer, key, value)?;
        }
        let took = watch.until(|_| self.stage.agree(self.records.len())).await;
        self.agreed(took, &format!("it registered its {} again; every node shows them", own.len()))
    }

    fn create(&mut self, writer: usize, key: &str, value: &str) -> Result<(), String> {
        let db = self.stage.actors[writer].node.tables();
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
            let differences = self.stage.differences(&expected);
            let why = if differences.is_empty() {
                "the nodes count each other differently".to_owned()
            } else {
                differences.join("; ")
            };
            return Err(format!("after {} s this is not true: {what}; {why}", PATIENCE.as_secs()));
        };
        let digest = self.stage.attached().next().map_or(0, |(_, statistics)| statistics.digest);
        self.screen.agreed(what, digest, took);
        Ok(())
    }

    async fn end_badly(self, what: &str) -> Failure {
        self.stage.end(std::time::Duration::ZERO).await;
        Failure::Refused(format!("after {} s {what}", PATIENCE.as_secs()))
    }
}
