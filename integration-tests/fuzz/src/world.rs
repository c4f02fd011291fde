//! A machine, an honest peer of it, and a hostile peer that sends what the fuzzer chooses.
//!
//! The honest peer makes messages that a fuzzer would hardly invent. They arrive as they are, changed, late, doubled, in
//! another's name, or never. Mallory is a member of the cluster whose every byte is the fuzzer's; the stranger is a name
//! that nobody knows. Afterwards the machine must hold no more than it was given cause to, and still do its work for a
//! newcomer whom all this does not concern.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::{Destination, FramePoll, NodeId, NodeName, StreamId};

use crate::input::Input;
use crate::memory::Watch;

/// The names in the world, with their addresses.
pub(crate) const VICTIM: &str = "victim";
pub(crate) const PEER: &str = "peer";
pub(crate) const MALLORY: &str = "mallory";
pub(crate) const NEWCOMER: &str = "newcomer-nobody-has-heard-of";

/// An input is over after so many decisions.
const MOST_STEPS: usize = 600;

/// Datagrams on the way, and frames remembered, at most.
const MOST_WAITING: usize = 64;

/// What a machine may hold beyond what came from others: its tables, queues and rings, and the peer's.
const OWN_BYTES: usize = 1 << 20;

/// What may be held for each byte that arrived: a claim about a member is a dozen bytes on the wire, and a record, its update
/// and its timers in memory.
const BYTES_A_BYTE: usize = 200;

/// What may be needed for a moment, beside what is held.
const MOMENT_BYTES: usize = 64 << 20;

/// So long things must stay as they are once they are well.
pub(crate) const WHILE: Duration = Duration::from_secs(20);

/// In each simulated second a machine may ask for so many time-outs; more would keep a processor busy.
const MOST_TIMEOUTS: u64 = 2000;

pub(crate) fn name(name: &str) -> NodeName {
    NodeName::new(name).expect("a short name")
}

pub(crate) fn address(name: &str) -> SocketAddr {
    let last = match name {
        VICTIM => 1,
        PEER => 2,
        MALLORY => 3,
        NEWCOMER => 4,
        _ => 9,
    };
    SocketAddr::from(([10, 0, 0, last], 7946))
}

/// The time on every host's clock when a world begins, since 1970.
const BEGINNING: Duration = Duration::from_secs(1_700_000_000);

/// The time on every host's clock.
pub(crate) fn wall_clock(start: Instant, now: Instant) -> Duration {
    BEGINNING + (now - start)
}

/// The instance of a node that starts `now`, numbered by the clock as nodes do it.
pub(crate) fn instance(who: &str, start: Instant, now: Instant) -> NodeId {
    NodeId::new(name(who), wall_clock(start, now).as_micros() as u64)
}

/// The instance of a node that was there from the start.
pub(crate) fn first_instance(who: &str) -> NodeId {
    NodeId::new(name(who), BEGINNING.as_micros() as u64)
}

/// What a machine wants done.
pub(crate) enum Wanted {
    Datagram { to: Destination, bytes: Vec<u8> },
    Open { stream: StreamId, to: Destination },
    Close { stream: StreamId },
}

