//! The limit: as many bytes from one process to others, without anything that a store does. Both ends.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::{now, processor, written};
use crate::namespace::{Namespace, available};
use crate::participant::{Failure, Kind, PROMPT, Participant, commands, processor_of};

/// How the bytes travel.
pub(crate) trait Carrier: Sized {
    /// Listens on loopback.
    async fn bind() -> Result<Self, Failure>;
    /// Its address, and a word that a peer needs to trust it.
    fn address(&self) -> (SocketAddr, String);
    async fn connect(&mut self, peer: SocketAddr, trust: &str) -> Result<(), Failure>;
    /// Takes the connection that a peer makes.
    async fn accept(&mut self) -> Result<(), Failure>;
    /// Sends as much to each connected peer, to all at the same time.
    async fn send(&self, bytes: usize) -> Result<(), Failure>;
    async fn receive(&mut self, bytes: usize) -> Result<(), Failure>;
}

/// Serves commands until the input ends.
pub(crate) fn run<C: Carrier>() {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else { return };
    let Ok(mut carrier) = runtime.block_on(C::bind()) else { return };
    for line in commands() {
        match runtime.block_on(answer(&mut carrier, &line)) {
            Ok(answer) => println!("{answer}"),
            Err(failure) => println!("failed {failure}"),
        }
    }
}

async fn answer<C: Carrier>(carrier: &mut C, line: &str) -> Result<String, Failure> {
    let number = |word: &str| word.parse().map_err(|_| format!("{word} is no number"));
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["address"] => {
            let (address, trust) = carrier.address();
            Ok(format!("{address} {trust}"))
        }
        ["connect", address, trust] => {
            let address = address.parse().map_err(|_| format!("{address} is no address"))?;
            carrier.connect(address, trust).await?;
            Ok("connected".to_owned())
        }
        ["accept"] => {
            carrier.accept().await?;
            Ok("accepted".to_owned())
        }
        ["send", bytes] => {
            let begin = now();
            carrier.send(number(bytes)?).await?;
            Ok(written(begin))
        }
        ["receive", bytes] => {
            carrier.receive(number(bytes)?).await?;
            Ok(written(now()))
        }
        ["processor"] => Ok(written(processor())),
        _ => Err(format!("unknown command: {line}")),
    }
}

/// Time and processor time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    pub(crate) processor: Duration,
}

/// Sends `bytes` from one fresh process to each of `receivers` others, over connections that are there.
pub(crate) fn transfer(kind: Kind, receivers: usize, bytes: usize) -> Result<Cost, Failure> {
    let namespace = available().then(Namespace::new).transpose()?;
    let mut participants = Vec::new();
    for _ in 0..=receivers {
        participants.push(Participant::start(kind, namespace.as_ref())?);
    }
    let Some((source, sinks)) = participants.split_first_mut() else { return Err("no source".to_owned()) };
    for sink in sinks {
        let address = sink.ask("address", PROMPT)?;
        sink.send("accept")?;
        source.ask(&format!("connect {address}"), PROMPT)?;
        sink.answer(PROMPT)?;
    }
    let before = processor_of(&mut participants)?;
    for sink in &mut participants[1..] {
        sink.send(&format!("receive {bytes}"))?;
    }
    let begin = participants[0].ask_time(&format!("send {bytes}"), PROMPT)?;
    let mut end = begin;
    for sink in &mut participants[1..] {
        end = end.max(sink.answer_time(PROMPT)?);
    }
    let processor = processor_of(&mut participants)? - before;
    Ok(Cost { time: end - begin, processor })
}
