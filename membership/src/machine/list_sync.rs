//! Member lists: when they are compared, how they are cut into frames, and what is believed of their lines.

use std::time::{Duration, Instant};

use wire::{Destination, NodeId, NodeName};

use crate::event::Event;
use crate::member::{MAX_INCARNATION, Member, NodeRecord, Standing, State};
use crate::message::{Claim, Frame, Message, Occasion, claim_size};
use crate::roster::Entry;
use crate::timers::Timer;

use super::Membership;
use super::claims::Origin;

/// How far a list has been sent. The members are read when a frame is made: what changes meanwhile is sent as it is
/// then, or goes as news.
#[derive(Debug, Clone)]
pub(super) enum Cursor {
    Start,
    After(NodeName),
    /// Only the end is missing.
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

    /// Calls a random failed member. Nobody probes the dead: without this a healed partition would stay apart.
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
        if self.leaving.is_some() || self.is_calling(name) {
            return;
        }
        let Some(entry) = self.roster.get(name.as_str()) else { return };
        let to = Destination { name: Some(name.clone()), address: entry.member.record.address };
        self.call(to, occasion, None, compared, now);
    }

    /// A probed member holds other lives, or other incarnations of them. If nothing has changed here for a while, news
    /// was lost, and the lists are compared: once for each pair of fingerprints, for there are differences that a
    /// comparison cannot mend.
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

    /// The next frame of our list, and where to go on. After the last member comes the end.
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

    /// For how many seconds a departed member has been gone.
    fn departed_for(&self, entry: &Entry, now: Instant) -> u32 {
        let Some(forget_at) = entry.forget_at else { return 0 };
        let left = forget_at.saturating_duration_since(now);
        let gone = self.config.departed_retention.saturating_sub(left).as_secs();
        u32::try_from(gone).unwrap_or(u32::MAX)
    }

    /// Believes what there is to believe of one line of a peer's list.
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
                // The record first, for it may be new; then what is said against it.
                self.consider_alive(record, incarnation, origin, now);
                self.consider_suspect(&id, incarnation, origin.from, origin, now, &mut replies);
            }
            State::Failed if self.is_unknown_or_earlier_departed(&id) => {
                self.learn_failed(record, incarnation, departed_for, now, &mut replies);
            }
            State::Failed if self.knows_earlier_instance(&id) => {
                // The earlier life has ended when this one began; of this one we shall hear whether it objects.
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
                    // As above: else the earlier life would be waited for, though a later one has come and gone.
                    self.consider_alive(record, incarnation, origin, now);
                }
                self.consider_left(&id, incarnation, origin, now, &mut replies);
            }
        }
        // Answers to lines go where they were heard, as news: the stream has its own order of frames.
        if !replies.is_empty() && replies.iter().any(|reply| !matches!(reply, Message::Alive { .. })) {
            self.send_replies(origin.from, origin.source, replies);
        }
    }

    fn knows_earlier_instance(&self, id: &NodeId) -> bool {
        self.roster.get(id.name.as_str()).is_some_and(|entry| {
            entry.member.state.is_active() && entry.member.record.id.generation < id.generation
        })
    }

    /// Whether the name is not known, or is known as that of an earlier instance that is gone too. Sides of a partition may
    /// each have seen another instance fail: the later one counts, or they would compare themselves for ever.
    fn is_unknown_or_earlier_departed(&self, id: &NodeId) -> bool {
        self.roster.get(id.name.as_str()).is_none_or(|entry| {
            !entry.member.state.is_active() && entry.member.record.id.generation < id.generation
        })
    }

    /// A failed member that was never known here is kept too, so that it is called as well, but not longer than by
    /// those who have known it: else newcomers would hand down the dead for ever.
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
        if let Some(held) = self.forgotten.forgotten_here(record.id.name.as_str())
            && held >= claimed
        {
            // Its time is over. What one member forgets and another keeps would be a difference that nothing mends.
            let id = NodeId::new(record.id.name, held.generation);
            replies.push(Message::Forgotten { id, incarnation: held.incarnation });
            return;
        }
        let left = self.config.departed_retention.saturating_sub(Duration::from_secs(departed_for.into()));
        let known = self.roster.get(record.id.name.as_str()).is_some();
        // The dead must not crowd out the living.
        if left.is_zero() || (!known && self.roster.len() + 1 >= self.config.max_members) {
            return;
        }
        // Whoever keeps something of it is told, or would keep less than those who have known it.
        self.events.push_back(Event::LearnedFailed(record.clone()));
        self.keep_departed(record, incarnation, State::Failed, now + left, now);
    }

    /// A later instance of a member that is held failed has come and gone without being known here. Of the earlier one
    /// nobody keeps anything any more.
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

    /// Holds a departed member that a list has told of, in place of an earlier instance.
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
        self.statistics.invalid += u64::from(!valid);
        valid
    }

    /// A failed member is forgotten when those have to who saw it fail first.
    fn shorten_retention(&mut self, id: &NodeId, departed_for: u32, now: Instant) {
        let left = self.config.departed_retention.saturating_sub(Duration::from_secs(departed_for.into()));
        let held = self.roster.get(id.name.as_str());
        if held.is_some_and(|entry| {
            entry.member.record.id == *id
                && entry.member.state == State::Failed
                // Only whole seconds are told.
                && entry.forget_at.is_some_and(|at| now + left + Duration::from_secs(1) < at)
        }) {
            self.roster.change(id.name.as_str(), |entry| entry.forget_at = Some(now + left));
            self.schedule_reap();
        }
    }

    /// A member that is held failed was forgotten elsewhere, its time being over there.
    pub(super) fn forgotten_elsewhere(&mut self, id: &NodeId, incarnation: u64, now: Instant) {
        let held = self.roster.get(id.name.as_str());
        if held.is_some_and(|entry| {
            let held = (entry.member.record.id.generation, entry.member.incarnation);
            entry.member.state == State::Failed && held <= (id.generation, incarnation)
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
