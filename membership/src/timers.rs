//! Timers: at most one deadline for each pending operation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::{NodeName, StreamId};

/// The operation that is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Probe the next member.
    Probe,
    /// The direct answer to this probe is late: use indirect probes and a stream.
    ProbeFallback(u64),
    /// This probe times out.
    ProbeDeadline(u64),
    /// Report to the requester of an indirect probe that the target has not answered yet.
    RelayNack(u64),
    /// Discard a probe made for another node.
    RelayEnd(u64),
    /// The suspicion of this member times out.
    Suspicion(NodeName),
    /// Request more confirmations of the suspicion of this member if some are missing.
    SecondOpinions(NodeName),
    /// Gossip queued updates.
    Gossip,
    /// Send fresh updates and notices.
    Flush,
    /// Compare the member list with a random member.
    Sync,
    /// Try to reconnect to a random failed member.
    Reconnect,
    /// Remove departed members whose retention has expired.
    Reap,
    /// Check that at least one seed is a member.
    Rejoin,
    /// Contact a seed that is not a member.
    SeedCheck,
    /// Retry this seed.
    SeedRetry(SocketAddr),
    /// This stream made no progress or exceeded its time limit.
    Exchange(StreamId),
    /// Resend the leave message.
    LeaveRepeat,
    /// Leaving times out.
    LeaveEnd,
}

impl Timer {
    /// Whether this timer suspects a node or abandons an operation when it fires. After a stall,
    /// such timers wait until the process had time to read the input that arrived meanwhile.
    fn is_failure_timeout(&self) -> bool {
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

/// All deadlines in order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, Timer)>,
    due: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets the deadline and replaces an earlier one.
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

    /// Removes and returns the first timer that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }

    /// Postpones every failure timeout.
    pub(crate) fn postpone_failure_timeouts(&mut self, by: Duration) {
        let postponed = self.due.iter().filter(|(timer, _)| timer.is_failure_timeout());
        let postponed = postponed.map(|(timer, at)| (timer.clone(), *at)).collect::<Vec<_>>();
        for (timer, at) in postponed {
            self.set(timer, at + by);
        }
    }

    /// The failure timeouts that were due at `horizon` or before.
    pub(crate) fn overdue_failure_timeouts(&self, horizon: Instant) -> Vec<(Instant, Timer)> {
        let overdue = self.order.iter().take_while(|(at, _)| *at <= horizon);
        overdue.filter(|(_, timer)| timer.is_failure_timeout()).cloned().collect()
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
    fn only_failure_timeouts_are_postponed() {
        let (now, second) = (start(), Duration::from_secs(1));
        let mut timers = Timers::default();
        timers.set(Timer::Gossip, now + second);
        timers.set(Timer::ProbeDeadline(4), now + second);
        timers.postpone_failure_timeouts(second * 5);
        assert_eq!(timers.pop(now + second * 5), Some(Timer::Gossip));
        assert_eq!(timers.pop(now + second * 5), None);
        assert_eq!(timers.pop(now + second * 6), Some(Timer::ProbeDeadline(4)));
    }
}
