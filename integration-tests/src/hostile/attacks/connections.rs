//! Attacks on packets, handshakes, names and streams.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{MIB, Target, generation_of, target};
use crate::hostile::siege::{ATTACK, AttackLimits, VICTIM, run_attack};
use crate::hostile::{handshakes, packets, strangers, streams};
use crate::hosts::{Cluster, Failure, Metrics, Rate, Run};

pub(super) async fn garbage(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, keys, .. } = target(cluster)?;
    let limits = AttackLimits { growth: 32 * MIB, required_counters: &[], disjoint: false };
    run_attack(run, cluster, &limits, packets::garbage(victim, keys, ATTACK)).await?;
    cluster.no_failure_was_declared().await
}

pub(super) async fn half_open(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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
            ("transport", "handshakes_failed_unfinished"),
            ("transport", "handshakes_failed_capped_by_address"),
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

pub(super) async fn spoofed_newcomer(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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

pub(super) async fn wrong_secret(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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

pub(super) async fn stolen_name(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
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

pub(super) async fn slow_streams(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let Target { victim, from, keys, .. } = target(cluster)?;
    let attacker = cluster.lab().hosts() - 1;
    // Large frames pass this link slowly.
    cluster.lab().set_rate(attacker, Some(Rate { bits_per_second: 4_000_000, queue_ms: 100 }))?;
    let limits = AttackLimits {
        // The limit of unfinished frames of all peers, and the overhead of holding them.
        growth: 300 * MIB,
        required_counters: &[
            ("transport", "frames_dropped_too_large"),
            ("transport", "frames_dropped_timed_out"),
            ("replication", "refused_malformed"),
        ],
        disjoint: false,
    };
    run_attack(run, cluster, &limits, streams::slow_streams(victim, from, keys, 2 * ATTACK)).await?;
    cluster.lab().set_rate(attacker, None)?;
    cluster.no_failure_was_declared().await
}
