//! Production replicas, one input at a time, each state of a replica stored once.
//!
//! A replica is a function of its inputs. So a state is stored as the inputs that led to it, and the effect
//! of an input on it is computed once: by giving the same inputs to a new replica, and then this one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::FramePoll;

use super::content::View;
use super::live::Live;
use super::promises::{self, Promise};
use crate::replica::tests::start;

/// An input of a replica. Each happens at the replica's current time, except those that let time pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Input {
    Put {
        key: u8,
    },
    Delete {
        key: u8,
    },
    Datagram {
        from: usize,
        text: Text,
    },
    StreamOpened {
        from: usize,
    },
    Frame {
        stream: u64,
        text: Text,
    },
    Poll {
        stream: u64,
    },
    StreamClosed {
        stream: u64,
    },
    /// The stream that was to be opened cannot be. Its number, which no other replica has seen, is used
    /// again: otherwise there would be infinitely many states that differ in nothing else.
    Unreachable {
        stream: u64,
    },
    /// Time passes up to the next deadline, and what is due is done.
    Timer,
    /// The reap time passes, and what has become due is done, late.
    ReapTime,
    /// Time passes up to the next whole second but one, so that all have the same time again; only at the
    /// beginning.
    WholeSecond,
    Leave,
    Join,
    Failed {
        whom: usize,
    },
    Alive {
        whom: usize,
    },
    /// The periodic comparison becomes due, and chooses this member.
    Compare {
        with: usize,
    },
    /// A probe to that member carries a digest, without fingerprints: the comparisons that they cause begin
    /// at any time anyway.
    Probe {
        to: usize,
    },
    Digest {
        from: usize,
        text: Text,
    },
}

/// A state of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State(u32);

/// Bytes that a replica has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Text(u32);

/// The result of polling a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    Frame(Text),
    Wait,
    Finish,
}

/// The effect of an input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reaction {
    pub(super) next: State,
    /// Datagrams, with their receivers.
    pub(super) sent: Vec<(usize, Text)>,
    /// Streams to be opened.
    pub(super) opened: Vec<(u64, usize)>,
    /// Of a poll.
    pub(super) polled: Option<Polled>,
    /// Of a stream that a peer opened.
    pub(super) stream: Option<u64>,
    /// Of a probe.
    pub(super) digest: Option<Text>,
    /// A frame was not accepted: the stream is given up.
    pub(super) gave_up: bool,
    pub(super) broken: Option<Promise>,
}

/// The origin of a state, and its observable part.
#[derive(Debug)]
struct Known {
    from: Option<(State, Input, u64)>,
    me: usize,
    view: Arc<View>,
}

/// All states of replicas met so far.
#[derive(Debug)]
pub(super) struct Replicas {
    start: Instant,
    reap_time: Duration,
    known: Vec<Known>,
    by_hash: HashMap<u128, State>,
    reactions: HashMap<(State, Input), Vec<Arc<Reaction>>>,
    texts: Vec<Arc<[u8]>>,
    by_text: HashMap<Arc<[u8]>, Text>,
    /// Replicas at work, to continue from without starting over.
    live: HashMap<State, Box<Live>>,
    left_in_order: VecDeque<State>,
    /// The effects of the steps, each counted once.
    pub(super) met: BTreeMap<&'static str, u64>,
    pub(super) steps: u64,
    pub(super) replayed: u64,
}

/// The number of generators tried where a step draws a partner.
const DRAWS: u64 = 8;

/// The most replicas kept at work.
const MOST_LIVE: usize = 4096;

impl Replicas {
    pub(super) fn new(reap_time: Duration) -> Self {
        Self {
            start: start(),
            reap_time,
            known: Vec::new(),
            by_hash: HashMap::new(),
            reactions: HashMap::new(),
            texts: Vec::new(),
            by_text: HashMap::new(),
            live: HashMap::new(),
            left_in_order: VecDeque::new(),
            met: BTreeMap::new(),
            steps: 0,
            replayed: 0,
        }
    }

