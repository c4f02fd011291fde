//! Attacks by false claims: about writes, attachments, lists, failures and leaves of others.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep};

use super::{JUNK, MIB, Target, await_gone, clock_now, generation_of, target};
use crate::hostile::forge::{AttachmentList, Body, Bundle, Event, FalseClaim, attachment_lists, claim};
use crate::hostile::insider::{Insider, Modified};
use crate::hostile::siege::{ATTACK, AttackLimits, run_attack};
use crate::hosts::{Cluster, Failure, Run};

pub(super) async fn lies(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, honest } = target(cluster)?;
    let limits = AttackLimits {
        growth: 64 * MIB,
        required_counters: &[
            ("replication", "provisional"),
            ("replication", "refused_ended"),
            ("membership", "suspicions"),
        ],
        disjoint: true,
    };
    let attack = async move {
        let modified = Modified { ignores_tables: true, ..Modified::default() };
        let insider = Insider::enter("liar", from, victim, keys, &["blue", JUNK], modified).await?;
        insider.await_others(honest).await?;
        let end = Instant::now() + ATTACK;
        let (mut sent, mut round) = (0_u64, 0_u64);
        while Instant::now() < end {
            round += 1;
            let others = insider.others();
            for (about, incarnation, address) in &others {
                for (to, _, at) in &others {
                    for message in false_claims_about(about, *incarnation, *address, &insider.id(), round) {
                        sent += u64::from(insider.send(to, *at, message).await);
                    }
                }
            }
            // Fast enough to disturb; faster would only test the queues again.
            sleep(Duration::from_millis(100)).await;
        }
        Ok(sent)
    };
    run_attack(run, cluster, &limits, attack).await?;
    let raised = cluster.counts("membership", "generations_raised").await?;
    run.counted("generations taken to refute lies", raised.iter().map(|(_, count)| count).sum());
    await_gone(cluster, "liar").await
}

/// The number of entries of each honest host, and how many of them, its first ones, are denied.
const HELD: u64 = 20;

const DENIED: u64 = 10;

/// When a peer denies an entry, it is dropped, as if an honest member had been the only one to see
/// its delete. The owner logs and counts that, other entries remain, and so does what is written
/// again.
pub(super) async fn denial(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, honest } = target(cluster)?;
    let hosts = cluster.running();
    let path = |host: usize, number: u64| format!("/v1/networks/blue/tables/held/entries/{host}-{number}");
    let write = async |host: usize, entries: u64| {
        for number in 1..=entries {
            let answer =
                cluster.ask(host, Method::POST, &path(host, number), Bytes::from_static(b"held")).await?;
            if !answer.status.is_success() {
                return Err(format!("an entry cannot be written: {}", answer.text()));
            }
        }
        Ok(())
    };
    let (mut before, mut instances) = (Vec::new(), Vec::new());
    for &host in &hosts {
        write(host, HELD).await?;
        before.push(cluster.metrics(host).await?);
        instances.push(generation_of(cluster, host).await?);
    }
    let shown = |first: u64, status: u16| {
        let hosts = hosts.clone();
        async move |cluster: &Cluster| {
            for &host in &hosts {
                for (owner, number) in hosts.iter().flat_map(|&owner| (1..=HELD).map(move |n| (owner, n))) {
                    let wanted = if number < first { status } else { 200 };
                    let found =
                        cluster.ask(host, Method::GET, &path(owner, number), Bytes::new()).await?.status;
                    if found != wanted {
                        let name = cluster.name(host);
                        return Err(format!("{name} answers {found} for entry {number} of host {owner}"));
                    }
                }
            }
            Ok(())
        }
    };
    cluster.await_that("all show what all have written", shown(1, 404)).await?;

    let insider = Insider::enter("denier", from, victim, keys, &[], Modified::default());
    let insider = cluster.lab().inside(cluster.lab().hosts() - 1).spawn(insider);
    let insider = insider.await.map_err(|error| error.to_string())??;
    insider.await_others(honest).await?;
    let others = insider.others();
    let superseded = Bundle {
        network: "blue",
        clock: clock_now(),
        attachments: others
            .iter()
            .map(|(instance, ..)| (instance.name.as_str(), instance.generation, 2))
            .collect(),
        superseded: (0..others.len() as u32).map(|index| (index, 1, DENIED)).collect(),
        ..Bundle::default()
    };
    insider.join_with_forged_datagram("blue", &others[0].0, others[0].2, &superseded.datagram())?;
    let denied = Instant::now();
    cluster.await_that("the denied entries are gone, and no others", shown(DENIED + 1, 404)).await?;
    run.took("the denied entries are gone everywhere", denied.elapsed());

    let mut named = 0;
    for (&host, before) in hosts.iter().zip(&before) {
        let name = cluster.name(host);
        match cluster.metrics(host).await?.grown_since(before).get("replication_superseded_own_dropped") {
            Some(&DENIED) => {}
            counted => {
                return Err(format!("{name} counts {counted:?} of its own entries that went, not {DENIED}"));
            }
        }
        let log = cluster.log(host)?;
        let mut dropped =
            log.lines().filter(|line| line.contains("dropped entries that a peer reported as superseded"));
        named += u64::from(dropped.any(|line| line.contains("denier")));
    }
    run.counted("hosts whose logs name the denier", named);
    if named == 0 {
        return Err("no log names the node that denied the entries".to_owned());
    }

    for &host in &hosts {
        write(host, DENIED).await?;
    }
    cluster.await_that("what was written again is shown", shown(1, 404)).await?;
    sleep(ATTACK).await;
    cluster.await_that("what was written again is shown for good", shown(1, 404)).await?;
    for (&host, instance) in hosts.iter().zip(instances) {
        if generation_of(cluster, host).await? != instance {
            return Err(format!("{} had to take another generation", cluster.name(host)));
        }
    }
    drop(insider);
    await_gone(cluster, "denier").await
}

