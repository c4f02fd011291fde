//! How the latest writes came to this node.
//!
//! An entry itself has no place for it: eight bytes more for each of a million entries would be eight megabytes for a
//! question that is asked about a few.

use std::collections::VecDeque;
use std::time::Instant;

use wire::NodeName;

use crate::record::Record;
use crate::{Arrival, ArrivalPath, Version};

/// The number of arrivals that are kept, of all networks together: less than half a megabyte.
const MAX_ARRIVALS: usize = 4096;

#[derive(Debug)]
struct Kept {
    /// The writer's digest and the number of the write, which identify it.
    write: (u64, u64),
    at: Instant,
    path: ArrivalPath,
    from: Option<NodeName>,
    replaced: Option<(Version, NodeName)>,
}

/// The latest arrivals.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(VecDeque<Kept>);

impl Arrivals {
    /// A write has taken its place under its key.
    pub(crate) fn note(
        &mut self,
        write: (u64, u64),
        path: ArrivalPath,
        from: Option<&NodeName>,
        replaced: Option<&Record>,
        now: Instant,
    ) {
        if self.0.len() == MAX_ARRIVALS {
            self.0.pop_front();
        }
        let replaced = replaced.map(|record| (record.version(), record.tag().owner.name.clone()));
        self.0.push_back(Kept { write, at: now, path, from: from.cloned(), replaced });
    }

    /// How a write arrived, if that is still kept.
    pub(super) fn find(&self, version: Version, now: Instant) -> Option<Arrival> {
        let kept = self.0.iter().rev().find(|kept| kept.write == (version.writer, version.number))?;
        Some(Arrival {
            path: kept.path,
            from: kept.from.clone(),
            age: Some(now.saturating_duration_since(kept.at)),
            replaced: kept.replaced.clone(),
        })
    }
}
