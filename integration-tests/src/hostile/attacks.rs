//! The attacks, each with its memory limit and the counters that must count it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use tokio::time::{Instant, sleep};
use transport::KeySet;

use super::forge::{AttachmentList, Body, Bundle, Event, FalseClaim, attachment_lists, claim};
use super::insider::{Insider, Modified};
use super::siege::{ATTACK, AttackLimits, VICTIM, run_attack};
use super::{handshakes, packets, strangers, streams};
use crate::hosts::scenarios::Scenario;
use crate::hosts::{Cluster, Failure, Metrics, Plan, Rate, Run};

/// The network that the attacker joins; the honest nodes write to another one.
const JUNK: &str = "junk";

/// The limit of entries of a network here.
const MOST_ENTRIES: u64 = 100_000;

const MIB: u64 = 1 << 20;

/// All attacks.
pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "ten-million-keys",
            description: "a member floods a network with ten million distinct keys",
            prepare,
            run: |run, cluster| Box::pin(ten_million_keys(run, cluster)),
        },
        Scenario {
            name: "lies",
            description: "a member forges writes, attachments, attachment lists, failures and leaves",
            prepare,
            run: |run, cluster| Box::pin(lies(run, cluster)),
        },
        Scenario {
            name: "denial",
            description: "a member falsely reports entries of others as superseded in comparisons",
            prepare,
            run: |run, cluster| Box::pin(denial(run, cluster)),
        },
        Scenario {
            name: "outsider",
            description: "a process that never joined forges deletes, failures and generations",
            prepare,
            run: |run, cluster| Box::pin(outsider(run, cluster)),
        },
        Scenario {
            name: "future",
            description: "a member writes versions from the near and the far future",
            prepare,
            run: |run, cluster| Box::pin(future(run, cluster)),
        },
        Scenario {
            name: "events",
            description: "a member writes to a network as fast as it can",
            prepare,
            run: |run, cluster| Box::pin(events(run, cluster)),
        },
        Scenario {
            name: "garbage",
            description: "noise, and truncated or corrupted packets, at full speed",
            prepare,
            run: |run, cluster| Box::pin(garbage(run, cluster)),
        },
        Scenario {
            name: "handshakes",
            description: "thousands of handshakes that stop after the first packets, from eight addresses",
            prepare,
            run: |run, cluster| Box::pin(half_open(run, cluster)),
        },
        Scenario {
            name: "anothers-name",
            description: "handshakes with all nodes from the forged address of a joining host",
            prepare: prepare_newcomer,
            run: |run, cluster| Box::pin(spoofed_newcomer(run, cluster)),
        },
        Scenario {
            name: "wrong-secret",
            description: "nodes with another secret dial again and again",
            prepare,
            run: |run, cluster| Box::pin(wrong_secret(run, cluster)),
        },
        Scenario {
            name: "stolen-name",
            description: "a node with the right secret under the name of a running one",
            prepare,
            run: |run, cluster| Box::pin(stolen_name(run, cluster)),
        },
        Scenario {
            name: "streams",
            description: "streams that stall, are slow, or declare huge lengths",
            prepare,
            run: |run, cluster| Box::pin(slow_streams(run, cluster)),
        },
    ]
}

/// One host is the attacker's, and one network is for its junk.
fn prepare(plan: &mut Plan) {
    plan.hosts -= 1;
    plan.spare = 1;
    plan.flags.extend(["--network", JUNK, "--max-entries"].map(str::to_owned));
    plan.flags.push(MOST_ENTRIES.to_string());
}

/// One more host is a newcomer's.
fn prepare_newcomer(plan: &mut Plan) {
    prepare(plan);
    plan.hosts -= 1;
    plan.spare += 1;
}

/// The attacker's knowledge: the victim's address, its own address, and the secret.
struct Target {
    victim: SocketAddr,
    from: SocketAddr,
    keys: KeySet,
    honest: usize,
}

fn target(cluster: &Cluster) -> Result<Target, Failure> {
    let secret = std::fs::read_to_string(cluster.secret_file()).map_err(|error| error.to_string())?;
    Ok(Target {
        victim: SocketAddr::from((cluster.lab().address(VICTIM), 7946)),
        from: SocketAddr::from((cluster.lab().address(cluster.lab().hosts() - 1), 0)),
        keys: KeySet::parse(&secret).map_err(|error| error.to_string())?,
        honest: cluster.running().len(),
    })
}

async fn garbage(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, keys, .. } = target(cluster)?;
    let limits = AttackLimits { growth: 32 * MIB, required_counters: &[], disjoint: false };
    run_attack(run, cluster, &limits, packets::garbage(victim, keys, ATTACK)).await?;
    cluster.no_failure_was_declared().await
}

