//! The attacks, each with its memory limit and the counters that must count it.

mod claims;
mod connections;
mod writes;

use std::net::SocketAddr;

use hyper::Method;
use hyper::body::Bytes;
use transport::KeySet;

use super::siege::VICTIM;
use crate::hosts::scenarios::Scenario;
use crate::hosts::{Cluster, Failure, Plan};
use claims::{denial, lies, outsider};
use connections::{garbage, half_open, slow_streams, spoofed_newcomer, stolen_name, wrong_secret};
use writes::{events, future, ten_million_keys};

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

async fn generation_of(cluster: &Cluster, host: usize) -> Result<u64, Failure> {
    let answer = cluster.ask(host, Method::GET, "/v1/node", Bytes::new()).await?;
    Ok(answer.json::<networkdb_http::v1::model::NodeView>()?.generation)
}

/// Waits until no node holds the attacker for a member: only then do all nodes agree again.
async fn await_gone(cluster: &Cluster, name: &str) -> Result<(), Failure> {
    cluster.await_members(&format!("{name} is gone")).await.map(drop)
}

/// The wall time in microseconds, as in versions.
#[expect(clippy::disallowed_methods, reason = "forged versions are near the wall clock")]
fn clock_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}
