//! The deadlines of everything that is under way, each of which has at most one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::{NodeName, StreamId};

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The next member of the ring is probed.
    Probe,
    /// The direct answer to this probe is late: ask others, and over a stream.
    ProbeFallback(u64),
    /// The verdict of this probe.
    ProbeDeadline(u64),
    /// Tell the node that asked us that its target has not answered us yet.
    RelayNack(u64),
    /// Forget a probe made for another node.
    RelayEnd(u64),
    /// The suspicion of this member ends.
    Suspicion(NodeName),
    /// If confirmations of the suspicion of this member are missing still, some more probe it.
    SecondOpinions(NodeName),
    /// Queued news is sent again.
    Gossip,
    /// Fresh news and notices may go out.
    Flush,
    /// The member list is compared with a random member's.
    Sync,
    /// A random failed member is called.
    Reconnect,
    /// The departed are looked at.
    Reap,
    /// It is checked that at least one seed is a member.
    Rejoin,
    /// A seed that is no member is called.
    SeedCheck,
    /// This seed is tried again.
    SeedRetry(SocketAddr),
    /// This stream has made no progress, or has lasted too long.
    Exchange(StreamId),
    /// The good-bye is repeated.
    LeaveRepeat,
    /// Leaving ends.
    LeaveEnd,
}

impl Timer {
    /// Whether somebody is accused, or something given up, when this timer fires: after a time in which this process
    /// stood still it must first get the chance to read what arrived meanwhile.
    fn judges(&self) -> bool {
        matches!(
            self,
            Timer::ProbeFallback(_)
                | Timer::ProbeDeadline(_)
                | Timer::Suspicion(_)
                | Timer::Exchange(_)
                | Timer::LeaveEnd
        )
    }
}

/// All deadlines, in order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, Timer)>,
    due: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets the deadline, in place of any earlier one.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        if let Some(before) = self.due.insert(timer.clone(), at) {
            self.order.remove(&(before, timer.clone()));
        }
        self.order.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.due.remove(timer) {
            self.order.remove(&(at, timer.clone()));
        }
    }

    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.due.contains_key(timer)
    }

    /// When this timer fires, if it is set.
    pub(crate) fn due(&self, timer: &Timer) -> Option<Instant> {
        self.due.get(timer).copied()
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out the first timer that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }

    /// Moves every deadline at which somebody would be judged.
    pub(crate) fn postpone_judgements(&mut self, by: Duration) {
        let judging = self.due.iter().filter(|(timer, _)| timer.judges());
        let judging = judging.map(|(timer, at)| (timer.clone(), *at)).collect::<Vec<_>>();
        for (timer, at) in judging {
            self.set(timer, at + by);
        }
    }

    /// The judgements that were due at `horizon` or before.
    pub(crate) fn overdue_judgements(&self, horizon: Instant) -> Vec<(Instant, Timer)> {
        let overdue = self.order.iter().take_while(|(at, _)| *at <= horizon);
        overdue.filter(|(_, timer)| timer.judges()).cloned().collect()
    }

    pub(crate) fn clear(&mut self) {
        self.order.clear();
        self.due.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::start;

    #[test]
    fn timers_fire_in_order_and_only_their_last_deadline_counts() {
        let (now, second) = (start(), Duration::from_secs(1));
        let mut timers = Timers::default();
        timers.set(Timer::Gossip, now + second);
        timers.set(Timer::Probe, now + second * 3);
        timers.set(Timer::Gossip, now + second * 2);
        timers.set(Timer::Sync, now + second * 2);
        timers.cancel(&Timer::Sync);
        assert_eq!(timers.next(), Some(now + second * 2));
        assert_eq!(timers.pop(now + second), None);
        assert_eq!(timers.pop(now + second * 9), Some(Timer::Gossip));
        assert_eq!(timers.pop(now + second * 9), Some(Timer::Probe));
        assert_eq!((timers.pop(now + second * 9), timers.len()), (None, 0));
    }

    #[test]
    fn only_judgements_are_postponed() {
        let (now, second) = (start(), Duration::from_secs(1));
        let mut timers = Timers::default();
        timers.set(Timer::Gossip, now + second);
        timers.set(Timer::ProbeDeadline(4), now + second);
        timers.postpone_judgements(second * 5);
        assert_eq!(timers.pop(now + second * 5), Some(Timer::Gossip));
        assert_eq!(timers.pop(now + second * 5), None);
        assert_eq!(timers.pop(now + second * 6), Some(Timer::ProbeDeadline(4)));
    }
}
