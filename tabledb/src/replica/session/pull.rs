//! A pull: the opener asks for updates that it lacks.

use std::collections::BTreeSet;

use super::super::message::Frame;
use super::super::session_result::Outcome;
use super::chunks::apply_chunk;
use super::progress::{Context, SessionError, UNEXPECTED};
use super::sending::Sending;
use super::version_vector::{IncomingVector, Scope, send_version_vector};
use crate::ArrivalPath;
use crate::record::AttachmentIndex;

/// Receives what it lacks.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct PullOpener;

impl PullOpener {
    /// Asks for what this node lacks of the attachments.
    pub(super) fn open(attachments: BTreeSet<AttachmentIndex>, context: &mut Context<'_>) -> Self {
        send_version_vector(&Scope::Of(attachments), context);
        Self
    }

    pub(super) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        match frame {
            Frame::Busy => context.end(Outcome::TurnedAway),
            Frame::NotMember(list) => return context.progress.peer_is_not_member(list, context.node),
            // Attachments that the peer does not have.
            Frame::Decline(_) => {}
            Frame::Chunk(bundle) => return apply_chunk(&bundle, ArrivalPath::Pull, context),
            Frame::ChunksDone => context.end(Outcome::Completed),
            _ => return Err(UNEXPECTED),
        }
        Ok(())
    }
}

/// Sends what the opener lacks.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct PullResponder(Accepted);

#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
enum Accepted {
    AwaitsVector(IncomingVector),
    Sends(Sending),
}

impl PullResponder {
    pub(super) fn new() -> Self {
        Self(Accepted::AwaitsVector(IncomingVector::default()))
    }

    pub(super) fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        match (frame, &mut self.0) {
            (Frame::VersionVector { clock, entries, last }, Accepted::AwaitsVector(vector)) => {
                vector.add(clock, entries, context)?;
                if last {
                    vector.send_newer_lists(context);
                    vector.decline(context);
                    let (scope, seen) = (Scope::Of(vector.indexes()), std::mem::take(&mut vector.seen));
                    self.0 = Accepted::Sends(Sending::new(scope, seen, BTreeSet::new(), context.network));
                }
                Ok(())
            }
            _ => Err(UNEXPECTED),
        }
    }

    pub(super) fn sending(&self) -> Option<&Sending> {
        match &self.0 {
            Accepted::AwaitsVector(_) => None,
            Accepted::Sends(sending) => Some(sending),
        }
    }

    /// Makes the next frame.
    pub(super) fn proceed(&mut self, context: &mut Context<'_>) {
        let Accepted::Sends(sending) = &mut self.0 else { return };
        sending.send_next(context);
        if sending.is_complete {
            context.send(&Frame::ChunksDone);
            context.end(Outcome::Completed);
        }
    }
}