async fn half_open(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, keys, .. } = target(cluster)?;
    let attacker = cluster.lab().hosts() - 1;
    let from: Vec<Ipv4Addr> = (100..108).map(|last| Ipv4Addr::new(10, 77, 0, last)).collect();
    for address in &from {
        cluster.lab().add_address(attacker, *address)?;
    }
    let limits = AttackLimits {
        growth: 64 * MIB,
        required_counters: &[
            ("transport", "handshakes_retried"),
            ("transport", "handshakes_unfinished"),
            ("transport", "handshakes_capped_by_address"),
        ],
        disjoint: false,
    };
    let attack = async move {
        // The attacker never answers in the first third of the handshakes. In the others it proves
        // its addresses and sends no more: from eight addresses, then from one, which has its own
        // limit.
        let one = vec![from[0]];
        let unanswered = handshakes::unfinished(victim, from.clone(), keys.clone(), 0, ATTACK / 3).await?;
        let spread = handshakes::unfinished(victim, from, keys.clone(), 1, ATTACK / 3).await?;
        Ok(unanswered + spread + handshakes::unfinished(victim, one, keys, 1, ATTACK / 3).await?)
    };
    run_attack(run, cluster, &limits, attack).await?;
    cluster.no_failure_was_declared().await
}

async fn spoofed_newcomer(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { keys, .. } = target(cluster)?;
    let (newcomer, attacker) = (cluster.lab().hosts() - 2, cluster.lab().hosts() - 1);
    let port = |host| SocketAddrV4::new(cluster.lab().address(host), 7946);
    let victims: Vec<SocketAddrV4> = cluster.running().into_iter().map(port).collect();
    let before = cluster.metrics(VICTIM).await?;
    let attack = packets::spoofed_handshakes(port(newcomer), victims, keys, ATTACK);
    let attacking = cluster.lab().inside(attacker).spawn(attack);
    let grown = |now: &Metrics, what: &str| {
        now.grown_since(&before).contains_key(&format!("transport_handshakes_{what}"))
    };
    let is_full = |now: &Metrics| grown(now, "retried") || grown(now, "capped_by_address");
    while !is_full(&cluster.metrics(VICTIM).await?) {
        if attacking.is_finished() {
            return Err("the victim never reached its limit of half-open handshakes".to_owned());
        }
        sleep(Duration::from_millis(50)).await;
    }
    let begun = Instant::now();
    cluster.start_node(newcomer).await?;
    cluster.await_members("the host with the forged source address is a member").await?;
    if attacking.is_finished() {
        return Err(
            "the host with the forged source address was not admitted until the packets stopped".to_owned()
        );
    }
    run.took("joined meanwhile", begun.elapsed());
    let sent = attacking.await.map_err(|error| format!("the attacker failed: {error}"))??;
    run.counted("packets from the forged address", sent);
    if grown(&cluster.metrics(VICTIM).await?, "capped_by_address") {
        return Err("handshakes from a forged address were charged to its host".to_owned());
    }
    cluster.await_agreement("all show the same after an attack").await?;
    cluster.no_failure_was_declared().await
}

async fn wrong_secret(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, .. } = target(cluster)?;
    let secret = std::fs::read_to_string(cluster.secret_file()).map_err(|error| error.to_string())?;
    let limits = AttackLimits {
        growth: 32 * MIB,
        required_counters: &[("transport", "refused_unknown_secret")],
        disjoint: false,
    };
    run_attack(run, cluster, &limits, strangers::wrong_secret(victim, from, secret, ATTACK)).await?;
    cluster.no_failure_was_declared().await
}

async fn stolen_name(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, .. } = target(cluster)?;
    let owner_of_name = (cluster.name(1).to_owned(), SocketAddr::from((cluster.lab().address(1), 7946)));
    let before = generation_of(cluster, 1).await?;
    let limits = AttackLimits {
        growth: 32 * MIB,
        required_counters: &[("membership", "name_conflicts")],
        disjoint: false,
    };
    run_attack(run, cluster, &limits, strangers::stolen_name(victim, from, owner_of_name, keys, ATTACK))
        .await?;
    if generation_of(cluster, 1).await? != before {
        return Err("the node whose name was stolen had to take another generation".to_owned());
    }
    cluster.no_failure_was_declared().await
}

async fn generation_of(cluster: &Cluster, host: usize) -> Result<u64, Failure> {
    let answer = cluster.ask(host, Method::GET, "/v1/node", Bytes::new()).await?;
    Ok(answer.json::<networkdb_http::v1::model::NodeView>()?.generation)
}

async fn slow_streams(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, .. } = target(cluster)?;
    let attacker = cluster.lab().hosts() - 1;
    // Large frames pass this link slowly.
    cluster.lab().set_rate(attacker, Some(Rate { bits_per_second: 4_000_000, queue_ms: 100 }))?;
    let limits = AttackLimits {
        // The limit of unfinished frames of all peers, and the overhead of holding them.
        growth: 300 * MIB,
        required_counters: &[
            ("transport", "frames_too_large"),
            ("transport", "frames_timed_out"),
            ("replication", "refused_malformed"),
        ],
        disjoint: false,
    };
    run_attack(run, cluster, &limits, streams::slow_streams(victim, from, keys, 2 * ATTACK)).await?;
    cluster.lab().set_rate(attacker, None)?;
    cluster.no_failure_was_declared().await
}

async fn events(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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

/// Waits until no node holds the attacker for a member: only then do all nodes agree again.
async fn await_gone(cluster: &Cluster, name: &str) -> Result<(), Failure> {
    cluster.await_members(&format!("{name} is gone")).await.map(drop)
}

async fn ten_million_keys(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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

/// The wall time in microseconds, as in versions.
#[expect(clippy::disallowed_methods, reason = "forged versions are near the wall clock")]
fn clock_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

async fn lies(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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
async fn denial(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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
async fn outsider(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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
            ("membership", "refused_not_member"),
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

async fn future(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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
