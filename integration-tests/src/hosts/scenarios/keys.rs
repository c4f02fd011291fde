//! Rotation of the secret of the whole cluster, while it works.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use networkdb_http::v1::model::Keys;
use tokio::time::{Instant, sleep};
use transport::{KeySet, OpenError, RefusalReason, Transport, generate_secret};
use wire::{Destination, NodeName};

use super::links::PAUSE;
use crate::hosts::Failure;
use crate::hosts::cluster::Cluster;
use crate::hosts::runs::Run;

/// All nodes change from one secret to another, one after the other, by file and SIGHUP or over
/// HTTP, while all write.
pub(super) async fn rotation(run: &mut Run, cluster: &mut Cluster) -> Result<(), Failure> {
    let all = cluster.running();
    let former = std::fs::read_to_string(cluster.secret_of(0)).map_err(|error| error.to_string())?;
    let (former, new) = (former.trim().to_owned(), generate_secret());
    let load = cluster.load(&all, PAUSE, 11);
    sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    // Accepted by all nodes before any node uses it, and used by all before the former one is
    // removed.
    for secrets in [vec![former.as_str(), &*new], vec![&*new, former.as_str()], vec![&*new]] {
        for (index, host) in all.iter().enumerate() {
            change(cluster, *host, &secrets).await?;
            // One after the other, with time for every connection to use the new keys.
            sleep(Duration::from_millis(500)).await;
            if index == all.len() / 2 {
                // Half of the cluster has taken the step: a node that starts now must be admitted
                // by both halves.
                let last = *all.last().ok_or("there are no hosts")?;
                cluster.terminate(last).await?;
                cluster.start_node(last).await?;
                cluster.await_members("a node that starts in the middle of a step is admitted").await?;
            }
        }
    }
    run.took("all have the new secret", begun.elapsed());
    let fingerprint = parse(&new)?.primary().fingerprint().to_string();
    let rotated = cluster
        .await_that("every connection is proved by the new secret", async |cluster| {
            for host in &all {
                let keys: Keys = cluster.ask(*host, Method::GET, "/v1/keys", Bytes::new()).await?.json()?;
                let right = matches!(keys.keys.as_slice(), [only] if only.fingerprint == fingerprint);
                if !right || keys.keys.iter().map(|key| key.connections).sum::<usize>() == 0 {
                    return Err(format!("{} works with {keys:?}", cluster.name(*host)));
                }
            }
            Ok(())
        })
        .await?;
    run.took("and every connection is proved by it", rotated);
    // Long enough for a failure to be declared, if a node had been cut off.
    sleep(Duration::from_secs(5)).await;
    run.counted("writes meanwhile", load.stop().await?);
    run.took("the same tables", cluster.await_agreement("all show the same").await?);
    cluster.no_failure_was_declared().await?;
    check_former_refused(cluster, &former).await
}

fn parse(secret: &str) -> Result<KeySet, Failure> {
    KeySet::parse(secret).map_err(|error| format!("a secret does not parse: {error}"))
}

/// Gives a node these secrets: every other one over HTTP, the others by their files.
async fn change(cluster: &Cluster, host: usize, secrets: &[&str]) -> Result<(), Failure> {
    let text = secrets.join("\n") + "\n";
    if host.is_multiple_of(2) {
        let answer = cluster.ask(host, Method::PUT, "/v1/keys", Bytes::from(text)).await?;
        return match answer.status.is_success() {
            true => Ok(()),
            false => Err(format!("{} refused other secrets: {}", cluster.name(host), answer.text())),
        };
    }
    let path = cluster.secret_of(host);
    let unusable = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .map_err(unusable)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(unusable)?;
    cluster.reload(host)?;
    let wanted: Vec<String> = secrets
        .iter()
        .map(|secret| Ok(parse(secret)?.primary().fingerprint().to_string()))
        .collect::<Result<_, Failure>>()?;
    cluster
        .await_that("the secret file is read again", async |cluster| {
            let keys: Keys = cluster.ask(host, Method::GET, "/v1/keys", Bytes::new()).await?.json()?;
            let found: Vec<_> = keys.keys.iter().map(|key| key.fingerprint.clone()).collect();
            if found == wanted { Ok(()) } else { Err(format!("{} accepts {found:?}", cluster.name(host))) }
        })
        .await
        .map(drop)
}

/// A node with only the former secret must be refused now.
async fn check_former_refused(cluster: &Cluster, former: &str) -> Result<(), Failure> {
    let keys = parse(former)?;
    let from = SocketAddr::from((cluster.lab().address(1), 0));
    let to = Destination { name: None, address: SocketAddr::from((cluster.lab().address(0), 7946)) };
    let dialling = async move {
        let name = NodeName::new("latecomer").map_err(|error| error.to_string())?;
        let config = transport::Config::new(name, from, keys);
        let (transport, _incoming) = Transport::bind(config).map_err(|error| error.to_string())?;
        match transport.open_stream(&to).await {
            Err(OpenError::Refused { refusal: RefusalReason::UnknownSecret { .. }, .. }) => Ok(()),
            other => Err(format!("a node with only the former secret got {other:?}")),
        }
    };
    cluster.lab().inside(1).run(dialling).await?
}
