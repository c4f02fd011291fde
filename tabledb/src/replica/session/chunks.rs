//! Receiving the updates of a session.

use super::super::message::Bundle;
use super::progress::{Context, SessionError};
use crate::ArrivalPath;

/// Applies a part of the updates that this node lacks.
pub(super) fn apply_chunk(
    bundle: &Bundle<'_>,
    path: ArrivalPath,
    context: &mut Context<'_>,
) -> Result<(), SessionError> {
    let Context { progress, network, node, now } = context;
    if *bundle.network != *progress.network {
        return Err(SessionError::Unexpected("a chunk of another network"));
    }
    let applied = network.apply(bundle, &progress.peer, path, node, *now);
    progress.note_applied(applied, node);
    Ok(())
}
