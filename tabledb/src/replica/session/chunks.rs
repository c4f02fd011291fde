//! Receiving the updates of a session.

use super::super::message::Bundle;
use super::super::network::Arrival;
use super::progress::{Context, SessionError};

/// Applies a part of the updates that this node lacks.
pub(super) fn apply_chunk(bundle: &Bundle<'_>, context: &mut Context<'_>) -> Result<(), SessionError> {
    let Context { progress, network, node, now } = context;
    if *bundle.network != *progress.network {
        return Err(SessionError::Unexpected("a chunk of another network"));
    }
    let applied = network.apply(bundle, &progress.peer, Arrival::Sync, node, *now);
    progress.note_applied(applied, node);
    Ok(())
}
