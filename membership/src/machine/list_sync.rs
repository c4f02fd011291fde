//! Synchronization of member lists: when lists are compared, how they are split into frames, and
//! which of their entries are accepted.

use std::time::{Duration, Instant};

use wire::{Destination, NodeId, NodeName};

use crate::event::Event;
use crate::member::{MAX_INCARNATION, Member, NodeRecord, Standing, State};
use crate::message::{Claim, Frame, Message, Occasion, claim_size};
use crate::roster::Entry;
use crate::timers::Timer;

use super::Membership;
use super::claims::Origin;

/// Position in the transfer of a list. Members are read when a frame is created: later changes are
/// sent as they are then, or as gossiped updates.
#[derive(Debug, Clone)]
pub(super) enum Cursor {
    Start,
    After(NodeName),
    /// Only the end frame is missing.
    End,
}

impl Membership {
    /// Compares lists with a random member.
    pub(super) fn sync_next(&mut self, now: Instant) {
        self.timers.set(Timer::Sync, now + self.config.sync_interval);
        self.compared.clear();
        for name in self.roster.active().sample(1, &[], &mut self.rng) {
            self.sync_with(&name, Occasion::Sync, None, now);
        }
    }

    /// Tries to reconnect to a random failed member. Failed members are not probed: without this a
    /// healed partition would remain split.
    pub(super) fn reconnect_next(&mut self, now: Instant) {
        self.timers.set(Timer::Reconnect, now + self.config.reconnect_interval);
        for name in self.roster.failed().sample(1, &[], &mut self.rng) {
            self.sync_with(&name, Occasion::Reconnect, None, now);
        }
    }

    pub(super) fn sync_with(
        &mut self,
        name: &NodeName,
        occasion: Occasion,
        compared: Option<(u64, u64)>,
        now: Instant,
    ) {
        if self.leaving.is_some() || self.is_comparing_with(name) {
            return;
        }
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        let to = Destination { name: Some(name.clone()), address: entry.member.record.address };
        self.send_hello(to, occasion, None, compared, now);
    }

    /// Handles the digest of a probed member. If it differs and nothing changed here for a while,
    /// an update was lost and the lists are compared: once for each pair of digests, because a
    /// comparison cannot resolve every difference.
    pub(super) fn compare_digest(&mut self, peer: &NodeName, theirs: u64, now: Instant) {
        let ours = self.digest();
        let settled = now >= self.changed_at + self.config.repair_interval;
        let soon = self.repaired_at.is_some_and(|at| now < at + self.config.repair_interval);
        if ours == theirs || !settled || soon || self.compared.contains(&(ours, theirs)) {
            return;
        }
        tracing::debug!(node = %self.me.record.id, %peer, "member lists differ");
        self.statistics.repairs += 1;
        self.repaired_at = Some(now);
        self.compared.insert((ours, theirs));
        self.sync_with(peer, Occasion::Sync, Some((ours, theirs)), now);
    }

    /// The next frame of this node's list and the position after it. The end frame follows the last
    /// member.
    pub(super) fn list_frame(&self, cursor: Cursor, now: Instant) -> (Frame, Option<Cursor>) {
        let budget = self.config.frame_budget;
        let mut entries = Vec::new();
        let mut size = 16;
        let after = match cursor {
            Cursor::End => return (Frame::End, None),
            Cursor::Start => {
                entries.push(list_entry(&self.me, 0));
                size += claim_size(&self.me.record);
                None
            }
            Cursor::After(name) => Some(name),
        };
        let mut next = Cursor::End;
        let mut last = None;
        for entry in self.roster.after(after.as_ref()) {
            size += claim_size(&entry.member.record);
            if let Some(last) = last
                && size > budget
            {
                next = Cursor::After(NodeName::clone(last));
                break;
            }
            last = Some(entry.member.name());
            entries.push(list_entry(&entry.member, self.departed_for(entry, now)));
        }
        if entries.is_empty() {
            return (Frame::End, None);
        }
        (Frame::Members(entries), Some(next))
    }

