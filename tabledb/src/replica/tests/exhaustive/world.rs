//! Three replicas and the messages between them, as a stateright model.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;
use stateright::{Model, Property};
use wire::codec;

use super::content::Content;
use super::moves::Steps;
use super::promises::{Promise, Written};
use super::steps::{Input, Replicas, State, Text};
use super::{Bounds, NODES, quiet};
use crate::replica::message::{Datagram, Frame};

/// One end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// The first frame has not arrived.
    Unopened,
    Open(u64),
    Over,
}

/// A stream, its opener first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stream {
    pub(super) nodes: [usize; 2],
    pub(super) ends: [End; 2],
    /// The frame of each end that the other has not received: one at most.
    pub(super) on_the_way: [Option<Text>; 2],
}

/// The whole world.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) replicas: [State; NODES],
    /// Every datagram ever sent, as (from, to, bytes). Each may arrive at any time, any number of times, or
    /// never.
    pub(super) datagrams: Vec<(usize, usize, Text)>,
    pub(super) streams: Vec<Stream>,
    pub(super) written: Vec<Written>,
    pub(super) left: Left,
    pub(super) broken: Option<Promise>,
}

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) writes: [u8; NODES],
    pub(super) timers: u8,
    pub(super) reaps: u8,
    pub(super) streams: u8,
    pub(super) cuts: u8,
    pub(super) leaves: u8,
    pub(super) joins: u8,
    pub(super) failures: u8,
    pub(super) returns: u8,
    /// A tombstone may have been reaped.
    pub(super) reaped: bool,
    /// A node has left.
    pub(super) parted: bool,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.replicas, self.streams, self.left)
    }
}

/// The next step. Where a replica draws a partner, `draw` selects the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// One input to one replica.
    Input { at: usize, input: Input, draw: usize },
    /// The first of the two sends a frame on a stream.
    Send { stream: usize, end: usize },
    /// The frame of that end of a stream arrives at the other.
    Receive { stream: usize, end: usize, draw: usize },
    /// That end of a stream breaks.
    Cut { stream: usize, end: usize, draw: usize },
    /// A probe arrives.
    Probe { from: usize, to: usize },
}

/// The model.
pub(super) struct Small {
    pub(super) bounds: Bounds,
    pub(super) replicas: Mutex<Replicas>,
    /// Worlds that are known to come to agreement.
    settled: Mutex<HashSet<u128>>,
    pub(super) settlings: Mutex<u64>,
    /// The first thing that was still wrong after quiet rounds.
    pub(super) unsettled: Mutex<Option<String>>,
}

