//! Sending the updates that the peer lacks.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::super::bundle::{BundleBuilder, Envelope, index_of};
use super::super::message::{AttachmentId, FRAME_BUDGET};
use super::super::network::Network;
use super::super::node_state::NodeState;
use super::super::ranges::Ranges;
use super::super::store::{Held, Store, Tombstone, VersionVector};
use super::progress::Context;
use super::version_vector::Scope;
use crate::record::AttachmentIndex;

/// The most chunks of updates between two frames of a comparison.
const CHUNKS_BETWEEN: usize = 4;

/// What the peer lacks, and how much of it has been sent.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Sending {
    scope: Scope,
    /// The peer's version vector: as reported by the peer, and extended by the updates sent since.
    peer_seen: VersionVector,
    /// Attachments of which the peer would refuse updates.
    pub(super) declined: BTreeSet<AttachmentIndex>,
    /// The attachments still to be sent, the smallest first.
    queue: VecDeque<AttachmentIndex>,
    /// The peer had everything at one moment.
    pub(super) is_complete: bool,
    /// The peer lacked updates or claims, which were sent.
    pub(super) sent_updates: bool,
    /// Updates were among them.
    pub(super) sent_chunks: bool,
}

impl Sending {
    pub(super) fn new(
        scope: Scope,
        peer_seen: VersionVector,
        declined: BTreeSet<AttachmentIndex>,
        network: &Network,
    ) -> Self {
        let queue = VecDeque::new();
        let mut sending = Self {
            scope,
            peer_seen,
            declined,
            queue,
            is_complete: false,
            sent_updates: false,
            sent_chunks: false,
        };
        sending.refill_queue(network);
        sending
    }

    /// The peer would refuse updates of these attachments.
    pub(super) fn decline(&mut self, ids: &[AttachmentId<'_>], network: &Network) {
        self.declined.extend(ids.iter().filter_map(|id| index_of(&network.store, id)));
    }

    /// Sends the next chunk, if the peer lacks something. Otherwise sending is complete.
    pub(super) fn send_next(&mut self, context: &mut Context<'_>) {
        context.progress.at = context.now;
        match self.next_chunk(context.network, context.node, context.now) {
            Some(chunk) => context.progress.send_encoded(chunk),
            None => self.is_complete = true,
        }
    }

    /// Sends the updates since sending was complete: the peer must have the superseding write, or have
    /// refused it, before it receives the claim that an entry is superseded. False if there are too many for
    /// now.
    pub(super) fn catch_up(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..CHUNKS_BETWEEN {
            let Some(chunk) = self.next_chunk(context.network, context.node, context.now) else {
                return true;
            };
            context.progress.send_encoded(chunk);
        }
        false
    }

    /// Queues the attachments to send, the smallest first: a small vital attachment must not wait behind a
    /// large one.
    fn refill_queue(&mut self, network: &Network) {
        let nothing = Ranges::default();
        let mut wanted: Vec<(u64, AttachmentIndex)> = network
            .store
            .attachments()
            .filter(|(index, _)| self.scope.contains(*index) && !self.declined.contains(index))
            .map(|(index, held)| {
                (held.seen().count_beyond(self.peer_seen.get(&index).unwrap_or(&nothing)), index)
            })
            .filter(|&(lacking, _)| lacking > 0)
            .collect();
        wanted.sort_unstable();
        self.queue = wanted.into_iter().map(|(_, index)| index).collect();
    }

    /// The next part of what the peer lacks, from the current state of the store; `None` when it lacks
    /// nothing. New writes are included until the peer has caught up.
    fn next_chunk(&mut self, network: &Network, node: &NodeState, now: Instant) -> Option<Vec<u8>> {
        let store = &network.store;
        let mut chunk = BundleBuilder::new(FRAME_BUDGET, &network.name, node.clock.last());
        let mut refilled = false;
        loop {
            let Some(&index) = self.queue.front() else {
                if !chunk.is_empty() || refilled {
                    break;
                }
                self.refill_queue(network);
                refilled = true;
                continue;
            };
            if self.declined.contains(&index) {
                self.queue.pop_front();
                continue;
            }
            if !add_updates_of(&mut chunk, store, index, self.peer_seen.entry(index).or_default(), now) {
                break;
            }
            self.queue.pop_front();
        }
        if chunk.is_empty() {
            return None;
        }
        (self.sent_updates, self.sent_chunks) = (true, true);
        Some(chunk.finish(store, false, Envelope::Frame))
    }
}

/// Adds the updates of one attachment beyond `peer_seen`, and extends `peer_seen`. False if not all of them
/// fitted.
fn add_updates_of(
    chunk: &mut BundleBuilder,
    store: &Store,
    index: AttachmentIndex,
    peer_seen: &mut Ranges,
    now: Instant,
) -> bool {
    let Some(attachment) = store.attachment(index) else { return true };
    while let Some((low, high)) = attachment.seen().first_beyond(peer_seen, 1) {
        let mut next = low;
        for (number, held) in attachment.held_within(low, high) {
            // A tombstone whose time is up is sent as a superseded number.
            if matches!(held, Held::Tombstone(Tombstone { expires, .. }) if *expires <= now) {
                continue;
            }
            let added = (number == next || chunk.add_superseded(store, index, next, number - 1))
                && chunk.add_record(store, held, &[], now);
            if !added {
                // The gap before it may have fitted; sending it twice is harmless.
                if next > low {
                    peer_seen.insert_range(low, next - 1);
                }
                return false;
            }
            next = number + 1;
        }
        if next <= high && !chunk.add_superseded(store, index, next, high) {
            if next > low {
                peer_seen.insert_range(low, next - 1);
            }
            return false;
        }
        peer_seen.insert_range(low, high);
    }
    true
}
