//! Waiting until hosts have the expected members and entries.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use networkdb_http::v1::model::{EntryRecord, Members, NetworkView};
use tokio::time::{Instant, sleep};

use super::Failure;
use super::cluster::{Cluster, NETWORK, TABLE, TIMEOUT};
use super::ledger::Table;

/// How often hosts are polled; durations are no more precise.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Cluster {
    /// Waits until the condition holds; returns how long it took.
    pub async fn await_that(
        &self,
        what: &str,
        condition: impl AsyncFnMut(&Self) -> Result<(), Failure>,
    ) -> Result<Duration, Failure> {
        self.await_within(TIMEOUT, what, condition).await
    }

    /// The same with another timeout.
    pub async fn await_within(
        &self,
        limit: Duration,
        what: &str,
        mut condition: impl AsyncFnMut(&Self) -> Result<(), Failure>,
    ) -> Result<Duration, Failure> {
        let begun = Instant::now();
        loop {
            let Err(failure) = condition(self).await else { return Ok(begun.elapsed()) };
            if begun.elapsed() > limit {
                return Err(format!("after {} s this does not hold: {what}: {failure}", limit.as_secs()));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// The members that a node holds alive or suspect, and those that it suspects.
    async fn present(&self, observer: usize) -> Result<(BTreeSet<String>, BTreeSet<String>), Failure> {
        let answer = self.ask(observer, Method::GET, "/v1/members", Bytes::new()).await?;
        let members = answer.json::<Members>()?.members;
        let with = |states: &[&str]| {
            let matching = members.iter().filter(|member| states.contains(&member.state.as_str()));
            matching.map(|member| member.name.clone()).collect()
        };
        Ok((with(&["alive", "suspect"]), with(&["suspect"])))
    }

    /// Waits until each of the observers holds exactly these nodes alive or suspect; others have
    /// failed or left.
    pub async fn await_present(
        &self,
        what: &str,
        observers: &[usize],
        present: &[usize],
    ) -> Result<Duration, Failure> {
        let wanted: BTreeSet<String> = present.iter().map(|host| self.name(*host).to_owned()).collect();
        self.await_that(what, async |cluster| {
            for observer in observers {
                let (found, _) = cluster.present(*observer).await?;
                if found != wanted {
                    return Err(format!("{} holds {found:?} for members", cluster.name(*observer)));
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until every running node holds exactly the running nodes for members, and suspects
    /// none.
    pub async fn await_members(&self, what: &str) -> Result<Duration, Failure> {
        let running = self.running();
        let wanted: BTreeSet<String> = running.iter().map(|host| self.name(*host).to_owned()).collect();
        self.await_that(what, async |cluster| {
            for observer in &running {
                let (found, suspects) = cluster.present(*observer).await?;
                if found != wanted || !suspects.is_empty() {
                    let name = cluster.name(*observer);
                    return Err(format!("{name} holds {found:?} for members and suspects {suspects:?}"));
                }
            }
            Ok(())
        })
        .await
    }

    /// The table on a host.
    pub async fn table(&self, host: usize) -> Result<Table, Failure> {
        let path = format!("/v1/networks/{NETWORK}/tables/{TABLE}/entries");
        let answer = self.ask(host, Method::GET, &path, Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(format!("{} does not export its table: {}", self.name(host), answer.text()));
        }
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let entry = |line: &[u8]| {
            let record: EntryRecord = serde_json::from_slice(line)
                .map_err(|error| format!("{} exports no entry: {error}", self.name(host)))?;
            let value = record.value.unwrap_or_default();
            Ok((record.key, (value, record.owner.unwrap_or_default())))
        };
        lines.map(entry).collect()
    }

    /// A host's view of its network.
    pub async fn network(&self, host: usize) -> Result<NetworkView, Failure> {
        let path = format!("/v1/networks/{NETWORK}");
        self.ask(host, Method::GET, &path, Bytes::new()).await?.json()
    }

    /// Checks that these hosts show the same; the error names a difference.
    pub(super) async fn same_digest(&self, hosts: &[usize]) -> Result<(), Failure> {
        let mut first = None;
        for host in hosts {
            let view = self.network(*host).await?;
            let found = (view.digest.clone(), view.entries, view.hidden);
            let wanted = first.get_or_insert_with(|| found.clone());
            if view.hidden > 0 || found != *wanted {
                return Err(format!(
                    "{} shows {} entries (digest {}) and hides {}; {} shows {} (digest {})",
                    self.name(*host),
                    view.entries,
                    view.digest,
                    view.hidden,
                    self.name(hosts[0]),
                    wanted.1,
                    wanted.0
                ));
            }
        }
        Ok(())
    }

    /// Checks that the tables of these hosts are equal, and allowed by the ledger; the error names
    /// a difference.
    pub(super) async fn check(&self, hosts: &[usize]) -> Result<(), Failure> {
        self.same_digest(hosts).await?;
        let mut first: Option<Table> = None;
        for host in hosts {
            let table = self.table(*host).await?;
            self.ledger.lock().check(&table).map_err(|error| format!("on {}: {error}", self.name(*host)))?;
            let wanted = first.get_or_insert_with(|| table.clone());
            if table != *wanted {
                return Err(format!("{} and {} do not show the same", self.name(hosts[0]), self.name(*host)));
            }
        }
        Ok(())
    }

    /// Waits until every running node shows the same, and the ledger allows it.
    pub async fn await_agreement(&self, what: &str) -> Result<Duration, Failure> {
        let running = self.running();
        self.await_that(what, async |cluster| cluster.check(&running).await).await
    }

    /// The end of every scenario: all nodes know all members, show the same, have lost nothing and
    /// brought nothing back; and this remains so for some seconds without writes.
    pub async fn settle(&self) -> Result<(), Failure> {
        self.await_members("all agree on the members in the end").await?;
        self.await_agreement("all show the same in the end").await?;
        sleep(Duration::from_secs(3)).await;
        self.check(&self.running()).await.map_err(|error| format!("it did not last: {error}"))?;
        self.seen_so_far().map(drop)
    }
}
