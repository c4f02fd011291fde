//! Telling what one side holds, and sending what the other lacks.

use std::time::Instant;

use super::bundle::{BundleBuilder, Envelope, attachment_id};
use super::common::Common;
use super::message::{AttachmentId, FRAME_BUDGET, Frame, Holding, SessionKind};
use super::network::Network;
use super::owners::Gate;
use super::ranges::Ranges;
use super::session::{Session, SessionError};
use super::store::{Attachment, Place, Store};
use super::timing::{MAX_HELD_RANGES, MAX_NAMED};
use super::view::{Body, Slot};

/// So many context ranges, names aside, go into one frame of holdings.
const RANGES_PER_FRAME: usize = 2048;

impl Session {
    /// Tells what is held of the session's attachments, or of all in a full sync.
    pub(super) fn send_holdings(&mut self, network: &Network, common: &Common) {
        let held: Vec<(Slot, &Attachment)> = network
            .store
            .attachments()
            .filter(|(slot, _)| self.kind == SessionKind::Full || self.scope.contains(slot))
            .collect();
        let clock = common.clock.last();
        let mut holdings = Vec::new();
        let mut size = 0;
        for (_, attachment) in held {
            let owner = attachment.tag.owner.name.as_str();
            // What was refused here of late is not to be offered again at once.
            let ranges = attachment.accounted().as_slice();
            // A badly torn context is told in parts; the peer joins them.
            let mut parts = ranges.chunks(RANGES_PER_FRAME).peekable();
            loop {
                let part = parts.next().unwrap_or_default();
                size += 8 + part.len() + owner.len() / 8;
                holdings.push(Holding {
                    attachment: attachment_id(&attachment.tag),
                    list_version: common.owners.list_version_of(owner),
                    shown: attachment.tag.is_shown(),
                    context: part.to_vec(),
                });
                if size >= RANGES_PER_FRAME {
                    let holdings = std::mem::take(&mut holdings);
                    self.send(&Frame::Holdings { clock, holdings, last: false });
                    size = 0;
                }
                if parts.peek().is_none() {
                    break;
                }
            }
        }
        self.send(&Frame::Holdings { clock, holdings, last: true });
    }

    pub(super) fn handle_holdings(
        &mut self,
        holdings: Vec<Holding<'_>>,
        last: bool,
        network: &mut Network,
        common: &mut Common,
        now: Instant,
    ) -> Result<(), SessionError> {
        if self.sending {
            return Err(SessionError::Unexpected("a second list of holdings"));
        }
        for holding in holdings {
            let id = &holding.attachment;
            if common.owners.list_version_of(id.owner) > holding.list_version {
                self.outdated_lists.insert(id.owner.to_owned());
            }
            self.told_ranges += holding.context.len();
            if self.told_ranges > MAX_HELD_RANGES {
                return Err(SessionError::TooMany("ranges"));
            }
            let context = Ranges::checked(holding.context).ok_or(SessionError::Ranges)?;
            match network.admit(id, common) {
                Ok(slot) => {
                    if slot == network.own() {
                        let own = network.store.attachment(slot).map_or(0, |own| own.context().highest());
                        if context.highest() > own {
                            common.report_taken_generation();
                            continue;
                        }
                    }
                    // A badly torn context comes in parts.
                    if holding.shown && !self.peer_has.contains_key(&slot) {
                        self.shown_by_peer.push(slot);
                    }
                    self.peer_has.entry(slot).or_default().union(&context);
                }
                Err(_) if self.refused.len() >= MAX_NAMED => {
                    return Err(SessionError::TooMany("unknown attachments"));
                }
                Err(gate) => {
                    self.lacks_attachments |= gate == Gate::UnknownLife;
                    self.refused.push((id.owner.to_owned(), id.generation, id.epoch));
                }
            }
        }
        if last { self.all_holdings_known(network, common, now) } else { Ok(()) }
    }