/// The calls that the machines of the protocol have in common.
pub(crate) trait Machine {
    fn datagram(&mut self, from: &NodeName, source: SocketAddr, bytes: &[u8], now: Instant);
    fn opened(&mut self, from: &NodeName, source: SocketAddr, now: Instant) -> StreamId;
    fn connected(&mut self, stream: StreamId, peer: &NodeName, now: Instant);
    /// Whether the stream can go on.
    fn frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> bool;
    /// The other side's half of a stream is over.
    fn finished(&mut self, stream: StreamId, now: Instant);
    fn closed(&mut self, stream: StreamId, now: Instant);
    fn lost(&mut self, peer: &NodeName, now: Instant);
    fn next(&mut self, now: Instant) -> Option<Wanted>;
    fn next_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll;
    fn due(&self) -> Option<Instant>;
    fn timeout(&mut self, now: Instant);
    /// Something its owner asks of it.
    fn ask(&mut self, input: &mut Input<'_>, now: Instant);
}

/// A stream between the two, or between the victim and Mallory.
struct Link {
    /// The machines' own numbers: the victim's, and the peer's if the peer is at the other end.
    ends: (StreamId, Option<StreamId>),
    finished: (bool, bool),
}

/// The two machines and what is between them.
pub(crate) struct World<M> {
    pub(crate) victim: M,
    pub(crate) peer: M,
    peer_name: &'static str,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    /// Datagrams on the way; whether to the victim.
    on_the_way: VecDeque<(bool, Vec<u8>)>,
    links: Vec<Link>,
    /// Frames that the peer said lately, for Mallory to repeat.
    heard: VecDeque<Vec<u8>>,
    /// Bytes that reached either machine.
    received: usize,
    timeouts: u64,
}

impl<M: Machine> World<M> {
    pub(crate) fn new(victim: M, peer: M, peer_name: &'static str, now: Instant) -> Self {
        Self {
            victim,
            peer,
            peer_name,
            start: now,
            now,
            on_the_way: VecDeque::new(),
            links: Vec::new(),
            heard: VecDeque::new(),
            received: 0,
            timeouts: 0,
        }
    }

    /// Lets happen what the input says, and checks what the machines hold.
    pub(crate) fn run(make: impl FnOnce() -> Self, bytes: &[u8]) -> Self {
        let watch = Watch::start(MOMENT_BYTES + bytes.len() * BYTES_A_BYTE);
        let mut world = make();
        let mut input = Input::new(bytes);
        for _ in 0..MOST_STEPS {
            if input.is_empty() {
                break;
            }
            world.step(&mut input);
            world.collect();
        }
        world.on_the_way.clear();
        world.heard.clear();
        watch.check(OWN_BYTES + world.received * BYTES_A_BYTE, "what the input says");
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => {
                let pause = Duration::from_millis(1 << input.below(18));
                self.pass(pause);
            }
            2..=4 => self.deliver(|bytes, _| Some(bytes), input),
            5 => self.deliver(|bytes, input| Some(input.change(bytes)), input),
            6 => drop(self.on_the_way.pop_front()),
            7 => {
                if let Some(first) = self.on_the_way.front().cloned() {
                    self.send(first.0, first.1);
                }
            }
            8 => {
                let from = self.any_sender(input);
                let bytes = match self.on_the_way.front() {
                    Some((_, bytes)) if input.below(2) == 0 => input.change(bytes.clone()),
                    _ => input.bytes().to_vec(),
                };
                self.received += bytes.len();
                self.victim.datagram(&name(from), address(from), &bytes, self.now);
            }
            9 => {
                let from = self.any_sender(input);
                let end = self.victim.opened(&name(from), address(from), self.now);
                self.links.push(Link { ends: (end, None), finished: (false, false) });
            }
            10 | 11 => self.speak(input),
            12 => {
                let changed = input.below(2) == 0;
                self.exchange_frames(Some(input).filter(|_| changed));
            }
            13 => {
                let link = input.below(self.links.len());
                if link < self.links.len() {
                    self.close(link);
                }
            }
            14 => match input.below(8) {
                0 => self.victim.lost(&name(self.peer_name), self.now),
                1 => self.victim.lost(&name(MALLORY), self.now),
                _ => self.peer.ask(input, self.now),
            },
            _ => self.victim.ask(input, self.now),
        }
    }

