//! Subscriptions to membership's events, for programs that embed a node.

use membership::Event;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// The most events that wait for a subscription. A subscriber that falls further behind misses the oldest
/// ones.
const MAX_WAITING: usize = 1024;

/// An item of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipUpdate {
    /// An event of membership.
    Event(Event),
    /// The subscriber fell behind and missed events: read [`Node::members`](crate::Node::members), then go
    /// on.
    Lagged {
        /// How many events it missed.
        missed: u64,
    },
    /// The node has ended. Every further call returns this again.
    Closed,
}

/// Membership's events from the moment of [`Node::subscribe`](crate::Node::subscribe) on, in the order in
/// which they happened.
///
/// It does not keep the node running. Up to 1,024 events wait for it.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Event>);

impl Subscription {
    /// The next update, as soon as there is one. Cancel safe: a `select!` loop loses nothing.
    pub async fn next(&mut self) -> MembershipUpdate {
        match self.0.recv().await {
            Ok(event) => MembershipUpdate::Event(event),
            Err(RecvError::Lagged(missed)) => MembershipUpdate::Lagged { missed },
            Err(RecvError::Closed) => MembershipUpdate::Closed,
        }
    }
}

/// The node's end of all subscriptions.
#[derive(Debug)]
pub(crate) struct Publisher(Mutex<Option<broadcast::Sender<Event>>>);

impl Default for Publisher {
    fn default() -> Self {
        Self(Mutex::new(Some(broadcast::Sender::new(MAX_WAITING))))
    }
}

impl Publisher {
    pub(crate) fn subscribe(&self) -> Subscription {
        let sender = self.0.lock();
        // A receiver whose sender is gone yields that the node has ended.
        let receiver = sender.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe);
        Subscription(receiver)
    }

    pub(crate) fn publish(&self, event: &Event) {
        if let Some(sender) = &*self.0.lock()
            && sender.receiver_count() > 0
        {
            // It fails only if the last receiver has gone meanwhile.
            let _ = sender.send(event.clone());
        }
    }

    /// Ends all subscriptions. They yield first what waits for them.
    pub(crate) fn close(&self) {
        self.0.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use wire::{NodeId, NodeName};

    use super::*;

    fn failed(generation: u64) -> Event {
        Event::Failed(NodeId::new(NodeName::new("peer").unwrap(), generation))
    }

    #[tokio::test]
    async fn a_slow_subscriber_learns_how_many_events_it_missed() {
        let publisher = Publisher::default();
        let mut subscription = publisher.subscribe();
        let sent = MAX_WAITING as u64 + 10;
        (1..=sent).for_each(|generation| publisher.publish(&failed(generation)));
        assert_eq!(subscription.next().await, MembershipUpdate::Lagged { missed: 10 });
        assert_eq!(subscription.next().await, MembershipUpdate::Event(failed(11)));
    }

    #[tokio::test]
    async fn a_subscription_ends_after_the_last_event() {
        let publisher = Publisher::default();
        let mut subscription = publisher.subscribe();
        publisher.publish(&failed(1));
        publisher.close();
        assert_eq!(subscription.next().await, MembershipUpdate::Event(failed(1)));
        assert_eq!(subscription.next().await, MembershipUpdate::Closed);
        assert_eq!(subscription.next().await, MembershipUpdate::Closed);
        assert_eq!(publisher.subscribe().next().await, MembershipUpdate::Closed);
    }
}
