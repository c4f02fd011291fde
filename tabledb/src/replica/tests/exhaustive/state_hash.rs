//! The hash of everything in a replica, by which the exploration recognises a state.
//!
//! Types that hold plain data derive [`Hash`] in tests. The others destructure themselves without `..`, so that
//! a new field does not compile until it is decided whether it belongs to the state.

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::Xxh3;

use crate::replica::Replica;
use crate::replica::node_state::NodeState;

/// A hash of 128 bits: among millions of states, two with the same one are not to be expected.
pub(super) fn hash128(value: &impl Hash) -> u128 {
    let mut hash = Xxh3::new();
    value.hash(&mut hash);
    hash.digest128()
}

impl Hash for Replica {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            node,
            networks,
            by_name,
            ended,
            deadlines,
            planned,
            views,
            streams,
            next_stream,
            list_gossip,
            list_peers,
            lists_comparing,
            lists_compared,
            lists_unchanged_since,
            unlisted_at,
            unlisted_asked,
            deferred,
            now,
        } = self;
        // In order of their names: these maps have no order.
        let mut by_name: Vec<_> = by_name.iter().collect();
        by_name.sort_unstable();
        let mut views: Vec<_> = views.iter().collect();
        views.sort_unstable_by(|one, other| one.key().cmp(other.key()));
        views.len().hash(state);
        views.iter().for_each(|view| view.pair().hash(state));
        (node, networks, by_name, ended, deadlines, planned).hash(state);
        (streams, next_stream, list_gossip, list_peers).hash(state);
        (lists_comparing, lists_compared, lists_unchanged_since).hash(state);
        (unlisted_at, unlisted_asked, deferred, now).hash(state);
    }
}

impl Hash for NodeState {
    /// Without the generator, which is seeded before each step, and without what is only reported.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            config,
            clock,
            rng: _,
            owners,
            connections,
            forgotten_owners,
            watchers,
            outbox,
            requests,
            events,
            counters: _,
            latencies: _,
            skews,
            arrivals: _,
            wake: _,
        } = self;
        (config, clock, owners, connections, forgotten_owners, watchers).hash(state);
        (outbox, requests, events, skews).hash(state);
    }
}
