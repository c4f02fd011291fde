//! A full sync: both sides exchange all updates that the other lacks, and compare their live numbers.

use std::collections::BTreeSet;

use super::super::bundle::attachment_id;
use super::super::message::{AttachmentId, FRAME_BUDGET, Frame, Open, Standing};
use super::super::network::Network;
use super::super::session_result::{Outcome, PeerStanding};
use super::super::skews;
use super::chunks::apply_chunk;
use super::comparison::{Attachments, Claims, Comparison, answer_comparison};
use super::progress::{Context, SessionError, UNEXPECTED};
use super::sending::Sending;
use super::version_vector::{IncomingVector, Scope, send_version_vector};
use crate::ArrivalPath;
use crate::record::AttachmentIndex;

/// What a full sync has learned about the peer's copy, on either side.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct PeerCopy {
    pub(crate) standing: PeerStanding,
    /// Attachments that the peer shows.
    pub(crate) shown: Vec<AttachmentIndex>,
    /// The peer holds attachments of instances that membership has not reported here yet.
    lacks_attachments: bool,
}

impl PeerCopy {
    /// The peer's version vector is complete: starts sending what the peer lacks.
    fn start_exchange(&mut self, vector: &mut IncomingVector, context: &mut Context<'_>) -> Sending {
        self.shown.append(&mut vector.shown);
        self.lacks_attachments = vector.lacks_attachments;
        vector.expect_updates(context);
        vector.decline(context);
        Sending::new(Scope::All, std::mem::take(&mut vector.seen), BTreeSet::new(), context.network)
    }
}

/// Opens a full sync, and leads the comparison.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct FullOpener {
    /// Only the anti-entropy period caused it.
    pub(crate) periodic: bool,
    pub(crate) peer_copy: PeerCopy,
    stage: Opened,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Opened {
    AwaitsResponse(IncomingVector),
    Syncs(Sending, Step),
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Step {
    /// Both sides send what the other lacks.
    Updates {
        received_all: bool,
    },
    Comparison(Comparison),
    /// Everything has been compared; the peer is still applying it.
    Close,
}

impl FullOpener {
    pub(super) fn new(periodic: bool) -> Self {
        let stage = Opened::AwaitsResponse(IncomingVector::default());
        Self { periodic, peer_copy: PeerCopy::default(), stage }
    }

    pub(super) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        match (frame, &mut self.stage) {
            (Frame::NotMember(list), _) => return context.progress.peer_is_not_member(list, context.node),
            (Frame::Busy, Opened::AwaitsResponse(_)) => context.end(Outcome::TurnedAway),
            (Frame::OpenedElsewhere, Opened::AwaitsResponse(_)) => context.end(Outcome::OpenedElsewhere),
            (Frame::WallClock { wall }, Opened::AwaitsResponse(_)) => {
                context.node.note_wall_clock(&context.progress.peer, wall, context.now);
            }
            (Frame::Standing(standing), Opened::AwaitsResponse(_)) => {
                self.peer_copy.standing = PeerStanding::from(&standing);
            }
            (Frame::Equal { clock, hidden }, Opened::AwaitsResponse(_)) => {
                context.observe_clock(clock);
                self.peer_copy.shown = shown_by_equal_peer(hidden, context);
                context.end(Outcome::Completed);
            }
            (Frame::VersionVector { clock, entries, last }, Opened::AwaitsResponse(vector)) => {
                vector.add(clock, entries, context)?;
                if last {
                    vector.send_newer_lists(context);
                    send_version_vector(&Scope::All, context);
                    let sending = self.peer_copy.start_exchange(vector, context);
                    self.stage = Opened::Syncs(sending, Step::Updates { received_all: false });
                }
            }
            (Frame::Decline(ids), Opened::Syncs(sending, _)) => sending.decline(&ids, context.network),
            (Frame::Chunk(bundle), Opened::Syncs(_, Step::Updates { .. } | Step::Comparison(_))) => {
                return apply_chunk(&bundle, ArrivalPath::Sync, context);
            }
            (Frame::ChunksDone, Opened::Syncs(sending, step @ Step::Updates { .. })) => {
                *step = Step::Updates { received_all: true };
                step.compare_if_all_sent(sending, context);
            }
            (Frame::Compared { looked_at, states, refused_keys }, Opened::Syncs(sending, step)) => {
                let Step::Comparison(comparison) = step else { return Err(UNEXPECTED) };
                context.progress.check_unread()?;
                let claims =
                    Claims { states, refused_keys, lacks_attachments: self.peer_copy.lacks_attachments };
                if !comparison.handle_compared(looked_at as usize, &claims, sending, context)? {
                    *step = Step::Close;
                }
            }
            (Frame::Done, Opened::Syncs(_, Step::Close)) => context.end(Outcome::Completed),
            _ => return Err(UNEXPECTED),
        }
        Ok(())
    }

    pub(super) fn sending(&self) -> Option<&Sending> {
        match &self.stage {
            Opened::AwaitsResponse(_) => None,
            Opened::Syncs(sending, _) => Some(sending),
        }
    }

    /// The peer lacked updates or claims, which were sent.
    pub(crate) fn sent_updates(&self) -> bool {
        self.sending().is_some_and(|sending| sending.sent_updates)
    }

    /// Makes the next frame.
    pub(super) fn proceed(&mut self, context: &mut Context<'_>) {
        let Opened::Syncs(sending, step) = &mut self.stage else { return };
        sending.send_next(context);
        if sending.is_complete {
            context.send(&Frame::ChunksDone);
            step.compare_if_all_sent(sending, context);
        }
    }
}