impl Small {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            replicas: Mutex::new(Replicas::new(bounds.reap_time())),
            settled: Mutex::default(),
            settlings: Mutex::default(),
            unsettled: Mutex::default(),
        }
    }

    /// All have joined, know each other and have compared; if the bounds require it, all hold an entry of n0;
    /// and nothing is on its way.
    fn settled_world(&self) -> World {
        let mut steps = Steps { replicas: &mut self.replicas.lock(), bounds: &self.bounds };
        let states = std::array::from_fn(|at| steps.replicas.newborn(at));
        let bounds = &self.bounds;
        let plenty = u8::MAX;
        let left = Left {
            writes: bounds.writes,
            timers: bounds.timers,
            reaps: bounds.reaps,
            streams: plenty,
            cuts: bounds.cuts,
            leaves: bounds.leaves,
            joins: bounds.joins,
            failures: bounds.failures,
            returns: bounds.failures,
            reaped: false,
            parted: false,
        };
        let mut world = World {
            replicas: states,
            datagrams: Vec::new(),
            streams: Vec::new(),
            written: Vec::new(),
            left,
            broken: None,
        };
        for at in 0..NODES {
            for whom in (0..NODES).filter(|&whom| whom != at) {
                steps.put(&mut world, at, Input::Alive { whom }, 0);
            }
            if bounds.joined[at] {
                steps.put(&mut world, at, Input::Join, 0);
            }
        }
        steps.calm(&mut world);
        if bounds.known_entry {
            steps.write(&mut world, 0, Input::Put { key: 0 });
            steps.calm(&mut world);
        }
        world.left.streams = bounds.streams;
        world
    }

    /// Whether quiet rounds bring agreement.
    fn settles(&self, world: &World) -> bool {
        let mut replicas = self.replicas.lock();
        let digests = world.replicas.map(|state| replicas.view(state).digest);
        // The result depends on what the replicas hold and have received.
        let mut hash = DefaultHasher::new();
        (&world.written, world.left.reaped).hash(&mut hash);
        let [a, b, c] = digests;
        let key = a ^ b.rotate_left(42) ^ c.rotate_left(85) ^ u128::from(hash.finish());
        if !self.settled.lock().insert(key) {
            return true;
        }
        *self.settlings.lock() += 1;
        let live = world.replicas.map(|state| replicas.copy(state));
        match quiet::unsettled(live, &world.written, world.left.reaped) {
            None => true,
            Some(wrong) => {
                self.settled.lock().remove(&key);
                self.unsettled.lock().get_or_insert(wrong);
                false
            }
        }
    }

    /// A step as text.
    pub(super) fn describe_step(&self, world: &World, action: &Action) -> String {
        let replicas = self.replicas.lock();
        let received = |text: Text| describe(replicas.text(text));
        match *action {
            Action::Input { at, input: Input::Datagram { from, text }, .. } => {
                format!("n{at} receives from n{from}: {}", received(text))
            }
            Action::Input { at, input, .. } => format!("n{at}: {input:?}"),
            Action::Send { stream, end } => {
                let stream = &world.streams[stream];
                format!("n{} speaks to n{} on their stream", stream.nodes[end], stream.nodes[1 - end])
            }
            Action::Receive { stream, end, .. } => {
                let stream = &world.streams[stream];
                let text = stream.on_the_way[end].map(received).unwrap_or_default();
                format!(
                    "n{} receives from n{} on their stream: {text}",
                    stream.nodes[1 - end],
                    stream.nodes[end]
                )
            }
            Action::Cut { stream, end, .. } => {
                let stream = &world.streams[stream];
                format!("the stream of n{} with n{} breaks", stream.nodes[end], stream.nodes[1 - end])
            }
            Action::Probe { from, to } => format!("n{from} probes n{to}"),
        }
    }

    pub(super) fn content(&self, state: State) -> Content {
        self.replicas.lock().view(state).content.clone()
    }
}

fn describe(bytes: &[u8]) -> String {
    match (codec::decode::<Datagram<'_>>(bytes), codec::decode::<Frame<'_>>(bytes)) {
        (Ok(Datagram::Gossip(bundle)), _) => format!("{bundle:?}"),
        (Ok(datagram), _) => format!("{datagram:?}"),
        (_, Ok(frame)) => format!("{frame:?}"),
        _ => format!("{bytes:?}"),
    }
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.settled_world()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // After a broken promise, the rest of the history does not matter.
        if world.broken.is_none() {
            Steps { replicas: &mut self.replicas.lock(), bounds: &self.bounds }.actions(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Steps { replicas: &mut self.replicas.lock(), bounds: &self.bounds }.next(world, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! kept {
            ($($promise:ident $name:literal,)*) => {
                vec![
                    $(Property::always($name, |_, world: &World| world.broken != Some(Promise::$promise)),)*
                    Property::always("quiet brings agreement", |small: &Self, world: &World| {
                        world.broken.is_some() || small.settles(world)
                    }),
                ]
            };
        }
        kept! {
            NoFalseDeath "no false death",
            NothingComesBack "nothing superseded comes back",
            VersionVectorsGrow "version vectors grow",
            ReplacedIsDead "a replaced entry is superseded once its replacement is known",
            OnlyWhatIsListed "only attachments on a list, or later than it, are held",
            OnlyForward "residuals shrink and lists get newer",
            OneWinner "the same writes make the same tables",
            NoLostWrite "no write is lost to its writer",
            WatchIsTable "a watch, followed, is the table",
            VisibleIsLive "readers see what is live and of the living",
            NothingInOurName "no node makes claims in another's name",
            Sense "messages are valid",
        }
    }
}
