//! What watches cost the node: processor time an event, memory, and processor time while nothing happens.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::client::Client;
use super::report::{Side, print};
use super::server::{Kind, Server};
use super::{Failure, Size};

/// Timeout of what a watch waits for.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between two writes: each is an event of its own, and no watch falls behind.
const PAUSE: Duration = Duration::from_millis(2);

/// Processor time of the node for an event, by the number of watches that receive it.
pub(crate) fn measure(size: &Size) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let mut sides = Vec::new();
    for &count in [0].iter().chain(size.watches) {
        let mut side = Side { name: format!("{count} watches"), samples: Vec::new() };
        for _ in 0..size.rounds.min(3) {
            let mut server = Server::start(Kind::Networkdb)?.ok_or("there is no server")?;
            let watches = runtime.block_on(Watches::open(&server, count))?;
            let before = server.processor()?;
            let mut client = Client::connect(&server)?;
            for number in 0..size.events {
                client.create(&format!("key-{number}"))?;
                std::thread::sleep(PAUSE);
            }
            runtime.block_on(watches.received(size.events))?;
            let used = server.processor()? - before;
            side.samples.push(used.as_secs_f64() * 1e6 / size.events as f64);
        }
        sides.push(side);
    }
    print("processor time of the node for a create", "µs", f64::min, &sides);
    Ok(())
}

/// Memory of the node for an idle watch, and its processor time meanwhile beside that of a node without watches.
pub(crate) fn measure_idle(size: &Size) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let count = size.watches.iter().copied().max().unwrap_or(1);
    let mut server = Server::start(Kind::Networkdb)?.ok_or("there is no server")?;
    // What the first ones need once is not a watch's.
    let first = runtime.block_on(Watches::open(&server, 10))?;
    let idle = |server: &mut Server| {
        let before = server.processor()?;
        std::thread::sleep(size.idle);
        Ok::<_, Failure>((server.processor()? - before).as_secs_f64() * 1e3 / size.idle.as_secs_f64())
    };
    let without = idle(&mut server)?;
    let before = server.memory()?;
    let watches = runtime.block_on(Watches::open(&server, count))?;
    let memory = server.memory()?.saturating_sub(before) as f64 / 1024.0 / count as f64;
    let with = idle(&mut server)?;
    println!("{count} idle watches: {memory:.1} KiB of memory each");
    println!("  processor time of the node: {with:.2} ms a second, and {without:.2} with 10 watches");
    drop((first, watches));
    Ok(())
}

/// Open watches, each read by a task, which reports each line that is not empty.
struct Watches {
    events: mpsc::UnboundedReceiver<usize>,
    count: usize,
}

impl Watches {
    /// Opens so many. What is created before a watch has its place is in its snapshot.
    async fn open(server: &Server, count: usize) -> Result<Self, Failure> {
        let (sender, events) = mpsc::unbounded_channel();
        for _ in 0..count {
            let mut stream = TcpStream::connect(server.address).await.map_err(|error| error.to_string())?;
            let request = "GET /v1/watch?network=net HTTP/1.1\r\nhost: localhost\r\n\r\n";
            stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
            let mut head = [0; 4096];
            let read = tokio::time::timeout(TIMEOUT, stream.read(&mut head)).await;
            if !matches!(read, Ok(Ok(bytes)) if head[..bytes].starts_with(b"HTTP/1.1 200")) {
                return Err("a watch was not opened".to_owned());
            }
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 16 << 10];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    let events = bytes[..length].windows(9).filter(|part| part == b"\"network\"").count();
                    if events > 0 && sender.send(events).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { events, count })
    }

    /// Waits until all have received so many events.
    async fn received(mut self, events: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + TIMEOUT;
        let mut missing = events * self.count;
        while missing > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some(events)) => missing = missing.saturating_sub(events),
                _ => return Err(format!("{missing} events have not been received")),
            }
        }
        Ok(())
    }
}
