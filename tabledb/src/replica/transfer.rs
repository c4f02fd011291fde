//! Exchanging version vectors, and sending the updates that the other side lacks.

use std::time::Instant;

use super::bundle::{BundleBuilder, Envelope, attachment_id};
use super::message::{AttachmentId, FRAME_BUDGET, Frame, SessionKind, VersionVectorEntry};
use super::network::Network;
use super::node_state::NodeState;
use super::owners::Admission;
use super::ranges::Ranges;
use super::session::{Session, SessionError};
use super::store::{Attachment, Store};
use super::timing::{MAX_HELD_RANGES, MAX_NAMED};
use super::view::{AttachmentIndex, Body, Location};

/// The most ranges, apart from names, in one frame of a version vector.
const RANGES_PER_FRAME: usize = 2048;

impl Session {
    /// Sends the version vector of the session's attachments, or of all in a full sync.
    pub(super) fn send_version_vector(&mut self, network: &Network, node: &NodeState) {
        let held: Vec<(AttachmentIndex, &Attachment)> = network
            .store
            .attachments()
            .filter(|(index, _)| self.kind == SessionKind::Full || self.scope.contains(index))
            .collect();
        let clock = node.clock.last();
        let mut entries = Vec::new();
        let mut size = 0;
        for (_, attachment) in held {
            let owner = attachment.tag.owner.name.as_str();
            // Recently refused writes are not to be offered again at once.
            let ranges = attachment.accounted().as_slice();
            // A heavily fragmented set is sent in parts; the peer joins them.
            let mut parts = ranges.chunks(RANGES_PER_FRAME).peekable();
            loop {
                let part = parts.next().unwrap_or_default();
                size += 8 + part.len() + owner.len() / 8;
                entries.push(VersionVectorEntry {
                    attachment: attachment_id(&attachment.tag),
                    list_version: node.owners.list_version_of(owner),
                    shown: attachment.tag.is_shown(),
                    seen: part.to_vec(),
                });
                if size >= RANGES_PER_FRAME {
                    let entries = std::mem::take(&mut entries);
                    self.send(&Frame::VersionVector { clock, entries, last: false });
                    size = 0;
                }
                if parts.peek().is_none() {
                    break;
                }
            }
        }
        self.send(&Frame::VersionVector { clock, entries, last: true });
    }

    pub(super) fn handle_version_vector(
        &mut self,
        entries: Vec<VersionVectorEntry<'_>>,
        last: bool,
        network: &mut Network,
        node: &mut NodeState,
        now: Instant,
    ) -> Result<(), SessionError> {
        if self.sending {
            return Err(SessionError::Unexpected("a second version vector"));
        }
        for entry in entries {
            let id = &entry.attachment;
            if node.owners.list_version_of(id.owner) > entry.list_version {
                self.outdated_lists.insert(id.owner.to_owned());
            }
            self.received_ranges += entry.seen.len();
            if self.received_ranges > MAX_HELD_RANGES {
                return Err(SessionError::TooMany("ranges"));
            }
            let seen = Ranges::checked(entry.seen).ok_or(SessionError::Ranges)?;
            match network.admit(id, node) {
                Ok(index) => {
                    if index == network.own() {
                        let own = network.store.attachment(index).map_or(0, |own| own.seen().highest());
                        if seen.highest() > own {
                            node.report_generation_conflict();
                            continue;
                        }
                    }
                    // A heavily fragmented set arrives in parts.
                    if entry.shown && !self.peer_seen.contains_key(&index) {
                        self.shown_by_peer.push(index);
                    }
                    self.peer_seen.entry(index).or_default().union(&seen);
                }
                Err(_) if self.refused.len() >= MAX_NAMED => {
                    return Err(SessionError::TooMany("unknown attachments"));
                }
                Err(admission) => {
                    self.lacks_attachments |= admission == Admission::UnknownInstance;
                    self.refused.push((id.owner.to_owned(), id.generation, id.epoch));
                }
            }
        }
        if last { self.version_vector_complete(network, node, now) } else { Ok(()) }
    }

