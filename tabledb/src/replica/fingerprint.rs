//! The fingerprint of the content of a network's store.

use std::collections::{BTreeMap, BTreeSet};

use super::attachment::Attachment;
use crate::record::AttachmentIndex;

/// The combined digest of all attachments. Every probe and every report of watermarks asks for it, while a
/// few of many attachments change: only those are digested again.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Fingerprint {
    /// The combined digest of the attachments that are up to date in it.
    of_counted: u64,
    /// The other attachments.
    uncounted: BTreeSet<AttachmentIndex>,
}

impl Fingerprint {
    /// An attachment has started.
    pub(super) fn add(&mut self, index: AttachmentIndex) {
        self.uncounted.insert(index);
    }

    /// An attachment changes: a number is seen, or a record is overwritten.
    pub(super) fn invalidate(&mut self, index: AttachmentIndex, attachment: &mut Attachment) {
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

    /// The combined digest of the attachments that are up to date in it, for checks.
    pub(super) fn of_counted(&self) -> u64 {
        self.of_counted
    }

    /// Adds the attachments that have changed.
    pub(super) fn bring_current(&mut self, attachments: &mut BTreeMap<AttachmentIndex, Attachment>) -> u64 {
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
