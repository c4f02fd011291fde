//! What a thousand watchers of a table cost the node that writes, against none: one process, without peers.
//!
//! Each watcher is a task that awaits its watch, as in a program that follows a table. The writer has a thread of its own
//! and pauses between writes, so that watchers take each change before the next.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use networkdb::{KeySet, Node, NodeConfig, NodeName, WatchEvent, WatchFilter};
use tokio::sync::mpsc;

use crate::clock::{now, processor, written};
use crate::entries::{Values, key};
use crate::networkdb_store::{NETWORK, TABLE};
use crate::participant::{Failure, Kind, Participant, commands};
use crate::report::Comparison;
use crate::settings::Settings;

const WATCHERS: usize = 1_000;
const WRITES: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(5);
const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) fn measure(settings: &Settings) -> Result<(), Failure> {
    let (watchers, writes) = (settings.count(WATCHERS), settings.count(WRITES));
    let mut calls = Comparison::new(format!("time of a create with {watchers} watchers, against none"), "µs");
    let mut processors = Comparison::new("  processor time of the process a create", "µs");
    for _ in 0..settings.rounds.min(3) {
        for count in [watchers, 0] {
            let mut process = Participant::start(Kind::Watched, None)?;
            let answer = process.ask(&format!("{count} {writes}"), TIMEOUT)?;
            let numbers: Vec<f64> = answer.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [call, used, lagged] = numbers[..] else { return Err(format!("{answer} is no result")) };
            let name = format!("{count} watchers");
            calls.add(&name, call / 1e3 / writes as f64);
            processors.add(&name, used / 1e3 / writes as f64);
            if lagged > 0.0 {
                calls.note(&name, format!("{lagged} of them lagged"));
            }
        }
    }
    calls.print();
    processors.print();
    Ok(())
}

/// The participant: each command has the number of watchers and of writes.
pub(crate) fn run() {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else { return };
    for line in commands() {
        let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let result = match numbers[..] {
            [watchers, writes] => watched(&runtime, watchers, writes),
            _ => Err(format!("unknown command: {line}")),
        };
        println!("{}", result.unwrap_or_else(|failure| format!("failed {failure}")));
    }
}

/// The time in the calls, the processor time, and how many watchers lagged.
fn watched(runtime: &tokio::runtime::Runtime, watchers: usize, writes: usize) -> Result<String, Failure> {
    let bind = (IpAddr::from(Ipv4Addr::LOCALHOST), 0).into();
    let name = NodeName::new("watched").map_err(|error| error.to_string())?;
    let node = runtime.block_on(async {
        let node = Node::start(NodeConfig::new(name, bind, KeySet::development())).await;
        let node = node.map_err(|error| error.to_string())?;
        node.join_network(NETWORK).await.map_err(|error| error.to_string())?;
        Ok::<_, Failure>(node)
    })?;
    let (done, mut all_done) = mpsc::unbounded_channel();
    for _ in 0..watchers {
        let filter = WatchFilter { table: Some(TABLE.to_owned()), ..WatchFilter::default() };
        let (mut watch, done) = (node.tables().watch(filter), done.clone());
        runtime.spawn(async move {
            let (mut seen, mut lagged) = (0, false);
            while seen < writes {
                match watch.recv().await {
                    WatchEvent::Change(_) => seen += 1,
                    WatchEvent::Lagged => (seen, lagged) = (0, true),
                    WatchEvent::Closed => break,
                }
            }
            let _ = done.send(lagged);
        });
    }
    drop(done);
    let values = Values::new();
    let (mut in_calls, before) = (Duration::ZERO, processor());
    for number in 0..writes {
        let key = key(number);
        let begin = now();
        let result = node.tables().create(NETWORK, TABLE, &key, values.of(number));
        in_calls += now() - begin;
        result.map_err(|error| error.to_string())?;
        std::thread::sleep(PAUSE);
    }
    let mut lagged = 0;
    while let Some(one_lagged) = all_done.blocking_recv() {
        lagged += usize::from(one_lagged);
    }
    Ok(format!("{} {} {lagged}", written(in_calls), written(processor() - before)))
}
