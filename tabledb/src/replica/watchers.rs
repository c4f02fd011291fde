//! The sending side of watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, TrySendError};
use wire::NodeName;

use crate::{Change, ChangeKind, DeleteReason, WatchFilter};

impl WatchFilter {
    fn wants_network(&self, network: &str) -> bool {
        self.network.as_deref().is_none_or(|wanted| wanted == network)
    }

    /// Whether a change of an entry of `owner` is to be seen by this watcher on the node `me`.
    pub(crate) fn wants(&self, network: &str, table: &str, owner: &NodeName, me: &NodeName) -> bool {
        self.wants_network(network)
            && self.table.as_deref().is_none_or(|wanted| wanted == table)
            && !(self.exclude_own && owner == me)
    }
}

#[derive(Debug)]
struct Watcher {
    filter: WatchFilter,
    sender: Sender<Change>,
    /// Set when the channel was full. Nothing more is sent until the watcher has taken a fresh snapshot.
    lagged: Arc<AtomicBool>,
}

/// Everyone who follows changes on this replica. Never waits for any of them.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: Vec<Watcher>,
    lagged: u64,
    closed: bool,
}

impl Watchers {
    pub(crate) fn add(&mut self, filter: WatchFilter, sender: Sender<Change>, lagged: Arc<AtomicBool>) {
        self.forget_gone();
        if self.closed {
            // Its channel goes with this call, which tells it.
            return;
        }
        self.watchers.push(Watcher { filter, sender, lagged });
    }

    /// Ends them all, and those that come later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.watchers.clear();
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.watchers.iter().filter(|watcher| Arc::strong_count(&watcher.lagged) > 1).count()
    }

    /// How often one fell behind.
    pub(crate) fn lagged(&self) -> u64 {
        self.lagged
    }

    /// Whether building a change of `network` is worth it.
    pub(crate) fn wants(&self, network: &str) -> bool {
        self.watchers.iter().any(|watcher| watcher.filter.wants_network(network))
    }

    /// Passes a change on to whoever wants it. `former_owner` owned the entry before, if there was one: for a watcher
    /// that leaves out our own entries, an entry that changes hands comes or goes.
    pub(crate) fn send(&mut self, change: Change, former_owner: Option<&NodeName>, me: &NodeName) {
        for watcher in &mut self.watchers {
            if watcher.lagged.load(Ordering::Acquire) {
                continue;
            }
            let filter = &watcher.filter;
            let before =
                former_owner.is_some_and(|owner| filter.wants(&change.network, &change.table, owner, me));
            let after =
                change.value.is_some() && filter.wants(&change.network, &change.table, &change.owner, me);
            let change = match (change.previous.is_some() && before, after) {
                (false, false) => continue,
                (true, true) => change.clone(),
                (false, true) => {
                    Change { kind: ChangeKind::Create, previous: None, reason: None, ..change.clone() }
                }
                (true, false) => {
                    let owner = former_owner.unwrap_or(&change.owner).clone();
                    let reason = change.reason.or(Some(DeleteReason::NowOwn));
                    Change { kind: ChangeKind::Delete, value: None, owner, reason, ..change.clone() }
                }
            };
            if let Err(TrySendError::Full(_)) = watcher.sender.try_send(change) {
                watcher.lagged.store(true, Ordering::Release);
                self.lagged += 1;
            }
        }
    }

    /// A watcher that was dropped holds its end of the flag no longer.
    pub(crate) fn forget_gone(&mut self) {
        self.watchers.retain(|watcher| Arc::strong_count(&watcher.lagged) > 1);
    }
}
