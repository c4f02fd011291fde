//! Faults of links: cuts, loss, one-way cuts, low bandwidth.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::hosts::Failure;
use crate::hosts::cluster::Cluster;
use crate::hosts::faults::{Faults, Rate};
use crate::hosts::runs::Run;

/// How often each host writes during a fault.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Two hosts and the others are cut off from each other until both sides hold the other failed;
/// both write.
pub(super) async fn partition(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let (few, many) = all.split_at(2);
    for key in ["updated-by-both", "deleted-by-few", "left-alone"] {
        cluster.create(few[0], key).await?;
    }
    cluster.create(many[0], "deleted-by-many").await?;
    let load = cluster.load(&all, PAUSE, 1);
    cluster.await_that("some writes are acknowledged", async |_| enough(load.acknowledged())).await?;

    cluster.lab().set_faults(&Faults::partition(few, many))?;
    let begun = Instant::now();
    cluster.await_present("the few hold the many failed", few, few).await?;
    cluster.await_present("the many hold the few failed", many, many).await?;
    run.took("both sides hold the other failed", begun.elapsed());
    // Entries of the other side are hidden, so a key is created anew there.
    cluster.update(few[1], "updated-by-both").await?;
    cluster.create(many[1], "updated-by-both").await?;
    cluster.delete(few[1], "deleted-by-few").await?;
    cluster.delete(many[1], "deleted-by-many").await?;
    // Until no connection between the sides is left that could continue after the cut.
    sleep(Duration::from_secs(15)).await;
    run.dropped(cluster)?;

    cluster.lab().set_faults(&Faults::default())?;
    run.took("all agree on the members again", cluster.await_members("the partition has healed").await?);
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("both sides show the same").await?);
    Ok(())
}

fn enough(writes: u64) -> Result<(), Failure> {
    if writes >= 20 { Ok(()) } else { Err(format!("only {writes} are")) }
}

/// No packets pass from one host to another; then none from the last host to the others.
pub(super) async fn one_way(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let load = cluster.load(&all, PAUSE, 2);
    cluster.lab().set_faults(&Faults::one_way(&[0], &[1]))?;
    sleep(Duration::from_secs(15)).await;
    run.dropped(cluster)?;
    // Indirect probes reach it.
    cluster.no_failure_was_declared().await?;
    cluster.await_members("a cut of a single direction causes no failure").await?;
    cluster.create(0, "told-around-the-deaf-link").await?;
    let load_of_one = load.stop().await?;
    run.counted("writes across a one-way cut", load_of_one);
    run.took("the same tables despite it", cluster.await_agreement("writes bypass a one-way cut").await?);

    let (last, others) = all.split_last().ok_or("there are no hosts")?;
    let load = cluster.load(&all, PAUSE, 3);
    cluster.lab().set_faults(&Faults::one_way(&[*last], others))?;
    run.took(
        "the cut-off host is held failed",
        cluster.await_present("no other host receives it", others, others).await?,
    );
    sleep(Duration::from_secs(5)).await;
    cluster.lab().set_faults(&Faults::default())?;
    run.took("all agree on the members again", cluster.await_members("its packets pass again").await?);
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("all show the same again").await?);
    Ok(())
}

/// One packet in five is lost for a minute while all write.
pub(super) async fn loss(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    cluster.lab().set_faults(&Faults::loss(20))?;
    let load = cluster.load(&all, PAUSE, 4);
    sleep(Duration::from_secs(60)).await;
    load.stop().await?;
    run.took("the same tables, during loss", cluster.await_agreement("loss only delays").await?);
    cluster.no_failure_was_declared().await?;
    run.dropped(cluster)?;
    let suspicions: u64 =
        cluster.counts("membership", "suspicions").await?.iter().map(|(_, count)| count).sum();
    run.counted("suspicions", suspicions);
    cluster.lab().set_faults(&Faults::default())
}

/// A host is cut off until the others have reaped the tombstones of what they deleted meanwhile.
pub(super) async fn reaped(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let (last, others) = all.split_last().ok_or("there are no hosts")?;
    for host in &all {
        for number in 0..20 {
            cluster.create(*host, &format!("of-{}-{number}", cluster.name(*host))).await?;
        }
    }
    cluster.await_agreement("all hold what will be deleted").await?;
    cluster.lab().set_faults(&Faults::partition(&[*last], others))?;
    let begun = Instant::now();
    // Quickly, because the owner's entries are hidden as soon as it is held failed.
    for host in &all {
        for number in 0..10 {
            cluster
                .delete(others[number % others.len()], &format!("of-{}-{number}", cluster.name(*host)))
                .await?;
        }
    }
    for number in 5..15 {
        // Of these, five were deleted by the others a moment ago: the later write wins.
        cluster.update(*last, &format!("of-{}-{number}", cluster.name(*last))).await?;
    }
    cluster.await_present("the others hold it failed", others, others).await?;
    cluster.await_present("it holds the others failed", &[*last], &[*last]).await?;
    run.took("both sides hold the other failed", begun.elapsed());
    cluster
        .await_that("every tombstone is reaped", async |cluster| {
            for host in others {
                let left = cluster.network(*host).await?.tombstones;
                if left > 0 {
                    return Err(format!("{} remembers {left}", cluster.name(*host)));
                }
            }
            Ok(())
        })
        .await?;
    run.took("every tombstone reaped", begun.elapsed());
    let reaped: u64 = cluster.counts("replication", "reaped").await?.iter().map(|(_, count)| count).sum();
    run.counted("tombstones reaped", reaped);
    run.dropped(cluster)?;
    cluster.lab().set_faults(&Faults::default())?;
    run.took("all agree on the members again", cluster.await_members("its packets pass again").await?);
    run.took("the same tables again", cluster.await_agreement("nothing comes back").await?);
    Ok(())
}

/// A newcomer behind 1 Mbit/s gets 100,000 entries, and no node is declared failed.
pub(super) async fn slow_link(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let present = cluster.running();
    let newcomer = present.len();
    cluster.import(present[0], 100_000, 100).await?;
    run.took("100,000 entries on the others", cluster.await_agreement("the others hold all entries").await?);
    let rate = Rate { bits_per_second: 1_000_000, queue_ms: 400 };
    cluster.lab().set_rate(newcomer, Some(rate))?;
    let load = cluster.load(&present, Duration::from_millis(500), 5);
    let begun = Instant::now();
    cluster.start_node(newcomer).await?;
    cluster.await_members("all know the newcomer").await?;
    run.took("all know the newcomer", begun.elapsed());
    // At this rate the entries alone take 100 s.
    let limit = Duration::from_secs(400);
    cluster
        .await_within(limit, "the newcomer holds all entries", async |cluster| {
            let held = cluster.network(newcomer).await?.entries;
            if held >= 100_000 { Ok(()) } else { Err(format!("it holds {held}")) }
        })
        .await?;
    run.took("the newcomer holds all entries", begun.elapsed());
    let metrics = cluster.metrics(newcomer).await?;
    run.counted("failed exchanges", metrics.count("replication", "syncs_failed")?);
    load.stop().await?;
    run.took("the same tables", cluster.await_agreement("all show the same").await?);
    cluster.no_failure_was_declared().await?;
    cluster.lab().set_rate(newcomer, None)
}
