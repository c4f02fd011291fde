//! One number for everything a network's store holds.

use std::collections::{BTreeMap, BTreeSet};

use super::store::Attachment;
use super::view::AttachmentIndex;

/// The digests of all attachments in one. It is asked for with every probe and every head, in the middle of writes to a few
/// of many attachments: only those are looked at again.
#[derive(Debug, Default)]
pub(super) struct Fingerprint {
    /// Of the attachments that have a part in it.
    of_counted: u64,
    /// The others.
    uncounted: BTreeSet<AttachmentIndex>,
}

impl Fingerprint {
    /// An attachment has been taken up.
    pub(super) fn add(&mut self, index: AttachmentIndex) {
        self.uncounted.insert(index);
    }

    /// An attachment changes: its context grows, or a record of it is overwritten.
    pub(super) fn disturb(&mut self, index: AttachmentIndex, attachment: &mut Attachment) {
        if let Some(part) = attachment.counted.take() {
            self.of_counted ^= part;
            self.uncounted.insert(index);
        }
    }

    /// An attachment has ended.
    pub(super) fn remove(&mut self, index: AttachmentIndex, attachment: &Attachment) {
        match attachment.counted {
            Some(part) => self.of_counted ^= part,
            None => drop(self.uncounted.remove(&index)),
        }
    }

    /// Counts what is not counted.
    pub(super) fn bring_up_to_date(
        &mut self,
        attachments: &mut BTreeMap<AttachmentIndex, Attachment>,
    ) -> u64 {
        for index in std::mem::take(&mut self.uncounted) {
            if let Some(attachment) = attachments.get_mut(&index) {
                let part = attachment.digest();
                attachment.counted = Some(part);
                self.of_counted ^= part;
            }
        }
        self.of_counted
    }
}
