//! The steps that a world can take, and their effects.

use std::sync::Arc;
use std::time::Duration;

use super::content::View;
use super::promises::{self, Promise, Written};
use super::steps::{Input, Polled, Reaction, Replicas};
use super::world::{Action, End, Stream, World};
use super::{Bounds, NODES};

/// A deadline this near is reached before anything else happens.
const AT_ONCE: Duration = Duration::from_millis(2);

/// Deadlines further away than this belong to the safety nets, which the model triggers at any time by
/// itself.
const FAR: Duration = Duration::from_secs(10);

/// The world and its replicas during a step.
pub(super) struct Steps<'a> {
    pub(super) replicas: &'a mut Replicas,
    pub(super) bounds: &'a Bounds,
}

impl Steps<'_> {
    fn view(&self, world: &World, at: usize) -> Arc<View> {
        self.replicas.view(world.replicas[at]).clone()
    }

    fn outcomes(&mut self, world: &World, at: usize, input: Input) -> usize {
        self.replicas.reactions(world.replicas[at], input).len()
    }

    /// Gives an input to one replica, and puts its output into the world.
    pub(super) fn put(&mut self, world: &mut World, at: usize, input: Input, draw: usize) -> Arc<Reaction> {
        let reaction = self.replicas.reactions(world.replicas[at], input).swap_remove(draw);
        let changed = world.replicas[at] != reaction.next;
        if matches!(input, Input::Timer | Input::ReapTime) {
            let (before, after) = (self.view(world, at), self.replicas.view(reaction.next));
            let mut tombstones =
                before.content.records.iter().filter(|(_, record)| record.residual.is_some());
            world.left.reaped |= tombstones.any(|(key, _)| !after.content.records.contains_key(key));
        }
        world.replicas[at] = reaction.next;
        for &(to, text) in &reaction.sent {
            let datagram = (at, to, text);
            if let Err(position) = world.datagrams.binary_search(&datagram) {
                world.datagrams.insert(position, datagram);
            }
        }
        world.broken = world.broken.or(reaction.broken);
        for &(stream, to) in reaction.opened.iter().rev() {
            if world.left.streams == 0 {
                // That replica is no longer reachable.
                self.put(world, at, Input::Unreachable { stream }, 0);
                continue;
            }
            world.left.streams -= 1;
            let ends = [End::Open(stream), End::Unopened];
            world.streams.push(Stream { nodes: [at, to], ends, on_the_way: [None, None] });
        }
        if changed && world.broken.is_none() {
            self.look(world, at);
        }
        reaction
    }

    fn look(&self, world: &mut World, at: usize) {
        let view = self.view(world, at);
        world.broken = promises::look(&view.content, &world.written, world.left.reaped);
        let only_news = world.left.streams == self.bounds.streams;
        if only_news && !world.left.parted && !world.left.reaped && world.broken.is_none() {
            let differs = |other: usize| promises::disagree(&view.content, &self.view(world, other).content);
            if (0..NODES).any(|other| other != at && differs(other)) {
                world.broken = Some(Promise::OneWinner);
            }
        }
    }

    pub(super) fn write(&mut self, world: &mut World, at: usize, input: Input) {
        let (key, is_delete) = match input {
            Input::Put { key } => (key, false),
            Input::Delete { key } => (key, true),
            _ => return,
        };
        let next = self.replicas.reactions(world.replicas[at], input)[0].next;
        // The write is recorded first: no replica may hold anything else.
        if let Some(record) = self.replicas.view(next).content.records.get(&key)
            && record.dot.owner == at
        {
            let write = Written { dot: record.dot, key, time: record.time, is_delete };
            if world.written.iter().any(|other| (other.key, other.time) == (write.key, write.time)) {
                *self.replicas.met.entry("ties").or_default() += 1;
            }
            if let Err(position) = world.written.binary_search(&write) {
                world.written.insert(position, write);
            }
        }
        self.put(world, at, input, 0);
    }

    /// Whether this end has a frame to send now, other than the end of the stream.
    fn next_poll(&mut self, world: &World, stream: &Stream, end: usize) -> Option<Polled> {
        let End::Open(id) = stream.ends[end] else { return None };
        let state = world.replicas[stream.nodes[end]];
        self.replicas.reactions(state, Input::Poll { stream: id })[0].polled
    }

    fn send(&mut self, world: &mut World, at: usize, end: usize) {
        let End::Open(id) = world.streams[at].ends[end] else { return };
        let reaction = self.put(world, world.streams[at].nodes[end], Input::Poll { stream: id }, 0);
        if let Some(Polled::Frame(text)) = reaction.polled {
            world.streams[at].on_the_way[end] = Some(text);
        }
        self.finish(world, at, end);
    }

    fn receive(&mut self, world: &mut World, at: usize, end: usize, draw: usize) {
        let Some(text) = world.streams[at].on_the_way[end].take() else { return };
        let (other, from) = (1 - end, world.streams[at].nodes[end]);
        let node = world.streams[at].nodes[other];
        if world.streams[at].ends[other] == End::Unopened {
            let reaction = self.put(world, node, Input::StreamOpened { from }, 0);
            world.streams[at].ends[other] = reaction.stream.map_or(End::Over, End::Open);
        }
        let End::Open(stream) = world.streams[at].ends[other] else { return };
        if self.put(world, node, Input::Frame { stream, text }, draw).gave_up {
            world.streams[at].ends[other] = End::Over;
            world.streams[at].on_the_way[end] = None;
        } else {
            self.finish(world, at, other);
            self.finish(world, at, end);
        }
    }

    fn cut(&mut self, world: &mut World, at: usize, end: usize, draw: usize) {
        let End::Open(stream) = world.streams[at].ends[end] else { return };
        let other_is_over = world.streams[at].ends[1 - end] == End::Over;
        if !other_is_over {
            world.left.cuts -= 1;
        }
        world.streams[at].ends[end] = End::Over;
        world.streams[at].on_the_way[1 - end] = None;
        self.put(world, world.streams[at].nodes[end], Input::StreamClosed { stream }, draw);
    }

    /// An end without more frames finishes at once: its network already knows the result of the session.
    fn finish(&mut self, world: &mut World, at: usize, end: usize) {
        let stream = world.streams[at].clone();
        if self.next_poll(world, &stream, end) == Some(Polled::Finish) {
            let End::Open(id) = stream.ends[end] else { return };
            self.put(world, stream.nodes[end], Input::Poll { stream: id }, 0);
            world.streams[at].ends[end] = End::Over;
            world.streams[at].on_the_way[1 - end] = None;
        }
    }

    /// Forgets streams from which nothing can come any more.
    fn tidy(&self, world: &mut World) {
        world.streams.retain(|stream| match stream.ends {
            [End::Over, End::Over] => false,
            [End::Over, End::Unopened] => stream.on_the_way[0].is_some(),
            _ => true,
        });
        world.streams.sort_by_key(|stream| {
            (
                stream.nodes,
                stream.ends.map(|end| match end {
                    End::Unopened => u64::MAX,
                    End::Open(id) => id,
                    End::Over => u64::MAX - 1,
                }),
            )
        });
    }

    /// Lets everything happen in order, without loss, until nothing moves, and all watermarks have been sent.
    pub(super) fn calm(&mut self, world: &mut World) {
        loop {
            loop {
                let before = world.clone();
                for (from, to, text) in std::mem::take(&mut world.datagrams) {
                    self.put(world, to, Input::Datagram { from, text }, 0);
                }
                for at in 0..world.streams.len() {
                    for end in [0, 1] {
                        if let Some(Polled::Frame(_)) = self.next_poll(world, &world.streams[at].clone(), end)
                        {
                            self.send(world, at, end);
                            self.receive(world, at, end, 0);
                        }
                    }
                }
                self.tidy(world);
                for at in 0..NODES {
                    if self.view(world, at).wait.is_some_and(|wait| wait <= AT_ONCE) {
                        self.put(world, at, Input::Timer, 0);
                    }
                }
                if *world == before {
                    break;
                }
            }
            if (0..NODES).all(|at| self.view(world, at).wait.is_none_or(|wait| wait > FAR)) {
                return;
            }
            for at in 0..NODES {
                self.put(world, at, Input::WholeSecond, 0);
            }
        }
    }

    pub(super) fn actions(&mut self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        for at in 0..NODES {
            let view = self.view(world, at);
            let content = &view.content;
            let mut inputs = Vec::new();
            for &(from, to, text) in &world.datagrams {
                if to == at {
                    inputs.push(Input::Datagram { from, text });
                }
            }
            match view.wait {
                Some(wait) if wait <= AT_ONCE || (wait <= FAR && left.timers > 0) => {
                    inputs.push(Input::Timer)
                }
                _ => {}
            }
            if content.joined && !content.leaving {
                if left.writes[at] > 0 {
                    for key in 0..self.bounds.keys {
                        inputs.push(Input::Put { key });
                        if content.records.get(&key).is_some_and(|record| record.visible) {
                            inputs.push(Input::Delete { key });
                        }
                    }
                }
                if left.leaves > 0 && self.bounds.leavers[at] {
                    inputs.push(Input::Leave);
                }
                if left.streams > 0 {
                    for with in (0..NODES).filter(|&with| with != at) {
                        inputs.push(Input::Compare { with });
                    }
                }
            }
            if !content.joined && left.joins > 0 {
                inputs.push(Input::Join);
            }
            if left.reaps > 0 && content.records.values().any(|record| record.residual.is_some()) {
                inputs.push(Input::ReapTime);
            }
            for whom in (0..NODES).filter(|&whom| whom != at) {
                if content.alive[whom] && left.failures > 0 {
                    inputs.push(Input::Failed { whom });
                }
                if !content.alive[whom] && left.returns > 0 {
                    inputs.push(Input::Alive { whom });
                }
                // A probe of a node whose list is known has no effect.
                let version = |of: usize| self.view(world, of).content.lists[whom].0;
                if version(at) < version(whom) && left.streams > 0 {
                    actions.push(Action::Probe { from: whom, to: at });
                }
            }
            for input in inputs {
                let draws = self.outcomes(world, at, input);
                actions.extend((0..draws).map(|draw| Action::Input { at, input, draw }));
            }
        }
        for (at, stream) in world.streams.iter().enumerate() {
            for end in [0, 1] {
                if stream.on_the_way[end].is_none()
                    && stream.ends[1 - end] != End::Over
                    && let Some(Polled::Frame(_)) = self.next_poll(world, stream, end)
                {
                    actions.push(Action::Send { stream: at, end });
                }
                if let Some(text) = stream.on_the_way[end] {
                    let draws = match stream.ends[1 - end] {
                        End::Open(stream_id) => {
                            let input = Input::Frame { stream: stream_id, text };
                            self.outcomes(world, stream.nodes[1 - end], input)
                        }
                        _ => 1,
                    };
                    actions.extend((0..draws).map(|draw| Action::Receive { stream: at, end, draw }));
                }
                let is_news = stream.ends[1 - end] == End::Over;
                if let End::Open(id) = stream.ends[end]
                    && (is_news || left.cuts > 0)
                {
                    let input = Input::StreamClosed { stream: id };
                    let draws = self.outcomes(world, stream.nodes[end], input);
                    actions.extend((0..draws).map(|draw| Action::Cut { stream: at, end, draw }));
                }
            }
        }
    }

    pub(super) fn next(&mut self, former: &World, action: Action) -> Option<World> {
        let mut world = former.clone();
        match action {
            Action::Input { at, input, draw } => self.input(&mut world, at, input, draw),
            Action::Send { stream, end } => self.send(&mut world, stream, end),
            Action::Receive { stream, end, draw } => self.receive(&mut world, stream, end, draw),
            Action::Cut { stream, end, draw } => self.cut(&mut world, stream, end, draw),
            Action::Probe { from, to } => {
                if let Some(text) = self.put(&mut world, from, Input::Probe { to }, 0).digest {
                    self.put(&mut world, to, Input::Digest { from, text }, 0);
                }
            }
        }
        self.tidy(&mut world);
        let nothing_happened = (&world.replicas, &world.datagrams, &world.streams)
            == (&former.replicas, &former.datagrams, &former.streams);
        (!nothing_happened).then_some(world)
    }

    fn input(&mut self, world: &mut World, at: usize, input: Input, draw: usize) {
        match input {
            Input::Put { .. } | Input::Delete { .. } => {
                world.left.writes[at] -= 1;
                return self.write(world, at, input);
            }
            Input::Timer if self.view(world, at).wait.is_some_and(|wait| wait > AT_ONCE) => {
                world.left.timers -= 1;
            }
            Input::ReapTime => {
                world.left.reaps -= 1;
                world.left.reaped = true;
            }
            Input::Leave => {
                world.left.leaves -= 1;
                world.left.parted = true;
            }
            Input::Join => world.left.joins -= 1,
            Input::Failed { .. } => world.left.failures -= 1,
            Input::Alive { .. } => world.left.returns -= 1,
            _ => {}
        }
        self.put(world, at, input, draw);
    }
}
