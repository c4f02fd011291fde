//! Where a watch can be resumed: what its caller has received, in a form that other nodes understand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::codec;

use super::ranges::Ranges;
use crate::change::{Cause, RecordedChange, WriteId};

/// The most ranges in which the numbers of one attachment are remembered. The lowest holes are forgotten first.
const MAX_RANGES: usize = 8;

/// The most attachments that a watch remembers without entries of theirs.
const MAX_EMPTY: usize = 4096;

/// What a caller has received of one attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The numbers that are behind it. Numbers without effect on its table may be missing.
    pub(crate) seen: Ranges,
    /// A digest of those of its entries that the caller has: 0 for none.
    pub(crate) held: u64,
    /// When it changed last, in changes.
    stamp: u64,
}

/// What a caller has received: which writes are behind it, and a digest of the table that it has. The former say where
/// to look for that table; the latter proves that the right one was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReceivedContext {
    attachments: BTreeMap<u64, Received>,
    stamp: u64,
}

impl ReceivedContext {
    /// The attachments by their digests.
    pub(crate) fn attachments(&self) -> impl Iterator<Item = (u64, &Received)> {
        self.attachments.iter().map(|(&writer, received)| (writer, received))
    }

    pub(crate) fn get(&self, writer: u64) -> Option<&Received> {
        self.attachments.get(&writer)
    }

    /// Whether a write is behind the caller.
    pub(crate) fn has_seen(&self, write: WriteId) -> bool {
        self.get(write.writer).is_some_and(|received| received.seen.contains(write.number))
    }

    fn of(&mut self, writer: u64) -> &mut Received {
        self.stamp += 1;
        let received = self.attachments.entry(writer).or_default();
        received.stamp = self.stamp;
        received
    }

    /// The caller receives a change.
    pub(crate) fn receive(&mut self, recorded: &RecordedChange) {
        if let Some(previous) = recorded.previous {
            self.toggle(previous);
        }
        if let Some(version) = recorded.change.version {
            self.toggle(version.into());
        }
        if let Some(Cause { write: WriteId { writer, number }, complete_to }) = recorded.cause {
            let seen = &mut self.of(writer).seen;
            if complete_to > 0 {
                seen.insert_range(1, complete_to);
            }
            seen.insert(number);
            if seen.as_slice().len() > MAX_RANGES {
                *seen = seen.coarse(MAX_RANGES);
            }
        }
    }

    /// The caller receives an entry, or it loses one.
    fn toggle(&mut self, write: WriteId) {
        self.of(write.writer).held ^= write.digest();
    }

    /// The caller has received all of these numbers of each attachment; others have ended.
    pub(crate) fn set_seen(&mut self, seen: Vec<(u64, Ranges)>) {
        let former = std::mem::take(&mut self.attachments);
        for (writer, seen) in seen {
            let seen = seen.coarse(MAX_RANGES);
            self.attachments.insert(writer, Received { seen, ..Received::default() });
        }
        for (writer, received) in former.into_iter().filter(|(_, received)| received.held != 0) {
            let present = self.attachments.entry(writer).or_default();
            (present.held, present.stamp) = (received.held, received.stamp);
        }
        self.forget_beyond(MAX_EMPTY);
    }

    /// Forgets attachments of which the caller has nothing, the least recent first, beyond a number.
    fn forget_beyond(&mut self, most: usize) {
        let empty = self.attachments.iter().filter(|(_, received)| received.held == 0);
        let mut empty: Vec<(u64, u64)> = empty.map(|(&writer, received)| (received.stamp, writer)).collect();
        empty.sort_unstable_by(|a, b| b.cmp(a));
        for (_, writer) in empty.into_iter().skip(most) {
            self.attachments.remove(&writer);
        }
    }
}

/// What the caller of a resumed watch has received.
#[derive(Debug)]
pub(crate) struct ResumedFrom {
    pub(crate) context: Option<ReceivedContext>,
    /// The position in the history, if it has one.
    pub(crate) position: Option<u64>,
}