    /// How many different states there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    pub(super) fn newborn(&mut self, me: usize) -> State {
        let live = Live::new(me, self.start, self.reap_time);
        self.keep(Box::new(live), None)
    }

    pub(super) fn view(&self, state: State) -> &Arc<View> {
        &self.known[state.0 as usize].view
    }

    pub(super) fn text(&self, text: Text) -> &Arc<[u8]> {
        &self.texts[text.0 as usize]
    }

    /// The effects of `input` in `state`: more than one where a partner is drawn.
    pub(super) fn reactions(&mut self, state: State, input: Input) -> Vec<Arc<Reaction>> {
        if let Some(known) = self.reactions.get(&(state, input)) {
            return known.clone();
        }
        let live = self.revive(state);
        let draws = if live.draws(&input) { DRAWS } else { 1 };
        let mut live = Some(live);
        let mut reactions: Vec<Arc<Reaction>> = Vec::new();
        for draw in 0..draws {
            let live = live.take().unwrap_or_else(|| self.revive(state));
            let reaction = self.react(live, state, input, draw);
            if reactions.iter().all(|known| **known != reaction) {
                reactions.push(Arc::new(reaction));
            }
        }
        self.reactions.insert((state, input), reactions.clone());
        reactions
    }

    fn react(&mut self, mut live: Box<Live>, state: State, input: Input, draw: u64) -> Reaction {
        let text = text_of(&input).map(|text| self.text(text).clone());
        let output = live.take(&input, draw, text.as_deref());
        self.steps += 1;
        for count in live.replica.counters().iter().filter(|count| count.value > 0) {
            *self.met.entry(count.name).or_default() += count.value;
        }
        let before = self.view(state).clone();
        let next = self.keep(live, Some((state, input, draw)));
        let after = self.view(next).clone();
        let broken = output
            .broken
            .or_else(|| promises::step(&before.content, &after.content, &input, text.as_deref()));
        Reaction {
            next,
            sent: output.datagrams.into_iter().map(|(to, bytes)| (to, self.intern(bytes))).collect(),
            opened: output.opened,
            polled: output.polled.map(|polled| match polled {
                FramePoll::Frame(bytes) => Polled::Frame(self.intern(bytes)),
                FramePoll::Wait => Polled::Wait,
                FramePoll::Finish => Polled::Finish,
            }),
            stream: output.stream,
            digest: output.digest.map(|bytes| self.intern(bytes)),
            gave_up: output.gave_up,
            broken,
        }
    }

    /// A replica in that state.
    fn revive(&mut self, state: State) -> Box<Live> {
        if let Some(live) = self.live.remove(&state) {
            return live;
        }
        self.replayed += 1;
        let mut inputs = Vec::new();
        let mut at = state;
        while let Some((from, input, draw)) = self.known[at.0 as usize].from {
            inputs.push((input, draw));
            at = from;
        }
        let mut live = Box::new(Live::new(self.known[at.0 as usize].me, self.start, self.reap_time));
        for (input, draw) in inputs.into_iter().rev() {
            let text = text_of(&input).map(|text| self.text(text).clone());
            live.take_unwatched(&input, draw, text.as_deref());
            live.follow_watches();
        }
        live
    }

    /// A replica in that state, for a caller that changes it.
    pub(super) fn copy(&mut self, state: State) -> Box<Live> {
        self.revive(state)
    }

    fn keep(&mut self, mut live: Box<Live>, from: Option<(State, Input, u64)>) -> State {
        let hash = live.state_hash();
        let next = State(self.known.len() as u32);
        let state = *self.by_hash.entry(hash).or_insert(next);
        if state == next {
            let view = Arc::new(live.view());
            self.known.push(Known { from, me: live.me, view });
        }
        if self.live.insert(state, live).is_none() {
            self.left_in_order.push_back(state);
        }
        while self.left_in_order.len() > MOST_LIVE {
            let oldest = self.left_in_order.pop_front();
            oldest.map(|oldest| self.live.remove(&oldest));
        }
        state
    }

    fn intern(&mut self, bytes: Vec<u8>) -> Text {
        if let Some(&text) = self.by_text.get(&*bytes) {
            return text;
        }
        let bytes: Arc<[u8]> = bytes.into();
        let text = Text(self.texts.len() as u32);
        self.texts.push(bytes.clone());
        self.by_text.insert(bytes, text);
        text
    }
}

fn text_of(input: &Input) -> Option<Text> {
    match *input {
        Input::Datagram { text, .. } | Input::Frame { text, .. } | Input::Digest { text, .. } => Some(text),
        _ => None,
    }
}
