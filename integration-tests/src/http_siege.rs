//! Misbehaving HTTP clients against a real node: their cost for the node, whether its health can be
//! requested, and whether its peer is affected. All clients have one address, that of the node's
//! own host.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_client_for_tests::{Request, Response};

use crate::formation::Processes;
use crate::hosts::Failure;

/// How long each attack lasts.
const ATTACK: Duration = Duration::from_secs(5);

/// Limit for the answer to a health request during an attack; failed requests are repeated at once.
/// Before a node's permits were shared, it gave no answer in six seconds.
const HEALTH_WITHIN: Duration = Duration::from_secs(3);

/// Timeout of one connect, read or write.
const TRY_WITHIN: Duration = Duration::from_secs(1);

/// Limit for the growth of the node's memory, in bytes: the sum of the limits of HTTP and of
/// watches here.
const GROWTH: u64 = 160 << 20;

/// The entries of the table that clients read: 10 MB.
const ENTRIES: usize = 1000;
const VALUE_BYTES: usize = 10_000;

/// An attack: its name, and the behaviour of each client until it is stopped.
struct Attack {
    name: &'static str,
    clients: usize,
    client: fn(SocketAddr, &AtomicBool) -> std::io::Result<()>,
}

/// How many watches of a table that never changes one client holds.
const IDLE_WATCHES: usize = 50;

const ATTACKS: [Attack; 8] = [
    Attack { name: "headers byte by byte", clients: 400, client: slow_header },
    Attack { name: "bodies of one byte", clients: 400, client: slow_body },
    Attack { name: "hanging up on a large answer", clients: 60, client: hang_up },
    Attack { name: "large answers left unread", clients: 300, client: unread_answer },
    Attack { name: "a thousand requests at once", clients: 60, client: pipeline },
    Attack { name: "stalled watches", clients: 400, client: watch },
    Attack { name: "three thousand idle watches", clients: 60, client: idle_watches },
    Attack { name: "leaving random networks", clients: 8, client: leave },
];

/// The result of an attack.
#[derive(Debug)]
pub struct Outcome {
    /// The name of the attack.
    pub name: &'static str,
    /// How often clients started over.
    pub rounds: u64,
    /// The longest time to a health answer, failures and new attempts included.
    pub slowest_health: Duration,
    /// The number of health requests, and of repeated ones.
    pub asked: (u64, u64),
    /// The peak growth of the node's memory, in bytes.
    pub growth: u64,
}

impl Outcome {
    /// Checks the limits.
    pub fn check(&self) -> Result<(), Failure> {
        if self.slowest_health > HEALTH_WITHIN {
            return Err(format!("{}: health was answered after {:?} only", self.name, self.slowest_health));
        }
        if self.growth > GROWTH {
            return Err(format!("{}: the node's memory grew by {} MiB", self.name, self.growth >> 20));
        }
        Ok(())
    }
}

/// Runs each attack against the first of two nodes, and reports each as it ends.
///
/// # Errors
///
/// If the nodes cannot be started or end, or the peer has held the node failed.
pub fn run_attacks(nodes: &mut Processes, mut report: impl FnMut(&Outcome)) -> Result<Vec<Outcome>, Failure> {
    let victim = nodes.http(0);
    for key in 0..ENTRIES {
        write(victim, &format!("/v1/networks/blue/tables/t/entries/k{key}"), "POST", VALUE_BYTES)?;
    }
    let mut outcomes = Vec::new();
    for attack in &ATTACKS {
        let outcome = run_attack(nodes, attack)?;
        report(&outcome);
        outcomes.push(outcome);
        // The node must release what it holds for clients that are gone, and not refuse the next
        // ones for it.
        ask_until(victim, "/v1/node", Duration::from_secs(20))
            .map_err(|error| format!("after {}: the node does not answer: {error}", attack.name))?;
    }
    let failures = nodes.metrics(1)?.count("membership", "failures_declared")?;
    match failures {
        0 => Ok(outcomes),
        failures => Err(format!("the peer declared the node failed {failures} times")),
    }
}

