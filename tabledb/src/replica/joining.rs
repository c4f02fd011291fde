//! Joining and leaving networks.

use std::sync::Arc;
use std::time::Instant;

use super::network::Network;
use super::{Event, Replica, Stream, Transmit};
use crate::{JoinError, LeaveError};

impl Replica {
    /// Joins a network. It can be used at once; [`Event::NetworkReady`] reports that this node holds what the
    /// other members hold.
    pub fn join_network(&mut self, network: &str, now: Instant) -> Result<(), JoinError> {
        self.now = now;
        let limits = &self.node.config.limits;
        let allowed = 1..=limits.name_bytes;
        if !allowed.contains(&network.len()) {
            return Err(JoinError::Length { found: network.len(), allowed });
        }
        if self.by_name.contains_key(network) {
            return Err(JoinError::AlreadyJoined { network: network.to_owned() });
        }
        if self.by_name.len() >= limits.networks {
            return Err(JoinError::TooManyNetworks { limit: limits.networks });
        }
        let name: Arc<str> = network.into();
        let epoch = self.node.owners.join(name.clone());
        let network = Network::new(name.clone(), epoch, &mut self.node, now);
        self.ended.remove(&name);
        self.views.insert(name.clone(), network.store.view().clone());
        let at = self.networks.iter().position(Option::is_none).unwrap_or(self.networks.len());
        if at == self.networks.len() {
            self.networks.push(None);
            self.planned.push(now);
        }
        self.networks[at] = Some(network);
        self.by_name.insert(name, at);
        self.plan(at, now);
        self.announce_own_list(now);
        Ok(())
    }

    /// Starts to leave a network: it takes no more writes, runs a final sync with two members, then drops its
    /// tables and reports the final syncs in [`Event::NetworkLeft`]. Takes at most two seconds after capacity
    /// for the syncs is available, and at most thirty in all.
    pub fn leave_network(&mut self, network: &str, now: Instant) -> Result<(), LeaveError> {
        self.now = now;
        let not_joined = || LeaveError::NotJoined { network: network.to_owned() };
        let &at = self.by_name.get(network).ok_or_else(not_joined)?;
        let others = self.networks.iter().flatten().filter(|network| network.is_leaving()).count();
        let leaving =
            self.networks[at].as_mut().filter(|network| !network.is_leaving()).ok_or_else(not_joined)?;
        leaving.start_leaving(others, &mut self.node, now);
        if leaving.left(now) {
            self.finish_leaving(at, now);
        } else {
            self.plan(at, now);
        }
        self.node.wake = true;
        Ok(())
    }

    /// Leaves all networks without waiting for final syncs: writes that only this node knows are lost.
    pub fn leave_networks_at_once(&mut self, now: Instant) {
        self.now = now;
        for at in 0..self.networks.len() {
            if let Some(network) = &mut self.networks[at] {
                if !network.is_leaving() {
                    network.start_leaving(0, &mut self.node, now);
                }
                self.finish_leaving(at, now);
            }
        }
    }

    /// Drops the tables of a network; the shorter attachment list announces it to all members. No deletes are
    /// written for our entries: the list ends them, and deletes would only supersede more.
    pub(super) fn finish_leaving(&mut self, at: usize, now: Instant) {
        let Some(mut network) = self.networks[at].take() else { return };
        self.deadlines.remove(&(self.planned[at], at));
        self.by_name.remove(&network.name);
        self.node.owners.leave(&network.name);
        self.node.forgotten_owners.drop_network(&network.name);
        // The sessions of this network refer to the ended attachment and to indexes of this store. A new
        // attachment may begin before they end, so they end now.
        for (&stream, state) in &mut self.streams {
            if let Stream::Session(session) = state
                && session.progress.network == network.name
                && session.abandon(&self.node.owners)
            {
                // No other input would make the stream finish.
                self.node.outbox.push_back(Transmit::WakeStream { stream });
            }
        }
        self.node.requests.forget_network(&network.name);
        let (name, final_syncs) = (network.name.to_string(), network.final_syncs());
        self.node.events.push_back(Event::NetworkLeft { network: name, final_syncs });
        if self.node.watchers.is_closed() {
            // A proxy may be reading: an empty table would make it drop every backend.
            self.ended.insert(network.name.clone(), network);
        } else {
            network.store.clear(&mut self.node.watchers);
            self.views.remove(&network.name);
        }
        self.announce_own_list(now);
    }
}
