//! Exchanging version vectors.

use std::collections::BTreeSet;

use super::super::bundle::attachment_id;
use super::super::message::{AttachmentId, Frame, VersionVectorEntry};
use super::super::owners::Admission;
use super::super::ranges::Ranges;
use super::super::store::VersionVector;
use super::super::timing::{MAX_HELD_RANGES, MAX_NAMED};
use super::progress::{Context, SessionError};
use crate::record::AttachmentIndex;

/// The most ranges, apart from names, in one frame of a version vector.
const RANGES_PER_FRAME: usize = 2048;

/// The attachments that a session is about.
#[derive(Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) enum Scope {
    All,
    Of(BTreeSet<AttachmentIndex>),
}

impl Scope {
    pub(super) fn contains(&self, index: AttachmentIndex) -> bool {
        match self {
            Self::All => true,
            Self::Of(indexes) => indexes.contains(&index),
        }
    }
}

/// Sends this node's version vector of the attachments in `scope`.
pub(super) fn send_version_vector(scope: &Scope, context: &mut Context<'_>) {
    let Context { progress, network, node, .. } = context;
    let clock = node.clock.last();
    let mut entries = Vec::new();
    let mut size = 0;
    for (_, attachment) in network.store.attachments().filter(|(index, _)| scope.contains(*index)) {
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
                progress.send(&Frame::VersionVector { clock, entries, last: false });
                size = 0;
            }
            if parts.peek().is_none() {
                break;
            }
        }
    }
    progress.send(&Frame::VersionVector { clock, entries, last: true });
}

/// The peer's version vector, which arrives in parts.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct IncomingVector {
    pub(super) seen: VersionVector,
    /// Attachments that the peer shows.
    pub(super) shown: Vec<AttachmentIndex>,
    /// Attachments of which this node would refuse updates.
    refused: Vec<(String, u64, u64)>,
    /// Some of them belong to instances that membership has not reported yet: their writes will come.
    pub(super) lacks_attachments: bool,
    /// Owners of which the peer knows an older attachment list.
    outdated_lists: BTreeSet<String>,
    received_ranges: usize,
}

impl IncomingVector {
    /// Adds the next part.
    pub(super) fn add(
        &mut self,
        clock: u64,
        entries: Vec<VersionVectorEntry<'_>>,
        context: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        context.observe_clock(clock);
        let Context { network, node, .. } = context;
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
                    if entry.shown && !self.seen.contains_key(&index) {
                        self.shown.push(index);
                    }
                    self.seen.entry(index).or_default().union(&seen);
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
        Ok(())
    }

    /// Sends the attachment lists of which the peer knows an older version. The vector is complete.
    pub(super) fn send_newer_lists(&self, context: &mut Context<'_>) {
        for owner in &self.outdated_lists {
            if let Some(list) = context.node.owners.list_of(owner) {
                context.send(&Frame::Lists(vec![list]));
            }
        }
    }

    /// The attachments in the vector.
    pub(super) fn indexes(&self) -> BTreeSet<AttachmentIndex> {
        self.seen.keys().copied().collect()
    }

    /// Takes the attachments out that another session already brings: their updates would arrive twice.
    pub(super) fn refuse_those_coming(&mut self, context: &Context<'_>) {
        let Context { network, now, .. } = context;
        let refused = &mut self.refused;
        self.seen.retain(|index, _| {
            let is_coming = network.scheduler.brings(*index, *now);
            if is_coming && let Some(held) = network.store.attachment(*index) {
                let tag = &held.tag;
                refused.push((tag.owner.name.to_string(), tag.owner.generation, tag.epoch));
            }
            !is_coming
        });
    }

    /// Sends which attachments this node refuses updates of.
    pub(super) fn decline(&self, context: &mut Context<'_>) {
        if self.refused.is_empty() {
            return;
        }
        let ids = self
            .refused
            .iter()
            .map(|(owner, generation, epoch)| AttachmentId { owner, generation: *generation, epoch: *epoch })
            .collect();
        context.send(&Frame::Decline(ids));
    }

    /// Records which attachments this session will bring.
    pub(super) fn expect_updates(&self, context: &mut Context<'_>) {
        let Context { progress, network, now, .. } = context;
        for (&index, theirs) in &self.seen {
            let lacking =
                network.store.attachment(index).is_some_and(|held| !theirs.is_subset_of(held.accounted()));
            if lacking {
                network.scheduler.will_bring(index, progress.id, *now);
            }
        }
    }
}
