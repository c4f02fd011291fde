//! The procedure of every attack: the load of the honest nodes, and the checks.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep};

use crate::hosts::{Cluster, Failure, Metrics, Run};

/// Which host is attacked.
pub(super) const VICTIM: usize = 0;

/// How long an attack lasts.
pub(super) const ATTACK: Duration = Duration::from_secs(12);

/// A new write must reach all nodes within this time, while the attack keeps both processors busy.
const SPREADING: Duration = Duration::from_secs(10);

/// How often each honest host writes.
const PAUSE: Duration = Duration::from_millis(50);

/// Limits of an attack, and the counters that must count it.
pub(super) struct AttackLimits {
    /// By how much the victim's memory may grow, in bytes.
    pub(super) growth: u64,
    /// Counters of the victim that must have grown, by part and name.
    pub(super) required_counters: &'static [(&'static str, &'static str)],
    /// Whether the honest nodes only create and update their own entries. A node that takes another
    /// generation, to refute false claims about it, writes its entries again, and concurrent
    /// changes to them by other nodes may be undone.
    pub(super) disjoint: bool,
}

/// Runs `attack`, which runs in the namespace of the last host and returns how much it sent, and
/// checks the cluster.
pub(super) async fn run_attack(
    run: &mut Run,
    cluster: &mut Cluster,
    limits: &AttackLimits,
    attack: impl Future<Output = Result<u64, Failure>> + Send + 'static,
) -> Result<(), Failure> {
    let honest = cluster.running();
    let attacker = cluster.lab().hosts() - 1;
    let before = cluster.metrics(VICTIM).await?;
    let memory_before = cluster.resident_bytes(VICTIM)?;
    for host in &honest {
        // No other node writes these: they vanish only when all entries of their owner are hidden
        // or rewritten.
        cluster.create(*host, &format!("kept-by-{}", cluster.name(*host))).await?;
    }
    let load = match limits.disjoint {
        true => cluster.load_disjoint(&honest, PAUSE, 100),
        false => cluster.load(&honest, PAUSE, 100),
    };
    let begun = Instant::now();
    let attacking = cluster.lab().inside(attacker).spawn(attack);
    let (mut slowest, mut number, mut memory) = (Duration::ZERO, 0, memory_before);
    while !attacking.is_finished() {
        let writer = honest[1 + number % (honest.len() - 1)];
        let key = format!("under-attack-{number}");
        cluster.create(writer, &key).await?;
        let written = Instant::now();
        while !shown_by_all(cluster, &honest, &key).await? {
            if written.elapsed() > SPREADING {
                return Err(format!("a write did not reach all nodes within {SPREADING:?} under attack"));
            }
            memory = memory.max(cluster.resident_bytes(VICTIM)?);
            sleep(Duration::from_millis(5)).await;
        }
        slowest = slowest.max(written.elapsed());
        number += 1;
        memory = memory.max(cluster.resident_bytes(VICTIM)?);
        sleep(Duration::from_millis(100)).await;
    }
    let sent = attacking.await.map_err(|error| format!("the attacker failed: {error}"))??;
    memory = memory.max(cluster.resident_bytes(VICTIM)?);
    run.took("attacked for", begun.elapsed());
    run.counted("attempts", sent);
    run.took("slowest write meanwhile", slowest);
    load.stop().await?;
    run.took(
        "the same tables afterwards",
        cluster.await_agreement("all show the same after an attack").await?,
    );
    let growth = memory.saturating_sub(memory_before);
    run.counted("victim's memory before, KiB", memory_before >> 10);
    run.counted("victim's memory at its peak, KiB", memory >> 10);
    let after = cluster.metrics(VICTIM).await?;
    check_counters(run, limits, &before, &after)?;
    if growth > limits.growth {
        return Err(format!(
            "the victim's memory grew by {} MiB, more than {} MiB",
            growth >> 20,
            limits.growth >> 20
        ));
    }
    Ok(())
}

async fn shown_by_all(cluster: &Cluster, hosts: &[usize], key: &str) -> Result<bool, Failure> {
    let path = format!("/v1/networks/blue/tables/services/entries/{key}");
    for host in hosts {
        if !cluster.ask(*host, Method::GET, &path, Bytes::new()).await?.status.is_success() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check_counters(
    run: &mut Run,
    limits: &AttackLimits,
    before: &Metrics,
    after: &Metrics,
) -> Result<(), Failure> {
    let grown: BTreeMap<String, u64> = after.grown_since(before);
    for (part, what) in limits.required_counters {
        match grown.get(&format!("{part}_{what}")) {
            Some(count) => run.counted(what, *count),
            None => {
                return Err(format!(
                    "the victim's counter {part}_{what} did not grow; these grew: {grown:?}"
                ));
            }
        }
    }
    Ok(())
}