    fn any_sender(&self, input: &mut Input<'_>) -> &'static str {
        match input.below(8) {
            0 => "stranger",
            1 => self.peer_name,
            _ => MALLORY,
        }
    }

    /// Mallory says something on a stream, in words of her own or of the peer's.
    fn speak(&mut self, input: &mut Input<'_>) {
        let own = |link: &Link| link.ends.1.is_none();
        let count = self.links.iter().filter(|link| own(link)).count();
        let chosen = input.below(count);
        let Some(at) =
            self.links.iter().enumerate().filter(|(_, link)| own(link)).nth(chosen).map(|(at, _)| at)
        else {
            return;
        };
        let bytes = match input.below(3) {
            0 if !self.heard.is_empty() => self.heard[input.below(self.heard.len())].clone(),
            1 if !self.heard.is_empty() => {
                let heard = self.heard[input.below(self.heard.len())].clone();
                input.change(heard)
            }
            _ => input.bytes().to_vec(),
        };
        self.received += bytes.len();
        if !self.victim.frame(self.links[at].ends.0, &bytes, self.now) {
            return self.close(at);
        }
        // She takes what is said to her, up to a point.
        for _ in 0..4 {
            match self.victim.next_frame(self.links[at].ends.0, self.now) {
                FramePoll::Frame(_) => {}
                FramePoll::Wait => break,
                FramePoll::Finish => return self.close(at),
            }
        }
    }

    fn send(&mut self, to_victim: bool, bytes: Vec<u8>) {
        if self.on_the_way.len() < MOST_WAITING {
            self.on_the_way.push_back((to_victim, bytes));
        }
    }

    fn deliver(
        &mut self,
        change: impl FnOnce(Vec<u8>, &mut Input<'_>) -> Option<Vec<u8>>,
        input: &mut Input<'_>,
    ) {
        let Some((to_victim, bytes)) = self.on_the_way.pop_front() else { return };
        if let Some(bytes) = change(bytes, input) {
            self.arrive(to_victim, &bytes);
        }
    }

    fn arrive(&mut self, to_victim: bool, bytes: &[u8]) {
        self.received += bytes.len();
        if to_victim {
            self.victim.datagram(&name(self.peer_name), address(self.peer_name), bytes, self.now);
        } else {
            self.peer.datagram(&name(VICTIM), address(VICTIM), bytes, self.now);
        }
    }

    /// Takes from both machines what they want done.
    fn collect(&mut self) {
        for of_victim in [true, false] {
            loop {
                let machine = if of_victim { &mut self.victim } else { &mut self.peer };
                let other = if of_victim { self.peer_name } else { VICTIM };
                let reaches = |to: &Destination| match &to.name {
                    Some(name) => name.as_str() == other && to.address == address(other),
                    None => to.address == address(other),
                };
                match machine.next(self.now) {
                    None => break,
                    Some(Wanted::Datagram { to, bytes }) => {
                        if reaches(&to) {
                            self.send(!of_victim, bytes);
                        }
                    }
                    Some(Wanted::Open { stream, to }) if reaches(&to) => {
                        let (own, others) = if of_victim {
                            (VICTIM, &mut self.peer)
                        } else {
                            (self.peer_name, &mut self.victim)
                        };
                        let there = others.opened(&name(own), address(own), self.now);
                        let machine = if of_victim { &mut self.victim } else { &mut self.peer };
                        machine.connected(stream, &name(other), self.now);
                        let ends = if of_victim { (stream, Some(there)) } else { (there, Some(stream)) };
                        self.links.push(Link { ends, finished: (false, false) });
                    }
                    Some(Wanted::Open { stream, .. }) => machine.closed(stream, self.now),
                    Some(Wanted::Close { stream }) => {
                        let end = |link: &Link| if of_victim { Some(link.ends.0) } else { link.ends.1 };
                        if let Some(at) = self.links.iter().position(|link| end(link) == Some(stream)) {
                            self.close(at);
                        }
                    }
                }
            }
        }
    }

    fn close(&mut self, at: usize) {
        let Link { ends, .. } = self.links.remove(at);
        self.victim.closed(ends.0, self.now);
        if let Some(end) = ends.1 {
            self.peer.closed(end, self.now);
        }
    }

    /// Moves one frame in each direction of each stream between the two; whether there was one.
    fn exchange_frames(&mut self, mut input: Option<&mut Input<'_>>) -> bool {
        let mut moved = false;
        let mut at = 0;
        while at < self.links.len() {
            match self.exchange_on(at, &mut input) {
                Some(some) => {
                    moved |= some;
                    at += 1;
                }
                None => self.close(at),
            }
        }
        moved
    }

    /// `None` if the stream is over.
    fn exchange_on(&mut self, at: usize, input: &mut Option<&mut Input<'_>>) -> Option<bool> {
        let link = &mut self.links[at];
        let (victims, Some(peers)) = link.ends else { return Some(false) };
        let mut moved = false;
        match self.peer.next_frame(peers, self.now) {
            FramePoll::Frame(mut bytes) => {
                moved = true;
                self.heard.push_back(bytes.clone());
                self.heard.drain(..self.heard.len().saturating_sub(16));
                if let Some(input) = input {
                    bytes = input.change(bytes);
                }
                self.received += bytes.len();
                if !self.victim.frame(victims, &bytes, self.now) {
                    return None;
                }
            }
            FramePoll::Wait => {}
            FramePoll::Finish => {
                if !std::mem::replace(&mut link.finished.1, true) {
                    self.victim.finished(victims, self.now);
                }
            }
        }
        match self.victim.next_frame(victims, self.now) {
            FramePoll::Frame(bytes) => {
                moved = true;
                self.received += bytes.len();
                if !self.peer.frame(peers, &bytes, self.now) {
                    return None;
                }
            }
            FramePoll::Wait => {}
            FramePoll::Finish => {
                if !std::mem::replace(&mut self.links[at].finished.0, true) {
                    self.peer.finished(peers, self.now);
                }
            }
        }
        (self.links[at].finished != (true, true)).then_some(moved)
    }

    /// Lets time pass, with the time-outs that fall due.
    fn pass(&mut self, pause: Duration) {
        let until = self.now + pause;
        for _ in 0..32 {
            match self.due().filter(|due| *due <= until) {
                Some(due) => self.time_out(due.max(self.now)),
                None => break,
            }
            self.collect();
        }
        self.time_out(until);
    }

    fn due(&self) -> Option<Instant> {
        [self.victim.due(), self.peer.due()].into_iter().flatten().min()
    }

    fn time_out(&mut self, now: Instant) {
        self.now = now;
        self.timeouts += 1;
        for machine in [&mut self.victim, &mut self.peer] {
            if machine.due().is_some_and(|due| due <= now) {
                machine.timeout(now);
            }
        }
    }

    /// Lets everything arrive, in order and at once, for `time`, or until `done`; panics if a machine wants to be called
    /// all the time.
    pub(crate) fn be_kind(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let (start, until) = (self.now, self.now + time);
        self.timeouts = 0;
        loop {
            self.collect();
            let mut moved = self.exchange_frames(None);
            while let Some((to_victim, bytes)) = self.on_the_way.pop_front() {
                self.arrive(to_victim, &bytes);
                moved = true;
            }
            if moved {
                continue;
            }
            if done(self) {
                return true;
            }
            let next = self.due().map_or(until, |due| due.max(self.now)).min(until);
            if self.now >= until {
                return false;
            }
            self.time_out(next);
            let seconds = (self.now - start).as_secs() + 1;
            assert!(
                self.timeouts <= MOST_TIMEOUTS * seconds,
                "{} time-outs within {seconds} simulated seconds",
                self.timeouts
            );
        }
    }

    /// The victim meets a new node, over a network without faults. Its streams with others are reset.
    pub(crate) fn meet(mut self, newcomer: M) -> Self {
        while !self.links.is_empty() {
            self.close(0);
        }
        World::new(self.victim, newcomer, NEWCOMER, self.now)
    }
}
