//! Seeds: addresses through which a node joins the cluster and finds it again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::IndexedRandom;
use wire::{Destination, NodeId, NodeName, StreamId};

use crate::event::{Event, SeedFailure};
use crate::message::Occasion;
use crate::timers::Timer;

use super::Membership;

/// An address given to `join`.
#[derive(Debug)]
pub(super) struct Seed {
    /// The stream of the current attempt.
    stream: Option<StreamId>,
    /// When the attempts end; `None` while none are made.
    until: Option<Instant>,
    /// The delay before the next attempt.
    pause: Duration,
    /// Whether its failure was reported since the attempts began.
    failure_reported: bool,
    /// The node that answered there last.
    name: Option<NodeName>,
    /// Whether this address turned out to be this node.
    ourselves: bool,
}

impl Membership {
    pub(super) fn replace_seeds(&mut self, addresses: &[SocketAddr], now: Instant) {
        if self.leaving.is_some() {
            self.return_from_leaving(now);
        }
        let wanted = addresses.iter().copied().take(self.config.max_seeds).collect::<BTreeSet<_>>();
        for gone in self.seeds.keys().copied().filter(|address| !wanted.contains(address)).collect::<Vec<_>>()
        {
            self.timers.cancel(&Timer::SeedRetry(gone));
            self.seeds.remove(&gone);
        }
        for address in wanted {
            let pause = self.config.join_retry;
            let seed = self.seeds.entry(address).or_insert(Seed {
                stream: None,
                until: None,
                pause,
                failure_reported: false,
                name: None,
                ourselves: false,
            });
            seed.until = None;
            seed.failure_reported = false;
            seed.pause = pause;
            self.try_seed(address, now);
        }
    }

    /// Starts the attempts to reach a seed.
    fn try_seed(&mut self, address: SocketAddr, now: Instant) {
        let until = now + self.config.join_timeout;
        if address == self.me.record.address {
            let reason = SeedFailure::Ourselves;
            self.events.push_back(Event::SeedFailed { address, reason, retrying: false });
            return;
        }
        if let Some(seed) = self.seeds.get_mut(&address) {
            seed.until = Some(until);
            seed.failure_reported = false;
            seed.pause = self.config.join_retry;
        }
        self.contact_seed(address, now);
    }

    pub(super) fn contact_seed(&mut self, address: SocketAddr, now: Instant) {
        self.timers.cancel(&Timer::SeedRetry(address));
        let Some(seed) = self.seeds.get(&address) else { return };
        if seed.stream.is_some_and(|stream| self.exchanges.contains_key(&stream)) || self.leaving.is_some() {
            return;
        }
        tracing::debug!(node = %self.me.record.id, %address, "contacting a seed");
        let to = Destination { name: None, address };
        let stream = self.send_hello(to, Occasion::Join, Some(address), None, now);
        if let Some(seed) = self.seeds.get_mut(&address) {
            seed.stream = Some(stream);
        }
    }

    pub(super) fn seed_answered(&mut self, address: SocketAddr, id: NodeId, now: Instant) {
        // Members that the seed has not informed yet receive the update from this node.
        self.announce();
        let Some(seed) = self.seeds.get_mut(&address) else { return };
        seed.stream = None;
        seed.until = None;
        seed.name = Some(id.name.clone());
        tracing::info!(
            node = %self.me.record.id, seed = %id, %address, members = self.alive_count(), "joined"
        );
        let of_others =
            self.seeds.values().filter_map(|seed| seed.name.clone()).filter(|name| *name != id.name);
        let others = of_others.collect::<BTreeSet<_>>();
        if !others.is_empty() {
            // Seeds that did not know each other meet through this node: a joining node does not
            // gossip what it learns, so neither received the other. If they knew each other, the
            // digests are equal and nothing more is sent.
            for name in others.iter().chain([&id.name]) {
                self.sync_with(name, Occasion::Sync, None, now);
            }
        }
        self.events.push_back(Event::SeedAnswered { address, id });
    }

    /// The seed must probe the current owner of the name first.
    pub(super) fn seed_pending(&mut self, address: SocketAddr, millis: u32, now: Instant) {
        if let Some(seed) = self.seeds.get_mut(&address) {
            let wait = Duration::from_millis(millis.into()).min(self.config.join_timeout);
            seed.stream = None;
            self.timers.set(Timer::SeedRetry(address), now + wait);
        }
    }

