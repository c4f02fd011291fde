//! Faults of wall clocks: they go on while a host sleeps, and are wrong by hours.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep};

use super::links::PAUSE;
use crate::hosts::Failure;
use crate::hosts::cluster::{Cluster, NETWORK};
use crate::hosts::runs::Run;

const HOUR: Duration = Duration::from_secs(3600);

/// A key of a table of its own: a node with a wrong clock acknowledges its write there and the
/// others refuse it, which the ledger does not model.
fn path(key: &str) -> String {
    format!("/v1/networks/{NETWORK}/tables/clocks/entries/{key}")
}

async fn write(
    cluster: &Cluster,
    host: usize,
    method: Method,
    key: &str,
    value: &str,
) -> Result<(), Failure> {
    let answer = cluster.ask(host, method, &path(key), Bytes::from(value.to_owned())).await?;
    match answer.status.is_success() {
        true => Ok(()),
        false => Err(format!("{} does not write {key}: {}", cluster.name(host), answer.text())),
    }
}

/// Fails unless each of these hosts shows this value.
async fn shows(cluster: &Cluster, hosts: &[usize], key: &str, value: &str) -> Result<(), Failure> {
    for host in hosts {
        let answer = cluster.ask(*host, Method::GET, &path(key), Bytes::new()).await?;
        let shown = answer.text();
        if !answer.status.is_success() || !shown.contains(value) {
            return Err(format!(
                "{} shows {} {shown} under {key}, not {value}",
                cluster.name(*host),
                answer.status
            ));
        }
    }
    Ok(())
}

/// A host sleeps for two hours; then a newcomer's clock is hours ahead, then that of a running
/// host.
pub(super) async fn clocks(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let (sleeper, awake) = all.split_last().ok_or("there are no hosts")?;
    let newcomer = all.len();
    let load = cluster.load(&all, PAUSE, 21);
    sleep(Duration::from_secs(2)).await;
    load.stop().await?;
    write(cluster, awake[0], Method::POST, "of-another", "of the evening").await?;
    cluster.await_agreement("all hold what was written before").await?;

    // The monotonic clock of the sleeper stops, and the wall clocks of all hosts go on.
    cluster.freeze(*sleeper)?;
    cluster.await_present("the sleeper is held failed", awake, awake).await?;
    for host in 0..=newcomer {
        cluster.set_wall_clock(host, 2 * HOUR)?;
    }
    let load = cluster.load(awake, PAUSE, 22);
    sleep(Duration::from_secs(2)).await;
    cluster.thaw(*sleeper)?;
    run.took("all know the sleeper again", cluster.await_members("it has woken").await?);
    load.stop().await?;
    run.took(
        "the same tables after a sleep of two hours",
        cluster.await_agreement("all show the same").await?,
    );
    write(cluster, *sleeper, Method::PUT, "of-another", "of the sleeper").await?;
    let shown = async |cluster: &Cluster| shows(cluster, &all, "of-another", "of the sleeper").await;
    run.took("its next write is everywhere", cluster.await_that("all show it", shown).await?);

    // Its certificate is not valid yet.
    cluster.set_wall_clock(newcomer, 4 * HOUR)?;
    cluster.start_node(newcomer).await?;
    sleep(Duration::from_secs(10)).await;
    cluster.await_present("a newcomer two hours ahead is not admitted", &all, &all).await?;
    shows(cluster, &all, "of-another", "of the sleeper").await?;
    let log = cluster.log(newcomer)?;
    if !log.contains("clock") {
        return Err(format!("{} does not log that a clock is wrong: {log}", cluster.name(newcomer)));
    }
    let begun = Instant::now();
    cluster.set_wall_clock(newcomer, 2 * HOUR)?;
    cluster.await_members("its clock has been put right").await?;
    run.took("it is admitted after its clock is right", begun.elapsed());
    let all = cluster.running();
    cluster.await_agreement("the newcomer shows the same").await?;

    // An existing connection outlasts a clock with which its certificate would not be accepted.
    cluster.set_wall_clock(newcomer, 4 * HOUR)?;
    write(cluster, newcomer, Method::PUT, "of-another", "of the future").await?;
    let others: Vec<usize> = all.iter().copied().filter(|host| *host != newcomer).collect();
    let noticed = async |cluster: &Cluster| {
        let mut most: f64 = 0.0;
        for host in &others {
            shows(cluster, &[*host], "of-another", "of the sleeper").await?;
            most = most.max(cluster.metrics(*host).await?.value("networkdb_clock_skew_seconds")?);
        }
        if (7000.0..8000.0).contains(&most) {
            Ok(())
        } else {
            Err(format!("the greatest skew shown is {most} s"))
        }
    };
    run.took("the skew is noticed", cluster.await_that("a node shows it", noticed).await?);
    write(cluster, others[0], Method::PUT, "of-another", "of the present").await?;
    let shown = async |cluster: &Cluster| shows(cluster, &others, "of-another", "of the present").await;
    run.took(
        "writes of right clocks meanwhile",
        cluster.await_that("the nodes with right clocks show it", shown).await?,
    );
    let mut logged = false;
    for host in &others {
        logged |= cluster.log(*host)?.contains(&format!("the clock of {}", cluster.name(newcomer)));
    }
    if !logged {
        return Err("no node logs whose clock is wrong".to_owned());
    }

    // The operator's remedy.
    cluster.set_wall_clock(newcomer, 2 * HOUR)?;
    cluster.terminate(newcomer).await?;
    cluster.start_node(newcomer).await?;
    let shown = async |cluster: &Cluster| shows(cluster, &all, "of-another", "of the present").await;
    cluster.await_that("it has received the writes that its own had overwritten", shown).await?;
    write(cluster, newcomer, Method::PUT, "of-another", "of the newcomer").await?;
    let shown = async |cluster: &Cluster| shows(cluster, &all, "of-another", "of the newcomer").await;
    run.took("with its clock right its write is accepted", cluster.await_that("all show it", shown).await?);
    Ok(())
}
