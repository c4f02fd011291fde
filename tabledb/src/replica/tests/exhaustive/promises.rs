//! The promises of ALGORITHM.md, as far as they can be seen in one step of one replica, or in one state of
//! the world.

use std::time::Duration;

use wire::codec;

use super::NODES;
use super::content::{Content, Dot};
use super::steps::Input;
use crate::replica::message::{Bundle, Datagram, EventBody};

/// The promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Promise {
    /// A number that a replica considers superseded is superseded by a greater version, or is a delete whose
    /// time was up.
    NoFalseDeath,
    /// An entry that a replica held and saw superseded is not held again while it holds the attachment.
    NothingComesBack,
    /// A number that has been seen of an attachment stays seen while the attachment is held.
    VersionVectorsGrow,
    /// A gossiped write supersedes what it replaced, in the same step.
    ReplacedIsDead,
    /// An attachment that is held is on its owner's list, or later than the list.
    OnlyWhatIsListed,
    /// A residual only shrinks, and lists only get newer.
    OnlyForward,
    /// Replicas that have received the same writes hold the same. Not required of those that received them by
    /// comparing: a node that receives a superseded number need not know yet what superseded it. Nor after a
    /// reap or a leave.
    OneWinner,
    /// Its owner holds what no write has superseded.
    NoLostWrite,
    /// The changes that watchers received, applied in order, give what readers see; every change fits the
    /// previous state.
    WatchIsTable,
    /// Readers see what is live, except of owners that have failed.
    VisibleIsLive,
    /// No node learns of writes in its own name that it never made.
    NothingInOurName,
    /// The messages of a correct replica are valid for the others.
    Sense,
}

/// What one input must not do to one replica.
pub(super) fn step(before: &Content, after: &Content, input: &Input, text: Option<&[u8]>) -> Option<Promise> {
    if after.lists.iter().zip(&before.lists).any(|(after, before)| after.0 < before.0) {
        return Some(Promise::OnlyForward);
    }
    for owner in 0..NODES {
        let Some(held) = &after.held[owner] else { continue };
        let (version, listed) = after.lists[owner];
        if listed != Some(held.epoch) && held.epoch <= version {
            return Some(Promise::OnlyWhatIsListed);
        }
        if held.live.iter().any(|&number| !held.has_seen(number)) {
            return Some(Promise::VisibleIsLive);
        }
        if held.shown && !after.alive[owner] {
            return Some(Promise::VisibleIsLive);
        }
        let Some(former) = before.held[owner].as_ref().filter(|former| former.epoch == held.epoch) else {
            continue;
        };
        if former.numbers().any(|number| !held.has_seen(number)) {
            return Some(Promise::VersionVectorsGrow);
        }
        let back = |&number: &u64| former.has_seen(number) && !former.live.contains(&number);
        if held.live.iter().any(back) {
            return Some(Promise::NothingComesBack);
        }
    }
    for (key, record) in &after.records {
        let Dot { owner, epoch, number } = record.dot;
        let held = after.held[owner].as_ref().filter(|held| held.epoch == epoch);
        let live = held.is_some_and(|held| held.live.contains(&number));
        let shown = held.is_some_and(|held| held.shown);
        if live != record.residual.is_none() || record.visible != (live && shown) {
            return Some(Promise::VisibleIsLive);
        }
        if let Some(former) = before.records.get(key)
            && former.dot == record.dot
            && former.residual < record.residual
        {
            return Some(Promise::OnlyForward);
        }
    }
    if let (Input::Datagram { .. }, Some(text)) = (input, text)
        && let Ok(Datagram::Gossip(bundle)) = codec::decode::<Datagram<'_>>(text)
    {
        return gossiped(before, after, &bundle);
    }
    None
}

/// What a gossiped update must have superseded.
fn gossiped(before: &Content, after: &Content, bundle: &Bundle<'_>) -> Option<Promise> {
    let dot = |attachment: u32, number: u64| {
        let id = &bundle.attachments[attachment as usize];
        let owner = (0..NODES).find(|&at| super::super::name(at).as_str() == id.owner);
        Dot { owner: owner.expect("one of us"), epoch: id.epoch, number }
    };
    let has_seen = |content: &Content, dot: Dot| {
        let held = content.held[dot.owner].as_ref().filter(|held| held.epoch == dot.epoch);
        held.map(|held| held.has_seen(dot.number))
    };
    for event in &bundle.events {
        let event_dot = dot(event.attachment, event.number);
        if has_seen(before, event_dot) == Some(true) || has_seen(after, event_dot) != Some(true) {
            continue;
        }
        // Of an attachment that is not held, nothing has to be known.
        if event.replaced.iter().any(|&(a, n)| has_seen(after, dot(a, n)) == Some(false)) {
            return Some(Promise::ReplacedIsDead);
        }
        if let EventBody::Deleted { residual_ms } = event.body
            && let Some(record) = after.records.values().find(|record| record.dot == event_dot)
            && record.residual > Some(Duration::from_millis(residual_ms))
        {
            return Some(Promise::OnlyForward);
        }
    }
    None
}

/// A write that was made somewhere in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Written {
    pub(super) dot: Dot,
    pub(super) key: u8,
    pub(super) time: u64,
    pub(super) is_delete: bool,
}

impl Written {
    /// The order of versions, the same on every node.
    pub(super) fn version(&self) -> (u64, usize, u64, u64) {
        (self.time, self.dot.owner, self.dot.epoch, self.dot.number)
    }
}

/// What no replica may hold, given all writes ever made.
pub(super) fn look(content: &Content, written: &[Written], reaped: bool) -> Option<Promise> {
    if !content.joined {
        return None;
    }
    let superseded = |write: &Written| {
        written.iter().any(|other| other.key == write.key && other.version() > write.version())
    };
    for (owner, held) in content.held.iter().enumerate() {
        let Some(held) = held else { continue };
        for number in held.numbers() {
            let dot = Dot { owner, epoch: held.epoch, number };
            // A number that no node wrote counts as superseded.
            let Some(write) = written.iter().find(|write| write.dot == dot) else {
                return Some(Promise::NoFalseDeath);
            };
            let record = content.records.get(&write.key).filter(|record| record.dot == dot);
            let is_held = match record {
                Some(record) => record.time == write.time && record.residual.is_some() == write.is_delete,
                None => false,
            };
            let may_be_dead = superseded(write) || (write.is_delete && reaped);
            if !is_held && !may_be_dead {
                return Some(Promise::NoFalseDeath);
            }
        }
        if owner == content.me {
            let own = |write: &&Written| (write.dot.owner, write.dot.epoch) == (owner, held.epoch);
            if written.iter().filter(own).any(|write| !held.has_seen(write.dot.number)) {
                return Some(Promise::NoLostWrite);
            }
        }
    }
    None
}

/// Whether two replicas that have seen the same writes hold different ones.
pub(super) fn disagree(one: &Content, other: &Content) -> bool {
    if !(one.joined && other.joined) {
        return false;
    }
    let mut live_differs = false;
    for (one, other) in one.held.iter().zip(&other.held) {
        match (one, other) {
            (None, None) => {}
            (Some(one), Some(other)) if (one.epoch, &one.seen) == (other.epoch, &other.seen) => {
                live_differs |= one.live != other.live;
            }
            _ => return false,
        }
    }
    live_differs
}
