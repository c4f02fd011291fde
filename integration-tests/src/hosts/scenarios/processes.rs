//! Faults of processes and hosts: kills, pauses, restarts.

use std::net::Ipv4Addr;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use networkdb_http::v1::model::Members;
use tokio::time::{Instant, sleep};

use super::links::PAUSE;
use crate::hosts::Failure;
use crate::hosts::cluster::{Cluster, SEEDS};
use crate::hosts::runs::Run;

/// A node is killed and started again, at once and after its failure was detected.
pub(super) async fn kill(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let (victim, others) = all.split_last().ok_or("there are no hosts")?;
    let load = cluster.load(&all, PAUSE, 6);
    sleep(Duration::from_secs(2)).await;
    cluster.kill(*victim);
    let begun = Instant::now();
    cluster.start_node(*victim).await?;
    await_instance(cluster, *victim).await?;
    run.took("killed, and its next instance known", begun.elapsed());

    cluster.kill(*victim);
    run.took("a kill is detected", cluster.await_present("its failure is known", others, others).await?);
    sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    cluster.start_node(*victim).await?;
    await_instance(cluster, *victim).await?;
    run.took("its third instance known", begun.elapsed());
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("all show the same again").await?);
    Ok(())
}

/// Waits until all nodes know the present instance of a node.
async fn await_instance(cluster: &Cluster, host: usize) -> Result<(), Failure> {
    let generation = |members: Members, name: &str| {
        let found = members.members.into_iter().find(|member| member.name == name && member.state == "alive");
        found.map(|member| member.generation)
    };
    cluster
        .await_that("all nodes know the new instance", async |cluster| {
            let mut instances = Vec::new();
            for observer in cluster.running() {
                let members =
                    cluster.ask(observer, Method::GET, "/v1/members", Bytes::new()).await?.json()?;
                instances.push((observer == host, generation(members, cluster.name(host))));
            }
            let own = instances.iter().find(|(itself, _)| *itself).and_then(|(_, instance)| *instance);
            if own.is_some() && instances.iter().all(|(_, instance)| *instance == own) {
                Ok(())
            } else {
                Err(format!("the generations held are {instances:?}"))
            }
        })
        .await?;
    cluster.await_members("all agree on the members").await.map(drop)
}

/// A process is paused for ten seconds and then continues.
pub(super) async fn freeze(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let frozen = *all.last().ok_or("there are no hosts")?;
    let load = cluster.load(&all, PAUSE, 7);
    sleep(Duration::from_secs(2)).await;
    cluster.freeze(frozen)?;
    sleep(Duration::from_secs(10)).await;
    cluster.thaw(frozen)?;
    run.took("all agree on the members again", cluster.await_members("it has resumed").await?);
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("all show the same again").await?);
    // It received nothing for ten seconds, but only because it was paused itself.
    let metrics = cluster.metrics(frozen).await?;
    match metrics.count("membership", "failures_declared")? {
        0 => {}
        declared => return Err(format!("the frozen node declared {declared} others failed")),
    }
    run.counted("stalls it detected", metrics.count("membership", "stalls")?);
    if metrics.count("membership", "stalls")? == 0 {
        return Err("the frozen node did not detect its stall".to_owned());
    }
    Ok(())
}

