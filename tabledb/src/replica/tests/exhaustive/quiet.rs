//! Quiet: everything on its way is lost, every stream is cut, and then nothing more goes wrong. Whatever
//! state the world has reached, comparing must bring agreement.

use std::collections::BTreeMap;

use wire::{FramePoll, StreamId};

use super::NODES;
use super::content::Dot;
use super::live::{Live, Output};
use super::promises::{Promise, Written};
use super::steps::Input;
use crate::replica::tests::name;

/// Rounds in which all compare with all. The first brings the lists and the writes to all, the second what
/// arrived in the first after a replica's turn.
const ROUNDS: usize = 2;

/// Three replicas with a lossless network between them.
struct Quiet {
    replicas: [Box<Live>; NODES],
    /// Each end of a stream, and the other end.
    streams: BTreeMap<(usize, u64), (usize, u64)>,
    broken: Option<Promise>,
}

/// What is still wrong after the quiet rounds.
pub(super) fn unsettled(replicas: [Box<Live>; NODES], written: &[Written], reaped: bool) -> Option<String> {
    let mut quiet = Quiet { replicas, streams: BTreeMap::new(), broken: None };
    for at in 0..NODES {
        let open: Vec<u64> = quiet.replicas[at].replica.streams.keys().map(|stream| stream.0).collect();
        for stream in open {
            quiet.put(at, Input::StreamClosed { stream });
        }
        let leaving = |quiet: &Quiet| quiet.replicas[at].is_leaving();
        // The final syncs time out after a few deadlines.
        for _ in 0..100 {
            if !leaving(&quiet) {
                break;
            }
            quiet.put(at, Input::Timer);
        }
        if leaving(&quiet) {
            return Some(format!("n{at} never gets away"));
        }
    }
    let pairs = || (0..NODES).flat_map(|a| (0..NODES).filter(move |&b| b != a).map(move |b| (a, b)));
    for (at, whom) in pairs() {
        quiet.put(at, Input::Alive { whom });
    }
    let mut wrong = None;
    for _ in 0..ROUNDS {
        for (from, to) in pairs() {
            quiet.probe(from, to);
        }
        for (at, with) in pairs() {
            quiet.put(at, Input::Compare { with });
        }
        wrong = quiet.wrong(written, reaped);
        if wrong.is_none() {
            break;
        }
    }
    wrong
}

impl Quiet {
    fn put(&mut self, at: usize, input: Input) -> Output {
        let output = self.replicas[at].take_unwatched(&input, 0, None);
        self.open_all(at, &output);
        self.move_frames();
        output
    }

    fn probe(&mut self, from: usize, to: usize) {
        let version = |at: usize| self.replicas[at].replica.node.owners.list_version_of(name(from).as_str());
        if version(to) == version(from) {
            // It would have no effect.
            return;
        }
        if let Some(digest) = self.put(from, Input::Probe { to }).digest {
            let live = &mut self.replicas[to];
            let _ = live.replica.handle_digest(&name(from), &digest, live.now);
            self.drain(to);
        }
        self.move_frames();
    }

    fn drain(&mut self, at: usize) {
        // A poll of no stream only collects the output.
        let output = self.replicas[at].take_unwatched(&Input::Poll { stream: u64::MAX }, 0, None);
        self.open_all(at, &output);
    }

    fn open_all(&mut self, at: usize, output: &Output) {
        self.broken = self.broken.or(output.broken);
        for &(stream, to) in &output.opened {
            let theirs = self.replicas[to].take_unwatched(&Input::StreamOpened { from: at }, 0, None);
            let theirs = (to, theirs.stream.expect("every stream gets a number"));
            self.streams.insert((at, stream), theirs);
            self.streams.insert(theirs, (at, stream));
        }
    }

    fn move_frames(&mut self) {
        loop {
            let ends: Vec<_> = self.streams.iter().map(|(&end, &other)| (end, other)).collect();
            let mut moved = false;
            for (end, other) in ends {
                if !self.streams.contains_key(&end) {
                    continue;
                }
                let live = &mut self.replicas[end.0];
                let polled = live.replica.poll_frame(StreamId(end.1), live.now);
                self.drain(end.0);
                match polled {
                    FramePoll::Wait => {}
                    FramePoll::Frame(frame) => {
                        moved = true;
                        let live = &mut self.replicas[other.0];
                        let taken = live.replica.handle_frame(StreamId(other.1), &frame, live.now);
                        self.drain(other.0);
                        if taken.is_err() {
                            self.close(end, other);
                        }
                    }
                    FramePoll::Finish => {
                        let live = &mut self.replicas[other.0];
                        if live.replica.poll_frame(StreamId(other.1), live.now) == FramePoll::Finish {
                            moved = true;
                            self.close(end, other);
                        }
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn close(&mut self, end: (usize, u64), other: (usize, u64)) {
        for end in [end, other] {
            self.streams.remove(&end);
            let live = &mut self.replicas[end.0];
            live.replica.handle_stream_closed(StreamId(end.1), live.now);
            self.drain(end.0);
        }
    }

    /// The first difference from the required state.
    fn wrong(&mut self, written: &[Written], reaped: bool) -> Option<String> {
        for live in &mut self.replicas {
            if !live.watches_see_the_table() {
                self.broken = Some(Promise::WatchIsTable);
            }
        }
        if let Some(broken) = self.broken {
            return Some(format!("{broken:?} is broken on the way"));
        }
        if !self.streams.is_empty() {
            return Some("an exchange does not come to its end".to_owned());
        }
        let views = [0, 1, 2].map(|at| self.replicas[at].view().content);
        let joined: Vec<_> = views.iter().filter(|view| view.joined).collect();
        let epoch_of = |owner: usize| views[owner].lists[owner].1;
        for view in &joined {
            for owner in 0..NODES {
                let held = view.held[owner].as_ref();
                if held.map(|held| held.epoch) != epoch_of(owner) {
                    let (me, epoch) = (view.me, epoch_of(owner));
                    return Some(format!("n{me} holds {held:?} of n{owner}, whose epoch is {epoch:?}"));
                }
                let Some(held) = held else { continue };
                if !held.shown {
                    return Some(format!("n{} does not show what n{owner} wrote", view.me));
                }
                let own = |write: &&Written| (write.dot.owner, write.dot.epoch) == (owner, held.epoch);
                if let Some(lost) = written.iter().filter(own).find(|write| !held.has_seen(write.dot.number))
                {
                    return Some(format!("n{} never learns of {lost:?}", view.me));
                }
                if joined[0].held[owner].as_ref().is_some_and(|first| first != held) {
                    return Some(format!("n{} and n{} differ in n{owner}", joined[0].me, view.me));
                }
            }
        }
        for key in written.iter().map(|write| write.key) {
            let of_key = written.iter().filter(|write| write.key == key);
            let Some(greatest) = of_key.max_by_key(|write| write.version()) else { continue };
            let Dot { owner, epoch, number } = greatest.dot;
            if epoch_of(owner) != Some(epoch) {
                // Its writer has left, which ended it.
                continue;
            }
            for view in &joined {
                let record = view.records.get(&key).filter(|record| record.visible);
                let right = match greatest.is_delete {
                    true => record.is_none() || reaped,
                    false => {
                        record.is_some_and(|record| record.dot.number == number && record.dot.owner == owner)
                    }
                };
                if !right {
                    return Some(format!("n{} shows {record:?}, not {greatest:?}", view.me));
                }
            }
        }
        None
    }
}
