//! Requests a second, and imports.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::Client;
use super::report::{Side, print};
use super::server::{Kind, Server};
use super::{Failure, Size};

/// How many keys are read.
const KEYS: usize = 1_000;

/// Creates and gets a second over one and over 32 connections.
pub(crate) fn measure(size: &Size) -> Result<(), Failure> {
    let mut servers = Vec::new();
    for kind in [Kind::Networkdb, Kind::Axum, Kind::Redis] {
        match Server::start(kind)? {
            Some(server) => servers.push(server),
            None => println!("{} is not installed here", kind.name()),
        }
    }
    // No key is created twice.
    let created = AtomicUsize::new(KEYS);
    for server in &servers {
        let mut client = Client::connect(server)?;
        (0..KEYS).try_for_each(|number| client.create(&key(number)))?;
    }
    for connections in [1, 32] {
        for (what, is_create) in [("creates", true), ("gets", false)] {
            let mut sides: Vec<Side> = servers.iter().map(|server| side(server.kind)).collect();
            for _ in 0..size.rounds {
                for (server, side) in servers.iter().zip(&mut sides) {
                    let request = |client: &mut Client, number: usize| match is_create {
                        true => client.create(&key(created.fetch_add(1, Ordering::Relaxed))),
                        false => client.get(&key(number % KEYS)),
                    };
                    side.samples.push(rate(server, connections, size.time, request)?);
                }
            }
            print(&format!("{what} over {connections} connections"), "a second", f64::max, &sides);
        }
    }
    Ok(())
}

fn side(kind: Kind) -> Side {
    Side { name: kind.name().to_owned(), samples: Vec::new() }
}

fn key(number: usize) -> String {
    format!("key-{number:06}")
}

/// The requests a second over so many connections, each with a thread of its own.
fn rate(
    server: &Server,
    connections: usize,
    time: Duration,
    request: impl Fn(&mut Client, usize) -> Result<(), Failure> + Sync,
) -> Result<f64, Failure> {
    let clients = (0..connections).map(|_| Client::connect(server)).collect::<Result<Vec<_>, _>>()?;
    let (begin, done) = (Instant::now(), AtomicU64::new(0));
    let work = |mut client: Client| {
        let mut number = 0;
        while begin.elapsed() < time {
            request(&mut client, number)?;
            number += 1;
        }
        done.fetch_add(number as u64, Ordering::Relaxed);
        Ok::<(), Failure>(())
    };
    std::thread::scope(|scope| {
        let start = |client| scope.spawn(|| work(client));
        let threads: Vec<_> = clients.into_iter().map(start).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    Ok(done.into_inner() as f64 / begin.elapsed().as_secs_f64())
}

/// An import as one request; the bare handler only receives it.
pub(crate) fn measure_imports(size: &Size) -> Result<(), Failure> {
    let lines = |round: usize| {
        let line = |number| format!("{{\"key\":\"key-{round}-{number}\",\"value\":\"{:0100}\"}}\n", number);
        (0..size.imported).map(line).collect::<String>()
    };
    let mut sides = [side(Kind::Networkdb), side(Kind::Axum)];
    let servers = [Kind::Networkdb, Kind::Axum].map(Server::start);
    for round in 0..size.rounds {
        let lines = lines(round);
        for (server, side) in servers.iter().zip(&mut sides) {
            let server = server.as_ref().map_err(Clone::clone)?.as_ref().ok_or("there is no server")?;
            let (mut client, begin) = (Client::connect(server)?, Instant::now());
            client.import(&lines)?;
            side.samples.push(size.imported as f64 / begin.elapsed().as_secs_f64());
        }
    }
    print(&format!("entries of an import of {}", size.imported), "a second", f64::max, &sides);
    Ok(())
}