#[expect(clippy::disallowed_methods, reason = "this measures real time")]
fn run_attack(nodes: &Processes, attack: &Attack) -> Result<Outcome, Failure> {
    let victim = nodes.http(0);
    let before = nodes.resident_bytes(0)?;
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut outcome =
        Outcome { name: attack.name, rounds: 0, slowest_health: Duration::ZERO, asked: (0, 0), growth: 0 };
    std::thread::scope(|scope| {
        for _ in 0..attack.clients {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // The node should refuse excess clients.
                    if (attack.client)(victim, &stop).is_err() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Values that change all the time, for the watching clients.
        scope.spawn(|| {
            for key in (0..ENTRIES).cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let path = format!("/v1/networks/blue/tables/t/entries/k{key}");
                // The attacked node may refuse it; the peer's writes get there by gossip.
                let _ = write(nodes.http(1), &path, "PUT", VALUE_BYTES);
            }
        });
        let measured = (|| {
            let begun = Instant::now();
            while begun.elapsed() < ATTACK {
                let asked = Instant::now();
                loop {
                    outcome.asked.0 += 1;
                    match ask(victim, "/ready") {
                        Ok(answer) if answer.body == "OK\nOK" => break,
                        _ if asked.elapsed() > 2 * HEALTH_WITHIN => break,
                        _ => outcome.asked.1 += 1,
                    }
                }
                outcome.slowest_health = outcome.slowest_health.max(asked.elapsed());
                outcome.growth = outcome.growth.max(nodes.resident_bytes(0)?.saturating_sub(before));
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok::<(), Failure>(())
        })();
        stop.store(true, Ordering::Relaxed);
        measured
    })?;
    outcome.rounds = rounds.into_inner();
    Ok(outcome)
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TRY_WITHIN)?;
    stream.set_read_timeout(Some(TRY_WITHIN))?;
    stream.set_write_timeout(Some(TRY_WITHIN))?;
    Ok(stream)
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<Response> {
    http_client_for_tests::get(address, path, TRY_WITHIN)
}

#[expect(clippy::disallowed_methods, reason = "this measures real time")]
fn ask_until(address: SocketAddr, path: &str, limit: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match ask(address, path) {
            Ok(answer) if answer.status == 200 => return Ok(()),
            answer if begun.elapsed() > limit => return Err(format!("{answer:?}")),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn write(address: SocketAddr, path: &str, method: &str, bytes: usize) -> Result<(), Failure> {
    let answer = Request::new(method, path).body(vec![b'x'; bytes]).send(address, TRY_WITHIN);
    match answer.map_err(|error| format!("{method} {path}: {error}"))? {
        Response { status: 200..210, .. } => Ok(()),
        answer => Err(format!("{method} {path}: {answer:?}")),
    }
}

/// Holds a connection until it is stopped, or the node closes the connection.
fn hold(mut stream: TcpStream, stop: &AtomicBool, drip: &[u8]) -> std::io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(200));
        stream.write_all(drip)?;
    }
    Ok(())
}

fn slow_header(address: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nx: ")?;
    hold(stream, stop, b"x")
}

fn slow_body(address: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    write!(
        stream,
        "PUT /v1/networks/blue/tables/t/entries/k HTTP/1.1\r\nhost: {address}\r\ncontent-length: 1000\r\n\r\n"
    )?;
    hold(stream, stop, b"x")
}

fn hang_up(address: SocketAddr, _: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    write!(stream, "GET /gettable?nid=blue&tname=t HTTP/1.1\r\nhost: {address}\r\n\r\n")
}

fn unread_answer(address: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    write!(stream, "GET /v1/networks/blue/tables/t/entries HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    hold(stream, stop, b"")
}

fn pipeline(address: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    let request = format!("GET /gettable?nid=blue&tname=t HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.repeat(1000).as_bytes())?;
    hold(stream, stop, b"")
}

fn watch(address: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    write!(stream, "GET /v1/watch HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    hold(stream, stop, b"")
}

fn idle_watches(address: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let mut held = Vec::with_capacity(IDLE_WATCHES);
    for _ in 0..IDLE_WATCHES {
        let mut stream = connect(address)?;
        write!(stream, "GET /v1/watch?network=blue&table=never-written HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
        held.push(stream);
    }
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn leave(address: SocketAddr, _: &AtomicBool) -> std::io::Result<()> {
    use std::hash::{BuildHasher as _, RandomState};
    let name = RandomState::new().hash_one(0);
    ask(address, &format!("/leavenetwork?nid={name:016x}{}", "x".repeat(200))).map(drop)
}
