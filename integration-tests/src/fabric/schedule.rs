//! The heap of scheduled events, ordered by time and then by insertion.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Schedule<T> {
    heap: BinaryHeap<Item<T>>,
    next_number: u64,
}

#[derive(Debug)]
struct Item<T> {
    at: Duration,
    number: u64,
    what: T,
}

impl<T> Schedule<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), next_number: 0 }
    }

    pub(super) fn push(&mut self, at: Duration, what: T) {
        self.heap.push(Item { at, number: self.next_number, what });
        self.next_number += 1;
    }

    /// The earliest item if it is due at `until` or before.
    pub(super) fn pop_until(&mut self, until: Duration) -> Option<(Duration, T)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|item| (item.at, item.what))
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|item| item.at)
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

// Reversed, because the heap hands out its greatest item.
impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Item<T> {}
