//! Watches that can be resumed, on this node or on another.

use std::task::{Context, Poll};

use crate::replica::{Present, ReceivedContext, ResumePoint, ResumedFrom, encoded_point};
use crate::watch::{Step, Watch};
use crate::{Change, ResetReason, WatchFilter};

/// What the caller of a [`ResumableWatch`] receives.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: a caller that ignored one would hold a wrong table.
pub enum ResumableEvent {
    /// One change.
    Change(Change),
    /// The caller has received everything that had happened on this node when this was made: the end of the snapshot, or
    /// of what it had missed.
    Synchronised {
        /// Whether this node has compared each of the watched networks with another member since it joined them. If
        /// not, entries that other members have may be missing here. False if it has joined none of them.
        compared: bool,
    },
    /// Discard everything: a snapshot follows.
    Reset(ResetReason),
    /// The database has ended: no more changes follow, and the state of the entries is unknown from now on. Every
    /// further call returns this again.
    Closed,
}

/// A [`Watch`] with an end of its snapshot, and with points from which it can be resumed: by
/// [`TableDb::resume`](crate::TableDb::resume), also on other nodes.
#[derive(Debug)]
pub struct ResumableWatch {
    watch: Watch,
    progress: Progress,
}

impl ResumableWatch {
    pub(crate) fn new(watch: Watch, progress: Progress) -> Self {
        Self { watch, progress }
    }

    /// The point behind the last event that was returned.
    pub fn point(&self) -> ResumePoint {
        self.progress.point()
    }

    /// The bytes of [`Self::point`].
    pub fn point_bytes(&self) -> Vec<u8> {
        self.progress.point_bytes()
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<ResumableEvent> {
        let reset = self.progress.take_reset();
        reset.or_else(|| self.watch.try_step().map(|step| self.progress.receive(step)))
    }

    /// The next event, as soon as there is one, as [`Watch::recv`].
    pub async fn recv(&mut self) -> ResumableEvent {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    /// [`Self::recv`] for futures that are written by hand, as [`Watch::poll_recv`]: it reads the store after the start
    /// and after [`ResumableEvent::Reset`].
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<ResumableEvent> {
        if let Some(reset) = self.progress.take_reset() {
            return Poll::Ready(reset);
        }
        self.watch.poll_step(context).map(|step| self.progress.receive(step))
    }
}

/// What the caller of a resumable watch has received.
#[derive(Debug)]
pub(crate) struct Progress {
    filter: u64,
    history: u64,
    /// Reported first.
    reset: Option<ResetReason>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A part of a snapshot.
    Incomplete(ReceivedContext),
    /// The caller's table was complete once, and it received each change since.
    Complete {
        /// `None` if the point at which it was resumed had none.
        context: Option<ReceivedContext>,
        /// The position of the next change in the history; `None` within what the caller had missed.
        position: Option<u64>,
    },
}

impl Progress {
    pub(crate) fn new(
        from: Option<ResumedFrom>,
        history: u64,
        filter: &WatchFilter,
        reset: Option<ResetReason>,
    ) -> Self {
        let place = match from {
            Some(ResumedFrom { context, position }) => Place::Complete { context, position },
            None => Place::Incomplete(ReceivedContext::default()),
        };
        Self { filter: filter.digest(), history, reset, place }
    }

    pub(crate) fn point(&self) -> ResumePoint {
        let (complete, place, context) = self.parts();
        ResumePoint { filter: self.filter, complete, place, context: context.cloned() }
    }

    pub(crate) fn point_bytes(&self) -> Vec<u8> {
        let (complete, place, context) = self.parts();
        encoded_point(self.filter, complete, place, context)
    }

    /// Whether the caller's table is complete, its place in the history, and what it has received.
    fn parts(&self) -> (bool, Option<(u64, u64)>, Option<&ReceivedContext>) {
        match &self.place {
            Place::Incomplete(_) => (false, None, None),
            Place::Complete { context, position } => {
                (true, position.map(|position| (self.history, position)), context.as_ref())
            }
        }
    }

    pub(crate) fn take_reset(&mut self) -> Option<ResumableEvent> {
        self.reset.take().map(ResumableEvent::Reset)
    }

    pub(crate) fn receive(&mut self, step: Step) -> ResumableEvent {
        match step {
            Step::Change(recorded) => {
                match &mut self.place {
                    Place::Incomplete(context) => context.receive(&recorded),
                    Place::Complete { context, position } => {
                        context.iter_mut().for_each(|context| context.receive(&recorded));
                        position.iter_mut().for_each(|position| *position = recorded.position + 1);
                    }
                }
                ResumableEvent::Change(recorded.change)
            }
            Step::Present(Present { compared, position: next, seen }) => {
                let mut context = match &mut self.place {
                    Place::Incomplete(context) => Some(std::mem::take(context)),
                    Place::Complete { context, .. } => context.take(),
                };
                if let (Some(context), Some(seen)) = (&mut context, seen) {
                    context.set_seen(seen);
                }
                self.place = Place::Complete { context, position: Some(next) };
                ResumableEvent::Synchronised { compared }
            }
            Step::Lagged => {
                self.place = Place::Incomplete(ReceivedContext::default());
                ResumableEvent::Reset(ResetReason::TooFarBehind)
            }
            Step::Closed => ResumableEvent::Closed,
        }
    }
}
