//! Attacks by a member that writes: too much, too many keys, or in the future.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep};
use transport::KeySet;

use super::{JUNK, MIB, MOST_ENTRIES, Target, await_gone, clock_now, target};
use crate::hostile::forge::{Body, Bundle, Event};
use crate::hostile::insider::{Insider, Modified};
use crate::hostile::siege::{ATTACK, AttackLimits, VICTIM, run_attack};
use crate::hosts::{Cluster, Failure, Run};

pub(super) async fn events(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, honest } = target(cluster)?;
    let limits = AttackLimits {
        growth: 128 * MIB,
        required_counters: &[("replication", "updates_learned")],
        disjoint: false,
    };
    let attack = async move {
        let insider = Insider::enter("eager", from, victim, keys, &[JUNK], Modified::default()).await?;
        insider.await_others(honest).await?;
        let tables = insider.tables();
        let end = Instant::now() + ATTACK;
        let mut written = 0_u64;
        while Instant::now() < end {
            for number in 0..5_000 {
                let (key, value) = (format!("k{}", number), written.to_le_bytes());
                written += 1;
                let _ = tables
                    .create(JUNK, "t", &key, value)
                    .map_err(drop)
                    .or_else(|()| tables.update(JUNK, "t", &key, value).map_err(drop));
            }
            insider.wake();
            tokio::task::yield_now().await;
        }
        Ok(written)
    };
    run_attack(run, cluster, &limits, attack).await?;
    await_gone(cluster, "eager").await
}

pub(super) async fn ten_million_keys(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    const KEYS: u64 = 10_000_000;
    let Target { victim, from, keys, honest } = target(cluster)?;
    let limits = AttackLimits {
        // A network full of the attacker's entries, on the victim.
        growth: 150 * MIB,
        required_counters: &[("replication", "refused_full")],
        disjoint: false,
    };
    let attack = async move {
        let modified = Modified { ignores_tables: true, ..Modified::default() };
        let insider = Insider::enter("glutton", from, victim, keys, &[JUNK], modified).await?;
        insider.await_others(honest).await?;
        let target = insider
            .others()
            .into_iter()
            .find(|(_, _, address)| *address == victim)
            .ok_or("the attacker does not know its victim")?;
        let id = insider.id();
        let clock = clock_now();
        let end = Instant::now() + 3 * ATTACK;
        let (mut next, mut sent) = (1, 0);
        while next <= KEYS && Instant::now() < end {
            let keys: Vec<String> = (next..next + 35).map(|number| format!("{number:x}")).collect();
            let events = keys.iter().zip(next..).map(|(key, number)| Event {
                attachment: 0,
                number,
                age: 0,
                table: 0,
                key,
                body: Body::Value(b"junk"),
                replaced: Vec::new(),
            });
            let bundle = Bundle {
                network: JUNK,
                clock,
                relay: true,
                attachments: vec![(id.name.as_str(), id.generation, 2)],
                tables: vec!["t"],
                events: events.collect(),
                ..Bundle::default()
            };
            next += 35;
            sent += 35 * u64::from(insider.send(&target.0, target.2, bundle.datagram()).await);
        }
        Ok(sent)
    };
    run_attack(run, cluster, &limits, attack).await?;
    let answer = cluster.ask(VICTIM, Method::GET, &format!("/v1/networks/{JUNK}"), Bytes::new()).await?;
    let junk: networkdb_http::v1::model::NetworkView = answer.json()?;
    let held = (junk.entries + junk.hidden + junk.tombstones) as u64;
    run.counted("entries of the full network", held);
    if held > MOST_ENTRIES {
        return Err(format!("the victim holds {held} entries of a network, and {MOST_ENTRIES} are allowed"));
    }
    await_gone(cluster, "glutton").await
}

pub(super) async fn future(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, honest } = target(cluster)?;
    let attacker = cluster.lab().hosts() - 1;
    let entry = |key: &str| format!("/v1/networks/{JUNK}/tables/future/entries/{key}");
    let visit = |name: &'static str, ahead: Duration, key: &'static str, keys: KeySet| async move {
        let modified = Modified { clock_ahead: ahead, ignores_tables: false };
        let insider = Insider::enter(name, from, victim, keys, &[JUNK], modified).await?;
        insider.await_others(honest).await?;
        insider
            .tables()
            .create(JUNK, "future", key, *b"from the future")
            .map_err(|error| format!("the attacker cannot write: {error}"))?;
        insider.wake();
        // The attacker remains: its write is to be overwritten, not to end with it.
        sleep(ATTACK).await;
        Ok::<_, Failure>(())
    };
    let before = cluster.metrics(VICTIM).await?;
    // Further ahead than is accepted.
    let absurd = cluster.lab().inside(attacker).spawn(visit(
        "prophet",
        Duration::from_secs(7200),
        "absurd",
        keys.clone(),
    ));
    absurd.await.map_err(|error| error.to_string())??;
    for host in cluster.running() {
        let answer = cluster.ask(host, Method::GET, &entry("absurd"), Bytes::new()).await?;
        if answer.status.is_success() {
            return Err(format!("{} accepted a version two hours ahead", cluster.name(host)));
        }
    }
    let refused = cluster.metrics(VICTIM).await?.grown_since(&before);
    match refused.get("replication_refused_future") {
        Some(count) => run.counted("refused_future", *count),
        None => {
            return Err(format!("no counter counts versions two hours ahead; what grew is {refused:?}"));
        }
    }
    // As far ahead as is accepted: it may win now, but not for ever.
    let near = cluster.lab().inside(attacker).spawn(visit("hasty", Duration::from_secs(3500), "leap", keys));
    let seen = |wanted: &'static [u8]| {
        let path = entry("leap") + "?raw";
        async move |cluster: &Cluster| {
            for host in cluster.running() {
                let answer = cluster.ask(host, Method::GET, &path, Bytes::new()).await?;
                if !answer.status.is_success() || answer.body != wanted {
                    return Err(format!("{} shows {:?}", cluster.name(host), answer.text()));
                }
            }
            Ok(())
        }
    };
    cluster.await_that("all nodes have the version of the near future", seen(b"from the future")).await?;
    let written = Instant::now();
    let answer = cluster.ask(2, Method::PUT, &entry("leap"), Bytes::from_static(b"from now")).await?;
    if !answer.status.is_success() {
        return Err(format!("an entry from the near future cannot be overwritten: {}", answer.text()));
    }
    cluster.await_that("a write of now wins over the near future", seen(b"from now")).await?;
    run.took("the future overwritten everywhere", written.elapsed());
    near.await.map_err(|error| error.to_string())??;
    await_gone(cluster, "hasty").await
}