/// A process with the secret completes a handshake; that alone must not make it a member.
pub(super) async fn outsider(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, .. } = target(cluster)?;
    let mut instances = Vec::new();
    for host in cluster.running() {
        let address = SocketAddr::from((cluster.lab().address(host), 7946));
        let name = wire::NodeName::new(cluster.name(host)).map_err(|error| error.to_string())?;
        instances.push((wire::NodeId::new(name, generation_of(cluster, host).await?), address));
    }
    let before: Vec<u64> = instances.iter().map(|(instance, _)| instance.generation).collect();
    let limits = AttackLimits {
        growth: 32 * MIB,
        required_counters: &[
            ("replication", "refused_unknown_instance"),
            ("membership", "ignored_not_member"),
        ],
        disjoint: false,
    };
    let attack = async move {
        let name = wire::NodeName::new("outsider").map_err(|error| error.to_string())?;
        let (transport, _incoming) =
            transport::Transport::bind(transport::Config::new(name.clone(), from, keys))
                .map_err(|error| error.to_string())?;
        let to = wire::Destination { name: None, address: victim };
        let outsider = wire::NodeId::new(name, 1);
        let end = Instant::now() + ATTACK;
        let mut sent = 0_u64;
        while Instant::now() < end {
            for (instance, address) in instances.iter().filter(|(_, address)| *address != victim) {
                let superseded = Bundle {
                    network: "blue",
                    clock: clock_now(),
                    relay: true,
                    attachments: vec![(instance.name.as_str(), instance.generation, 2)],
                    superseded: vec![(0, 1, 1000)],
                    ..Bundle::default()
                };
                let later = wire::NodeId::new(instance.name.clone(), instance.generation + 1);
                for message in [
                    superseded.datagram(),
                    claim(instance, 7, FalseClaim::Left),
                    claim(instance, 7, FalseClaim::Failed(outsider.name.clone())),
                    claim(instance, 7, FalseClaim::Suspect(outsider.name.clone())),
                    claim(&later, 0, FalseClaim::Alive(*address)),
                ] {
                    sent += u64::from(transport.send_datagram(&to, message.into()).is_ok());
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(sent)
    };
    run_attack(run, cluster, &limits, attack).await?;
    for (host, before) in cluster.running().into_iter().zip(before) {
        if generation_of(cluster, host).await? != before {
            return Err(format!("{} had to take another generation", cluster.name(host)));
        }
    }
    cluster.no_failure_was_declared().await
}

/// All untrue claims about a node that datagrams can carry.
fn false_claims_about(
    about: &wire::NodeId,
    incarnation: u64,
    address: SocketAddr,
    liar: &wire::NodeId,
    round: u64,
) -> Vec<Vec<u8>> {
    let name = about.name.as_str();
    let far = 1 << 40;
    let event = |number, age| Event {
        attachment: 0,
        number,
        age,
        table: 0,
        key: "k",
        body: Body::Value(b"forged"),
        replaced: Vec::new(),
    };
    let bundle = |attachment| Bundle {
        network: "blue",
        clock: clock_now(),
        relay: true,
        attachments: vec![attachment],
        tables: vec!["forged"],
        ..Bundle::default()
    };
    // On blue since the start: an attachment list begins with version 1, and each join of a network
    // adds one.
    let present = (name, about.generation, 2);
    let all = [
        // A write it never made.
        Bundle { events: vec![event(far, 0)], ..bundle(present) }.datagram(),
        // Its future writes, reported as superseded.
        Bundle { superseded: vec![(0, far, far + 1000)], ..bundle(present) }.datagram(),
        // More writes than it made.
        Bundle { high_watermarks: vec![(0, 2 * far)], ..bundle(present) }.datagram(),
        // An attachment later than its own.
        Bundle { events: vec![event(1, 0)], ..bundle((name, about.generation, far)) }.datagram(),
        // A generation later than its own.
        Bundle { events: vec![event(1, 0)], ..bundle((name, about.generation + far, 2)) }.datagram(),
        // Impossible times.
        Bundle { events: vec![event(3, u64::MAX)], ..bundle(present) }.datagram(),
        Bundle { clock: u64::MAX, events: vec![event(u64::MAX, 0)], ..bundle(present) }.datagram(),
        // It is on no network.
        attachment_lists(vec![AttachmentList { owner: about.clone(), version: far, networks: Vec::new() }]),
        // Another generation, at another address.
        claim(&wire::NodeId::new(about.name.clone(), about.generation + 1), 0, FalseClaim::Alive(address)),
        claim(&wire::NodeId::new(about.name.clone(), u64::MAX), u64::MAX, FalseClaim::Alive(address)),
        // It does not answer, it has failed, it has left.
        claim(about, incarnation, FalseClaim::Suspect(liar.name.clone())),
        claim(about, incarnation, FalseClaim::Failed(liar.name.clone())),
        claim(about, incarnation, FalseClaim::Left),
    ];
    // One lie in each round, so that each has time to take effect.
    all.into_iter()
        .enumerate()
        .filter(|(index, _)| *index as u64 == round % 13)
        .map(|(_, message)| message)
        .collect()
}