    /// Seconds since a departed member failed or left.
    fn departed_for(&self, entry: &Entry, now: Instant) -> u32 {
        let Some(forget_at) = entry.forget_at else { return 0 };
        let left = forget_at.saturating_duration_since(now);
        let gone = self.config.departed_retention.saturating_sub(left).as_secs();
        u32::try_from(gone).unwrap_or(u32::MAX)
    }

    /// Merges one entry of a peer's list.
    pub(super) fn merge(&mut self, claim: Claim, origin: Origin<'_>, now: Instant) {
        let Claim { record, incarnation, state, departed_for } = claim;
        let id = record.id.clone();
        let mut replies = Vec::new();
        match state {
            State::Alive => self.consider_alive(record, incarnation, origin, now).answer(&mut replies),
            _ if id.name == *self.me.name() => {
                self.consider_own_state(&id, incarnation, state, now, &mut replies);
            }
            State::Suspect => {
                // First the record, which may be new; then the suspicion.
                self.consider_alive(record, incarnation, origin, now);
                self.consider_suspect(&id, incarnation, origin.from, origin, now, &mut replies);
            }
            State::Failed if self.is_unknown_or_earlier_departed(&id) => {
                self.learn_failed(record, incarnation, departed_for, now, &mut replies);
            }
            State::Failed if self.knows_earlier_instance(&id) => {
                // The earlier instance ended when this one started; whether this one failed depends
                // on its refutation.
                self.consider_alive(record, incarnation, origin, now);
                self.consider_failed(&id, incarnation, origin.from, origin, now, &mut replies);
            }
            State::Failed => {
                self.consider_failed(&id, incarnation, origin.from, origin, now, &mut replies);
                self.shorten_retention(&id, departed_for, now);
            }
            State::Left
                if self.is_unknown_or_earlier_departed(&id)
                    && self.roster.get(id.name.as_str()).is_some() =>
            {
                self.learn_left(record, incarnation, departed_for, now);
            }
            State::Left => {
                if self.knows_earlier_instance(&id) {
                    // As above: otherwise the earlier instance would remain a member although a
                    // later one has left.
                    self.consider_alive(record, incarnation, origin, now);
                }
                self.consider_left(&id, incarnation, origin, now, &mut replies);
            }
        }
        // Answers to entries are sent to the peer as a datagram: the stream has its own sequence of
        // frames.
        if !replies.is_empty() && replies.iter().any(|reply| !matches!(reply, Message::Alive { .. })) {
            self.send_replies(origin.from, origin.source, replies);
        }
    }

    fn knows_earlier_instance(&self, id: &NodeId) -> bool {
        self.roster.get(id.name.as_str()).is_some_and(|entry| {
            entry.member.state.is_active() && entry.member.record.id.generation < id.generation
        })
    }

    /// Whether the name is unknown or known by an earlier instance that also departed. Both sides
    /// of a partition may have seen different instances fail: the later one counts, or they would
    /// compare lists forever.
    fn is_unknown_or_earlier_departed(&self, id: &NodeId) -> bool {
        self.roster.get(id.name.as_str()).is_none_or(|entry| {
            !entry.member.state.is_active() && entry.member.record.id.generation < id.generation
        })
    }