/// A fifth of the processes is paused for a minute, long enough to be held failed, while the others
/// write.
pub(super) async fn long_freeze(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let (others, frozen) = all.split_at(all.len() - (all.len() / 5).max(1));
    // Every node owns entries, which the others overwrite and delete until their owner is held
    // failed.
    let load = cluster.load(&all, PAUSE, 11);
    sleep(Duration::from_secs(2)).await;
    load.stop().await?;
    for host in &all {
        cluster.create(*host, &format!("of-{}", cluster.name(*host))).await?;
    }
    cluster.await_agreement("all hold what was written before").await?;
    for host in frozen {
        cluster.freeze(*host)?;
    }
    let begun = Instant::now();
    let load = cluster.load(others, PAUSE, 12);
    for host in frozen {
        cluster.delete(others[0], &format!("of-{}", cluster.name(*host))).await?;
    }
    cluster.await_present("the frozen are held failed", others, others).await?;
    run.took("the frozen are held failed", begun.elapsed());
    sleep(Duration::from_secs(60).saturating_sub(begun.elapsed())).await;
    run.counted("writes meanwhile", load.acknowledged());
    cluster.await_present("they are held failed after a minute", others, others).await?;
    for host in frozen {
        cluster.thaw(*host)?;
    }
    run.took("all agree on the members again", cluster.await_members("they have resumed").await?);
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("all show the same again").await?);
    // They received nothing for a minute, but only because they were paused themselves.
    for host in frozen {
        let metrics = cluster.metrics(*host).await?;
        match metrics.count("membership", "failures_declared")? {
            0 => {}
            declared => {
                return Err(format!("{}, which was frozen, declared {declared} failed", cluster.name(*host)));
            }
        }
    }
    Ok(())
}

/// All seeds are killed and started again at once, as new instances.
pub(super) async fn seeds(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let seeds: Vec<usize> = cluster.running().into_iter().take(SEEDS).collect();
    let load = cluster.load(&cluster.running(), PAUSE, 8);
    sleep(Duration::from_secs(2)).await;
    for seed in &seeds {
        cluster.kill(*seed);
    }
    let begun = Instant::now();
    for seed in &seeds {
        cluster.start_node(*seed).await?;
    }
    for seed in &seeds {
        await_instance(cluster, *seed).await?;
    }
    run.took("one cluster again", begun.elapsed());
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("all show the same again").await?);
    Ok(())
}

/// Every node leaves and is started again, one after the other, while all write.
pub(super) async fn rolling_restart(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let load = cluster.load(&all, PAUSE, 9);
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let (mut slowest_leave, mut slowest_return) = (Duration::ZERO, Duration::ZERO);
    for host in &all {
        cluster.terminate(*host).await?;
        let left = Instant::now();
        let others = cluster.running();
        cluster.await_present("the leave is known", &others, &others).await?;
        slowest_leave = slowest_leave.max(left.elapsed());
        let starting = Instant::now();
        cluster.start_node(*host).await?;
        await_instance(cluster, *host).await?;
        slowest_return = slowest_return.max(starting.elapsed());
    }
    run.took("the slowest leave known", slowest_leave);
    run.took("the slowest return known", slowest_return);
    run.took("all restarted", begun.elapsed());
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("all show the same again").await?);
    // A node that leaves must not be declared failed, and one that returns must not be refused.
    cluster.no_failure_was_declared().await
}

/// A host returns with another address under its old name.
pub(super) async fn address(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let moving = *all.last().ok_or("there are no hosts")?;
    let load = cluster.load(&all, PAUSE, 10);
    sleep(Duration::from_secs(2)).await;
    cluster.kill(moving);
    let address = Ipv4Addr::new(10, 77, 0, 200);
    cluster.readdress(moving, address)?;
    let begun = Instant::now();
    cluster.start_node(moving).await?;
    await_instance(cluster, moving).await?;
    run.took("known at its new address", begun.elapsed());
    let (name, wanted) = (cluster.name(moving).to_owned(), format!("{address}:7946"));
    cluster
        .await_that("all nodes have the new address", async |cluster| {
            for observer in cluster.running() {
                let members: Members =
                    cluster.ask(observer, Method::GET, "/v1/members", Bytes::new()).await?.json()?;
                let held = members.members.iter().find(|member| member.name == name);
                if held.is_none_or(|member| member.address != wanted) {
                    return Err(format!("{} holds {held:?}", cluster.name(observer)));
                }
            }
            Ok(())
        })
        .await?;
    load.stop().await?;
    run.took("the same tables again", cluster.await_agreement("all show the same again").await?);
    Ok(())
}
