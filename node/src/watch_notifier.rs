//! The task that wakes the watchers of a node, so that the one who writes does not.

use tabledb::SleepingWatches;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::machine::NodeMachine;

/// How many watches are woken before other tasks have their turn.
const WOKEN_AT_ONCE: usize = 64;

/// Starts the task. It ends with the database, or when it is aborted: then the thread that makes a change wakes the
/// watches.
pub(crate) fn start(machine: &NodeMachine) -> JoinHandle<()> {
    // Bounded: a watch is in it once at most.
    let (sender, mut receiver) = mpsc::unbounded_channel::<SleepingWatches>();
    machine.set_watch_notifier(move |watches| {
        // Watches that no task receives are woken as they are dropped.
        let _ = sender.send(watches);
    });
    tokio::spawn(async move {
        while let Some(mut watches) = receiver.recv().await {
            while watches.wake(WOKEN_AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
    })
}