impl Step {
    /// Starts the comparison, once both sides have sent all updates.
    fn compare_if_all_sent(&mut self, sending: &Sending, context: &mut Context<'_>) {
        if matches!(self, Self::Updates { received_all: true }) && sending.is_complete {
            *self = match Comparison::start(&sending.declined, context) {
                Some(comparison) => Self::Comparison(comparison),
                None => Self::Close,
            };
        }
    }
}

/// The attachments that a peer with the same fingerprint shows: all but those it hides, if it names these,
/// else its own.
fn shown_by_equal_peer(hidden: Option<Vec<AttachmentId<'_>>>, context: &Context<'_>) -> Vec<AttachmentIndex> {
    let hidden = hidden.map(|hidden| hidden.into_iter().collect::<BTreeSet<_>>());
    let shown = context.network.store.attachments().filter(|(_, held)| match &hidden {
        Some(hidden) => !hidden.contains(&attachment_id(&held.tag)),
        // An owner shows its own entries.
        None => held.tag.owner.name == context.progress.peer,
    });
    shown.map(|(index, _)| index).collect()
}

/// The hidden attachments of a network, if they fit a frame.
fn hidden_attachments(network: &Network) -> Option<Vec<AttachmentId<'_>>> {
    let hidden = network.store.attachments().filter(|(_, held)| !held.tag.is_shown());
    let mut budget = FRAME_BUDGET;
    hidden
        .map(|(_, held)| {
            budget = budget.checked_sub(held.tag.owner.name.as_str().len() + 24)?;
            Some(attachment_id(&held.tag))
        })
        .collect()
}

/// Answers a full sync.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct FullResponder {
    pub(crate) peer_copy: PeerCopy,
    stage: Accepted,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Accepted {
    AwaitsVector(IncomingVector),
    Exchanges {
        sending: Sending,
        /// Of the latest request of the comparison.
        attachments: Attachments,
    },
}

impl FullResponder {
    pub(super) fn new() -> Self {
        let stage = Accepted::AwaitsVector(IncomingVector::default());
        Self { peer_copy: PeerCopy::default(), stage }
    }

    /// Answers the opener's first frame.
    pub(super) fn respond(&mut self, open: &Open<'_>, context: &mut Context<'_>) {
        let Context { progress, network, node, now } = context;
        // Both sides have opened a sync at the same time: one is enough, and both choose the same. But a
        // final sync is never turned away for another one, which may have compared a state before the
        // leaver's last writes.
        if node.owners.me().name < progress.peer
            && open.standing != Standing::Leaving
            && network.scheduler.is_syncing_with(&progress.peer, *now)
        {
            progress.send(&Frame::OpenedElsewhere);
            return progress.end(Outcome::OpenedElsewhere);
        }
        // The initial sync already brings what a synchronised member holds; over a slow link each copy
        // takes minutes.
        if open.standing == Standing::Synchronised && network.scheduler.is_receiving_initial_sync() {
            return progress.refuse();
        }
        let wall = node.clock.wall(*now);
        if skews::is_notable(open.wall, wall) {
            progress.send(&Frame::WallClock { wall });
        }
        self.peer_copy.standing = PeerStanding::from(&open.standing);
        let standing = network.scheduler.standing();
        if standing != Standing::Synchronised {
            progress.send(&Frame::Standing(standing));
        }
        if open.fingerprint == network.store.fingerprint() {
            progress.send(&Frame::Equal { clock: node.clock.last(), hidden: hidden_attachments(network) });
            return progress.end(Outcome::Completed);
        }
        send_version_vector(&Scope::All, context);
    }

    pub(super) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        match (frame, &mut self.stage) {
            (Frame::VersionVector { clock, entries, last }, Accepted::AwaitsVector(vector)) => {
                vector.add(clock, entries, context)?;
                if last {
                    vector.send_newer_lists(context);
                    let sending = self.peer_copy.start_exchange(vector, context);
                    self.stage = Accepted::Exchanges { sending, attachments: Attachments::default() };
                }
            }
            (Frame::Decline(ids), Accepted::Exchanges { sending, .. }) => {
                sending.decline(&ids, context.network);
            }
            (Frame::Chunk(bundle), Accepted::Exchanges { .. }) => {
                return apply_chunk(&bundle, ArrivalPath::Sync, context);
            }
            // The opener asks next.
            (Frame::ChunksDone, Accepted::Exchanges { .. }) => {}
            (Frame::Compare { attachments: named, spans }, Accepted::Exchanges { sending, attachments }) => {
                context.progress.check_unread()?;
                *attachments = answer_comparison(&named, &spans, sending, context);
            }
            (Frame::DeadSpans { states, refused_keys }, Accepted::Exchanges { attachments, .. }) => {
                let lacks_attachments = self.peer_copy.lacks_attachments;
                let claims = Claims { states, refused_keys, lacks_attachments };
                return claims.apply(attachments, context);
            }
            (Frame::Close, Accepted::Exchanges { .. }) => {
                context.send(&Frame::Done);
                context.end(Outcome::Completed);
            }
            _ => return Err(UNEXPECTED),
        }
        Ok(())
    }

    pub(super) fn sending(&self) -> Option<&Sending> {
        match &self.stage {
            Accepted::AwaitsVector(_) => None,
            Accepted::Exchanges { sending, .. } => Some(sending),
        }
    }

    /// Makes the next frame.
    pub(super) fn proceed(&mut self, context: &mut Context<'_>) {
        let Accepted::Exchanges { sending, .. } = &mut self.stage else { return };
        sending.send_next(context);
        if sending.is_complete {
            context.send(&Frame::ChunksDone);
        }
    }
}