    fn version_vector_complete(
        &mut self,
        network: &mut Network,
        node: &mut NodeState,
        now: Instant,
    ) -> Result<(), SessionError> {
        for owner in std::mem::take(&mut self.outdated_lists) {
            if let Some(list) = node.owners.list_of(&owner) {
                self.send(&Frame::Lists(vec![list]));
            }
        }
        match (self.kind, self.opened_here) {
            (SessionKind::Full, opener) => {
                if opener {
                    self.send_version_vector(network, node);
                }
                self.receive_from_peer(network, now);
                self.start_sending(network);
            }
            (SessionKind::Pull, false) => {
                self.scope = self.peer_seen.keys().copied().collect();
                self.start_sending(network);
            }
            (SessionKind::Push { .. }, true) => {
                self.scope.retain(|index| self.peer_seen.contains_key(index));
                self.start_sending(network);
            }
            (SessionKind::Push { .. }, false) => {
                // What another session already brings would only arrive twice.
                let coming: Vec<AttachmentIndex> = self
                    .peer_seen
                    .keys()
                    .filter(|index| network.receiving.is_coming(**index, now))
                    .copied()
                    .collect();
                for index in coming {
                    self.peer_seen.remove(&index);
                    if let Some(held) = network.store.attachment(index) {
                        let tag = &held.tag;
                        self.refused.push((tag.owner.name.to_string(), tag.owner.generation, tag.epoch));
                    }
                }
                self.scope = self.peer_seen.keys().copied().collect();
                self.receive_from_peer(network, now);
                self.decline();
                self.send_version_vector(network, node);
            }
            (SessionKind::Pull, true) | (SessionKind::Lists, _) => {
                return Err(SessionError::Unexpected("a version vector"));
            }
        }
        self.decline();
        Ok(())
    }

    fn decline(&mut self) {
        let refused = std::mem::take(&mut self.refused);
        if refused.is_empty() {
            return;
        }
        let ids = refused
            .iter()
            .map(|(owner, generation, epoch)| AttachmentId { owner, generation: *generation, epoch: *epoch })
            .collect();
        self.send(&Frame::Decline(ids));
    }

    /// Records which attachments this session will bring.
    fn receive_from_peer(&self, network: &mut Network, now: Instant) {
        for (&index, theirs) in &self.peer_seen {
            let lacking =
                network.store.attachment(index).is_some_and(|held| !theirs.is_subset_of(held.accounted()));
            if lacking {
                network.receiving.begin(index, self.id, now);
            }
        }
    }

    fn start_sending(&mut self, network: &Network) {
        self.sending = true;
        self.refill_queue(network);
    }

    /// Queues the attachments to send, the smallest first: a small vital attachment must not wait behind a
    /// large one.
    fn refill_queue(&mut self, network: &Network) {
        let nothing = Ranges::default();
        let mut wanted: Vec<(u64, AttachmentIndex)> = network
            .store
            .attachments()
            .filter(|(index, _)| self.kind == SessionKind::Full || self.scope.contains(index))
            .filter(|(index, _)| !self.declined.contains(index))
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
    pub(super) fn next_chunk(
        &mut self,
        network: &Network,
        node: &NodeState,
        now: Instant,
    ) -> Option<Vec<u8>> {
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
        (!chunk.is_empty()).then(|| chunk.finish(store, false, Envelope::Frame))
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
        for (number, location) in records_within(attachment, low, high) {
            // A tombstone whose time is up is sent as a superseded number.
            if is_expired(location, now) {
                continue;
            }
            let added = (number == next || chunk.add_superseded(store, index, next, number - 1))
                && chunk.add_record(store, (index, number), location, &[], now);
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

fn is_expired((table, key): &Location, now: Instant) -> bool {
    table
        .records
        .get(key)
        .is_some_and(|record| matches!(&record.body, Body::Tombstone { expires } if **expires <= now))
}

/// The live records and tombstones of an attachment with numbers within `low..=high`, ascending.
fn records_within(attachment: &Attachment, low: u64, high: u64) -> impl Iterator<Item = (u64, &Location)> {
    let mut live = attachment.live().range(low, high).peekable();
    let mut tombstones = attachment.tombstones().range(low, high).peekable();
    std::iter::from_fn(move || match (live.peek(), tombstones.peek()) {
        (Some((a, _)), Some((b, _))) if a > b => tombstones.next(),
        (Some(_), _) => live.next(),
        (None, _) => tombstones.next(),
    })
}