    /// Keeps a failed member that was never known here, so that reconnects reach it too, but not
    /// longer than the nodes that knew it: otherwise each new node would extend its retention.
    fn learn_failed(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        departed_for: u32,
        now: Instant,
        replies: &mut Vec<Message>,
    ) {
        let claimed = Standing::new(record.id.generation, incarnation, State::Failed);
        if !self.is_valid_record(&record, incarnation, now) || self.leaving.is_some() {
            return;
        }
        if let Some(known) = self.forgotten.forgotten_here(record.id.name.as_str())
            && known >= claimed
        {
            // Its retention expired here. A member that one node keeps and another has removed
            // would be a permanent difference.
            let id = NodeId::new(record.id.name, known.generation);
            replies.push(Message::Forgotten { id, incarnation: known.incarnation });
            return;
        }
        let left = self.config.departed_retention.saturating_sub(Duration::from_secs(departed_for.into()));
        let known = self.roster.get(record.id.name.as_str()).is_some();
        // Failed members must not displace live ones.
        if left.is_zero() || (!known && self.roster.len() + 1 >= self.config.max_members) {
            return;
        }
        // The caller keeps its entries from now on, as the nodes that knew it do.
        self.events.push_back(Event::LearnedFailed(record.clone()));
        self.keep_departed(record, incarnation, State::Failed, now + left, now);
    }

    /// Handles an unknown later instance of a failed member that has left. No node keeps entries of
    /// the earlier instance any more.
    fn learn_left(&mut self, record: NodeRecord, incarnation: u64, departed_for: u32, now: Instant) {
        let left = self.config.departed_retention.saturating_sub(Duration::from_secs(departed_for.into()));
        if !self.is_valid_record(&record, incarnation, now) || self.leaving.is_some() || left.is_zero() {
            return;
        }
        let earlier = self.roster.get(record.id.name.as_str());
        if let Some(earlier) = earlier.filter(|entry| entry.member.state == State::Failed && entry.announced)
        {
            self.events.push_back(Event::Forgotten(earlier.member.record.id.clone()));
        }
        self.keep_departed(record, incarnation, State::Left, now + left, now);
    }

    /// Adds a departed member learned from a list and replaces an earlier instance.
    fn keep_departed(
        &mut self,
        record: NodeRecord,
        incarnation: u64,
        state: State,
        forget_at: Instant,
        now: Instant,
    ) {
        let name = record.id.name.clone();
        let mut entry = Entry::new(Member { record, incarnation, state, since: now, last_seen: None });
        entry.announced = true;
        entry.forget_at = Some(forget_at);
        self.roster.insert(entry);
        self.forgotten.remove(name.as_str());
        self.broadcasts.remove(name.as_str());
        self.changed_at = now;
        self.schedule_reap();
    }

    fn is_valid_record(&mut self, record: &NodeRecord, incarnation: u64, now: Instant) -> bool {
        let valid = record.check().is_ok()
            && incarnation <= MAX_INCARNATION
            && self.is_plausible_generation(record.id.generation, now);
        self.statistics.ignored_invalid += u64::from(!valid);
        valid
    }

    /// Shortens the retention of a failed member to that of the nodes that saw it fail first.
    fn shorten_retention(&mut self, id: &NodeId, departed_for: u32, now: Instant) {
        let left = self.config.departed_retention.saturating_sub(Duration::from_secs(departed_for.into()));
        let known = self.roster.get(id.name.as_str());
        if known.is_some_and(|entry| {
            entry.member.record.id == *id
                && entry.member.state == State::Failed
                // Lists carry whole seconds only.
                && entry.forget_at.is_some_and(|at| now + left + Duration::from_secs(1) < at)
        }) {
            self.roster.change(id.name.as_str(), |entry| entry.forget_at = Some(now + left));
            self.schedule_reap();
        }
    }

    /// Removes a failed member whose retention expired at a peer.
    pub(super) fn forgotten_elsewhere(&mut self, id: &NodeId, incarnation: u64, now: Instant) {
        let known = self.roster.get(id.name.as_str());
        if known.is_some_and(|entry| {
            let known = (entry.member.record.id.generation, entry.member.incarnation);
            entry.member.state == State::Failed && known <= (id.generation, incarnation)
        }) {
            self.forget(&id.name, now);
        }
    }
}

fn list_entry(member: &Member, departed_for: u32) -> Claim {
    Claim {
        record: member.record.clone(),
        incarnation: member.incarnation,
        state: member.state,
        departed_for,
    }
}