    fn all_holdings_known(
        &mut self,
        network: &mut Network,
        common: &mut Common,
        now: Instant,
    ) -> Result<(), SessionError> {
        for owner in std::mem::take(&mut self.outdated_lists) {
            if let Some(list) = common.owners.list_of(&owner) {
                self.send(&Frame::Lists(vec![list]));
            }
        }
        match (self.kind, self.opened_here) {
            (SessionKind::Full, opener) => {
                if opener {
                    self.send_holdings(network, common);
                }
                self.receive_from_peer(network, now);
                self.start_sending(network);
            }
            (SessionKind::Pull, false) => {
                self.scope = self.peer_has.keys().copied().collect();
                self.start_sending(network);
            }
            (SessionKind::Push { .. }, true) => {
                self.scope.retain(|slot| self.peer_has.contains_key(slot));
                self.start_sending(network);
            }
            (SessionKind::Push { .. }, false) => {
                // What another session is bringing already would only come twice.
                let coming: Vec<Slot> = self
                    .peer_has
                    .keys()
                    .filter(|slot| network.receiving.is_coming(**slot, now))
                    .copied()
                    .collect();
                for slot in coming {
                    self.peer_has.remove(&slot);
                    if let Some(held) = network.store.attachment(slot) {
                        let tag = &held.tag;
                        self.refused.push((tag.owner.name.to_string(), tag.owner.generation, tag.epoch));
                    }
                }
                self.scope = self.peer_has.keys().copied().collect();
                self.receive_from_peer(network, now);
                self.decline();
                self.send_holdings(network, common);
            }
            (SessionKind::Pull, true) | (SessionKind::Lists, _) => {
                return Err(SessionError::Unexpected("a list of holdings"));
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

    /// Takes note of what this session is going to bring.
    fn receive_from_peer(&self, network: &mut Network, now: Instant) {
        for (&slot, theirs) in &self.peer_has {
            let lacking =
                network.store.attachment(slot).is_some_and(|held| !theirs.is_subset_of(held.accounted()));
            if lacking {
                network.receiving.begin(slot, self.id, now);
            }
        }
    }

    fn start_sending(&mut self, network: &Network) {
        self.sending = true;
        self.refill_queue(network);
    }

    /// What there is to send, the least first: a small vital attachment must not wait behind a large one.
    fn refill_queue(&mut self, network: &Network) {
        let nothing = Ranges::default();
        let mut wanted: Vec<(u64, Slot)> = network
            .store
            .attachments()
            .filter(|(slot, _)| self.kind == SessionKind::Full || self.scope.contains(slot))
            .filter(|(slot, _)| !self.declined.contains(slot))
            .map(|(slot, held)| {
                (held.context().count_beyond(self.peer_has.get(&slot).unwrap_or(&nothing)), slot)
            })
            .filter(|&(lacking, _)| lacking > 0)
            .collect();
        wanted.sort_unstable();
        self.queue = wanted.into_iter().map(|(_, slot)| slot).collect();
    }

    /// The next part of what the peer lacks, as the store is now; `None` when it lacks nothing. New writes are
    /// followed: the peer is not let go until it has caught up.
    pub(super) fn next_chunk(&mut self, network: &Network, common: &Common, now: Instant) -> Option<Vec<u8>> {
        let store = &network.store;
        let mut chunk = BundleBuilder::new(FRAME_BUDGET, &network.name, common.clock.last());
        let mut refilled = false;
        loop {
            let Some(&slot) = self.queue.front() else {
                if !chunk.is_empty() || refilled {
                    break;
                }
                self.refill_queue(network);
                refilled = true;
                continue;
            };
            if self.declined.contains(&slot) {
                self.queue.pop_front();
                continue;
            }
            if !fill_from(&mut chunk, store, slot, self.peer_has.entry(slot).or_default(), now) {
                break;
            }
            self.queue.pop_front();
        }
        (!chunk.is_empty()).then(|| chunk.finish(store, false, Envelope::Frame))
    }
}

/// Adds what is beyond `peer_has` of one attachment, and adds it to `peer_has`. False if not all of it fitted.
fn fill_from(
    chunk: &mut BundleBuilder,
    store: &Store,
    slot: Slot,
    peer_has: &mut Ranges,
    now: Instant,
) -> bool {
    let Some(attachment) = store.attachment(slot) else { return true };
    while let Some((low, high)) = attachment.context().first_beyond(peer_has, 1) {
        let mut next = low;
        for (number, place) in records_within(attachment, low, high) {
            // A tombstone whose time is up is dead like any other number.
            if is_expired(place, now) {
                continue;
            }
            let told = (number == next || chunk.add_dead(store, slot, next, number - 1))
                && chunk.add_record(store, (slot, number), place, &[], now);
            if !told {
                // The gap before it may have fitted; telling it twice is harmless.
                if next > low {
                    peer_has.insert_range(low, next - 1);
                }
                return false;
            }
            next = number + 1;
        }
        if next <= high && !chunk.add_dead(store, slot, next, high) {
            if next > low {
                peer_has.insert_range(low, next - 1);
            }
            return false;
        }
        peer_has.insert_range(low, high);
    }
    true
}

fn is_expired((table, key): &Place, now: Instant) -> bool {
    table
        .records
        .get(key)
        .is_some_and(|record| matches!(&record.body, Body::Tombstone { expires } if **expires <= now))
}

/// The records of an attachment with numbers within `low..=high`, live or buried, ascending.
fn records_within(attachment: &Attachment, low: u64, high: u64) -> impl Iterator<Item = (u64, &Place)> {
    let mut live = attachment.live().range(low, high).peekable();
    let mut buried = attachment.buried().range(low, high).peekable();
    std::iter::from_fn(move || match (live.peek(), buried.peek()) {
        (Some((a, _)), Some((b, _))) if a > b => buried.next(),
        (Some(_), _) => live.next(),
        (None, _) => buried.next(),
    })
}
