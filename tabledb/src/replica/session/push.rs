//! A push: the opener has more updates than datagrams can carry.

use std::collections::BTreeSet;

use super::super::bundle::index_of;
use super::super::message::Frame;
use super::super::session_result::Outcome;
use super::chunks::apply_chunk;
use super::progress::{Context, SessionError, UNEXPECTED};
use super::sending::Sending;
use super::version_vector::{IncomingVector, Scope, send_version_vector};
use crate::ArrivalPath;
use crate::record::AttachmentIndex;

/// Sends what the responder lacks of some attachments.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct PushOpener {
    /// The attachments with updates.
    pub(crate) attachments: BTreeSet<AttachmentIndex>,
    /// The responder is to push the updates on once.
    pub(crate) relay: bool,
    stage: Opened,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Opened {
    /// The responder may decline attachments before it sends its version vector.
    AwaitsVector(IncomingVector, BTreeSet<AttachmentIndex>),
    Sends(Sending),
}

impl PushOpener {
    /// Reports what this node has of the attachments.
    pub(super) fn open(
        attachments: BTreeSet<AttachmentIndex>,
        relay: bool,
        context: &mut Context<'_>,
    ) -> Self {
        send_version_vector(&Scope::Of(attachments.clone()), context);
        Self { attachments, relay, stage: Opened::AwaitsVector(IncomingVector::default(), BTreeSet::new()) }
    }

    pub(super) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        match (frame, &mut self.stage) {
            (Frame::NotMember(list), _) => context.progress.peer_is_not_member(list, context.node),
            (Frame::Busy, Opened::AwaitsVector(..)) => {
                context.end(Outcome::TurnedAway);
                Ok(())
            }
            (Frame::Decline(ids), Opened::AwaitsVector(_, refused)) => {
                refused.extend(ids.iter().filter_map(|id| index_of(&context.network.store, id)));
                Ok(())
            }
            (Frame::VersionVector { clock, entries, last }, Opened::AwaitsVector(vector, refused)) => {
                vector.add(clock, entries, context)?;
                if last {
                    vector.send_newer_lists(context);
                    vector.decline(context);
                    let common = vector.indexes().intersection(&self.attachments).copied().collect();
                    let (seen, refused) = (std::mem::take(&mut vector.seen), std::mem::take(refused));
                    let sending = Sending::new(Scope::Of(common), seen, refused, context.network);
                    self.stage = Opened::Sends(sending);
                }
                Ok(())
            }
            (Frame::Done, Opened::Sends(sending)) if sending.is_complete => {
                context.end(Outcome::Completed);
                Ok(())
            }
            _ => Err(UNEXPECTED),
        }
    }

    pub(super) fn sending(&self) -> Option<&Sending> {
        match &self.stage {
            Opened::AwaitsVector(..) => None,
            Opened::Sends(sending) => Some(sending),
        }
    }

    /// Makes the next frame.
    pub(super) fn proceed(&mut self, context: &mut Context<'_>) {
        let Opened::Sends(sending) = &mut self.stage else { return };
        sending.send_next(context);
        if sending.is_complete {
            // From here on, new writes are sent by gossip again.
            context.network.scheduler.push_caught_up(context.progress.id);
            context.send(&Frame::ChunksDone);
        }
    }
}

/// Receives what it lacks.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct PushResponder {
    /// This node is to push the updates on once.
    relay: bool,
    stage: Accepted,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Accepted {
    AwaitsVector(IncomingVector),
    Receives(BTreeSet<AttachmentIndex>),
}

impl PushResponder {
    pub(super) fn new(relay: bool) -> Self {
        Self { relay, stage: Accepted::AwaitsVector(IncomingVector::default()) }
    }

    /// The attachments of which the updates are to be pushed on, if any are.
    pub(crate) fn to_relay(&self) -> Option<&BTreeSet<AttachmentIndex>> {
        match &self.stage {
            Accepted::Receives(attachments) if self.relay => Some(attachments),
            _ => None,
        }
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
                    vector.refuse_those_coming(context);
                    vector.expect_updates(context);
                    vector.decline(context);
                    let scope = Scope::Of(vector.indexes());
                    send_version_vector(&scope, context);
                    self.stage = Accepted::Receives(vector.indexes());
                }
                Ok(())
            }
            // Attachments that the peer does not have.
            (Frame::Decline(_), Accepted::Receives(_)) => Ok(()),
            (Frame::Chunk(bundle), Accepted::Receives(_)) => apply_chunk(&bundle, ArrivalPath::Push, context),
            (Frame::ChunksDone, Accepted::Receives(_)) => {
                context.send(&Frame::Done);
                context.end(Outcome::Completed);
                Ok(())
            }
            _ => Err(UNEXPECTED),
        }
    }
}