/// A place in a watch from which it can be resumed: on the node that issued it, and on other nodes.
///
/// It says which filter the watch has; the position in the issuing node's history of changes; and, if that is not too
/// long, which writes are behind the caller, with a digest of the table that it has. Another node finds in its own
/// store and history what the caller has, proves by the digest that it is that, and continues from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    /// The digest of the filter.
    pub(crate) filter: u64,
    /// The history, and the position of the next change in it.
    pub(crate) place: Option<(u64, u64)>,
    /// `None` if it would be too long.
    pub(crate) context: Option<ReceivedContext>,
    /// False within a snapshot: the caller does not have a whole table.
    pub(crate) complete: bool,
}

/// Bytes that are not a resume point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these bytes are not a point from which a watch can be resumed")]
pub struct ResumePointError;

/// As bytes. The attachments are (digest, ranges of numbers, digest of the entries).
#[derive(Serialize, Deserialize)]
struct Encoded {
    filter: u64,
    complete: bool,
    place: Option<(u64, u64)>,
    context: Option<Vec<EncodedAttachment>>,
}

type EncodedAttachment = (u64, Vec<(u64, u64)>, u64);

impl ResumePoint {
    /// The most bytes of a point.
    pub const MAX_BYTES: usize = 3072;

    /// The point as bytes, at most [`Self::MAX_BYTES`]. They mean the same to all nodes of one version.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { filter, place, context, complete } = self;
        encoded_point(*filter, *complete, *place, context.as_ref())
    }

    /// Reads a point from bytes.
    ///
    /// # Errors
    /// If they are longer than [`Self::MAX_BYTES`], or no point.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ResumePointError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(ResumePointError);
        }
        let Encoded { filter, complete, place, context } =
            codec::decode(bytes).map_err(|_| ResumePointError)?;
        let context = context.map(|attachments: Vec<EncodedAttachment>| {
            let read = attachments.into_iter().map(|(writer, seen, held)| {
                let seen = Ranges::checked(seen).ok_or(ResumePointError)?;
                Ok((writer, Received { seen, held, stamp: 0 }))
            });
            Ok(ReceivedContext { attachments: read.collect::<Result<_, _>>()?, stamp: 0 })
        });
        Ok(Self { filter, place, context: context.transpose()?, complete })
    }
}

/// A point as bytes. A context that is too long is left out.
pub(crate) fn encoded_point(
    filter: u64,
    complete: bool,
    place: Option<(u64, u64)>,
    context: Option<&ReceivedContext>,
) -> Vec<u8> {
    let of_one =
        |(writer, received): (u64, &Received)| (writer, received.seen.as_slice().to_vec(), received.held);
    let context = context.map(|context| context.attachments().map(of_one).collect());
    let mut point = Encoded { filter, complete, place, context };
    let bytes = codec::encode(&point);
    if bytes.len() <= ResumePoint::MAX_BYTES {
        return bytes;
    }
    point.context = None;
    codec::encode(&point)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::mix;

    fn point(attachments: u64) -> ResumePoint {
        let mut context = ReceivedContext::default();
        for writer in 0..attachments {
            context.toggle(WriteId { writer: mix(writer), number: 1 });
            context.of(mix(writer)).seen.insert_range(1, 7);
        }
        ResumePoint { filter: 7, place: Some((u64::MAX, 3)), context: Some(context), complete: true }
    }

    #[test]
    fn a_point_survives_its_bytes_and_is_bounded() {
        let small = point(100);
        let read = ResumePoint::from_bytes(&small.to_bytes()).unwrap();
        assert_eq!((read.filter, read.place, read.complete), (7, Some((u64::MAX, 3)), true));
        let (read, small) = (read.context.unwrap(), small.context.unwrap());
        for (writer, received) in small.attachments() {
            let read = read.get(writer).unwrap();
            assert_eq!((&read.seen, read.held), (&received.seen, received.held));
        }
        let large = point(1000).to_bytes();
        assert!(large.len() < ResumePoint::MAX_BYTES);
        assert_eq!(ResumePoint::from_bytes(&large).unwrap().context, None);
        assert_eq!(ResumePoint::from_bytes(&[0; ResumePoint::MAX_BYTES + 1]), Err(ResumePointError));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(point) = ResumePoint::from_bytes(&bytes) {
                let again = ResumePoint::from_bytes(&point.to_bytes());
                prop_assert_eq!(again, Ok(point));
            }
        }
    }
}