    pub(super) fn seed_failed(
        &mut self,
        address: SocketAddr,
        stream: StreamId,
        reason: SeedFailure,
        now: Instant,
    ) {
        let Some(seed) = self.seeds.get_mut(&address) else { return };
        if seed.stream != Some(stream) {
            // An older attempt, or one whose retry is already scheduled.
            return;
        }
        seed.stream = None;
        seed.ourselves = reason == SeedFailure::Ourselves;
        let Some(until) = seed.until else { return };
        if reason == SeedFailure::Ourselves {
            seed.until = None;
            self.events.push_back(Event::SeedFailed { address, reason, retrying: false });
            return;
        }
        let pause = match reason {
            // The later instance it asked for has been started.
            SeedFailure::Outdated => Duration::from_millis(1),
            // Nodes that start together and are refused together must not retry together: of a
            // thousand, a seed would admit as many as its limit allows and then be idle until all
            // others retry after twice the delay.
            _ => seed.pause.mul_f64(self.rng.random_range(0.5..=1.0)),
        };
        seed.pause = (seed.pause * 2).min(self.config.join_retry_max);
        let retry_at = now + pause;
        let alone = self.roster.active().len() == 0;
        // A node without members continues its attempts.
        let over = retry_at >= until;
        let retrying = alone || !over;
        if over {
            seed.until = alone.then_some(until + self.config.join_timeout);
        }
        let report = over || !std::mem::replace(&mut seed.failure_reported, true);
        if retrying {
            self.timers.set(Timer::SeedRetry(address), retry_at);
        }
        if report && reason != SeedFailure::Outdated {
            tracing::info!(node = %self.me.record.id, seed = %address, %reason, retrying, "seed failed");
            self.events.push_back(Event::SeedFailed { address, reason, retrying });
        }
    }

    /// If no seed is a member, this node may be in an isolated group: contact the seeds again.
    pub(super) fn rejoin(&mut self, now: Instant) {
        self.timers.set(Timer::Rejoin, now + self.config.rejoin_interval);
        if self.seeds.is_empty() || self.leaving.is_some() || !self.seeds_present().is_empty() {
            return;
        }
        self.events.push_back(Event::SeedsMissing);
        let idle = self.seeds.iter().filter(|(_, seed)| seed.until.is_none()).map(|(address, _)| *address);
        for address in idle.collect::<Vec<_>>() {
            if address != self.me.record.address {
                self.try_seed(address, now);
            }
        }
    }

    /// Contacts a random seed that is not a member, once and without reporting a failure. If all
    /// nodes of both sides restarted during a partition, no node knows a node of the other side,
    /// and each side may have some seeds as members: only the addresses of the other seeds lead to
    /// the other side.
    pub(super) fn contact_missing_seed(&mut self, now: Instant) {
        self.timers.set(Timer::SeedCheck, now + self.config.seed_interval);
        let present = self.seeds_present();
        let missing = self.seeds.iter().filter(|(address, seed)| {
            seed.until.is_none()
                && !seed.ourselves
                && **address != self.me.record.address
                && !present.contains(address)
        });
        let missing = missing.map(|(address, _)| *address).collect::<Vec<_>>();
        if let Some(address) = missing.choose(&mut self.rng) {
            self.contact_seed(*address, now);
        }
    }

    /// Whether this node is where it was sent by [`Self::join`]: a seed has answered, another member is known, or
    /// all seeds are this node itself. False before the first `join`.
    pub fn is_joined(&self) -> bool {
        let is_own =
            |(address, seed): (&SocketAddr, &Seed)| seed.ourselves || *address == self.me.record.address;
        self.roster.active().len() > 0
            || self.seeds.values().any(|seed| seed.name.is_some())
            || (!self.seeds.is_empty() && self.seeds.iter().all(is_own))
    }

    /// The seeds that are members, identified by their address or by the name of the node that
    /// answered there.
    fn seeds_present(&self) -> BTreeSet<SocketAddr> {
        let is_active = |name: &NodeName| self.roster.is_active(name.as_str());
        let by_name = self.seeds.iter().filter(|(_, seed)| seed.name.as_ref().is_some_and(is_active));
        let mut present = by_name.map(|(address, _)| *address).collect::<BTreeSet<_>>();
        if present.len() < self.seeds.len() {
            let active = self.roster.after(None).filter(|entry| entry.member.state.is_active());
            let addresses = active.map(|entry| entry.member.record.address);
            present.extend(addresses.filter(|address| self.seeds.contains_key(address)));
        }
        present
    }
}
