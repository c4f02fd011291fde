//! Advancing virtual time, and waiting for conditions.

use std::collections::BTreeSet;
use std::time::Duration;

use membership::State;

use super::{Cluster, Key, MILLISECOND, Peer};

impl Cluster {
    /// Advances virtual time by this much.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now() + duration;
        while self.step(until) {}
    }

    /// Advances time until `condition` holds, checked after every millisecond with an event.
    /// Returns how long it took.
    ///
    /// # Panics
    ///
    /// If it does not hold `within` that time; `what` names the condition.
    #[track_caller]
    pub fn run_until(
        &mut self,
        what: &str,
        within: Duration,
        mut condition: impl FnMut(&Cluster) -> bool,
    ) -> Duration {
        match self.try_run_until(within, &mut condition) {
            Some(taken) => taken,
            None => {
                let views = self.views();
                self.note(&views);
                panic!("after {within:?} this does not hold: {what}")
            }
        }
    }

    /// The same, with `None` if it does not hold in time.
    pub fn try_run_until(
        &mut self,
        within: Duration,
        mut condition: impl FnMut(&Cluster) -> bool,
    ) -> Option<Duration> {
        let start = self.now();
        let deadline = start + within;
        loop {
            if condition(self) {
                return Some(self.now() - start);
            }
            if self.now() >= deadline {
                return None;
            }
            let next = self.fabric.next_at().unwrap_or(deadline).max(self.now());
            // At the end of the millisecond of the next event.
            let millisecond = (next - start).as_millis() as u32 + 1;
            let tick = (start + MILLISECOND * millisecond).min(deadline);
            while self.step(tick) {}
        }
    }

    /// Whether a node's members are exactly these, itself included, without suspicions.
    pub fn agrees_on_members(&self, peer: Peer, members: &[Peer]) -> bool {
        let wanted: BTreeSet<_> = members
            .iter()
            .filter(|member| self.is_running(**member))
            .map(|member| self.id(*member))
            .collect();
        let held =
            self.instance(peer).machine.membership().members().filter(|member| member.state.is_active());
        let mut count = 0;
        for member in held {
            count += 1;
            if member.state != State::Alive || !wanted.contains(&member.record.id) {
                return false;
            }
        }
        count == wanted.len()
    }

    /// Whether the members of all of them are exactly these, without suspicions.
    pub fn all_agree_on_members(&self, peers: &[Peer]) -> bool {
        // Comparing all members is expensive in large clusters; while the fingerprints differ it is
        // unnecessary.
        let digest = |peer: &Peer| self.instance(*peer).machine.membership().digest();
        let Some(first) = peers.first() else { return true };
        let reference = digest(first);
        peers.iter().all(|peer| digest(peer) == reference)
            && peers.iter().all(|peer| self.agrees_on_members(*peer, peers))
    }

    /// The members that each running node knows, one node a line.
    pub fn views(&self) -> String {
        let mut text = String::from("the members that each node knows");
        for peer in self.running() {
            let membership = self.instance(peer).machine.membership();
            let seen: Vec<String> =
                membership.members().map(|member| format!("{} {}", member.record.id, member.state)).collect();
            let (health, stalls) = (membership.health_score(), membership.statistics().stalls);
            text.push_str(&format!(
                "\n    {}, health {health}, {stalls} stalls: {}",
                self.id(peer),
                seen.join(", ")
            ));
        }
        text
    }

    /// The state of a node as another knows it, by name; `None` if unknown.
    pub fn state_of(&self, observer: Peer, subject: Peer) -> Option<State> {
        let name = self.name(subject);
        self.instance(observer).machine.membership().member(name.as_str()).map(|member| member.state)
    }

    /// Waits until each of them holds exactly all of them for alive.
    #[track_caller]
    pub fn await_members(&mut self, peers: &[Peer], within: Duration) -> Duration {
        self.run_until("all agree on the members", within, |cluster| cluster.all_agree_on_members(peers))
    }

    /// Waits until each of them shows this value under the key.
    #[track_caller]
    pub fn await_shown(&mut self, peers: &[Peer], key: Key<'_>, value: &str, within: Duration) -> Duration {
        self.run_until(&format!("{} show {key} = {value}", self.names(peers)), within, |cluster| {
            peers.iter().all(|peer| cluster.shows(*peer, key, value))
        })
    }

    /// Waits until none of them shows anything under the key.
    #[track_caller]
    pub fn await_absent(&mut self, peers: &[Peer], key: Key<'_>, within: Duration) -> Duration {
        self.run_until(&format!("{} show nothing under {key}", self.names(peers)), within, |cluster| {
            peers.iter().all(|peer| cluster.value(*peer, key).is_none())
        })
    }

    /// Waits until all members of a network show the same.
    #[track_caller]
    pub fn await_agreement(&mut self, network: &str, within: Duration) -> Duration {
        let result = self.try_run_until(within, |cluster| cluster.disagreement(network).is_none());
        match result {
            Some(taken) => taken,
            None => {
                let difference = self.disagreement(network).unwrap_or_default();
                let table_dump = self.table_dump(network);
                self.note(&table_dump);
                panic!("after {within:?} the members of {network} do not agree: {difference}");
            }
        }
    }

    /// The first difference between the entries that members of a network show, as text.
    pub fn disagreement(&self, network: &str) -> Option<String> {
        let members = self.members_of(network);
        let (first, others) = members.split_first()?;
        // Comparing digests is quick; that equal digests mean equal entries is checked at the end
        // of each history.
        let digest =
            |peer: Peer| self.instance(peer).tables.statistics(network).map(|statistics| statistics.digest);
        let reference = digest(*first);
        let other = others.iter().find(|other| digest(**other) != reference)?;
        Some(self.difference(network, *first, *other))
    }

    /// The state of each attachment on the members of a network, one a line.
    pub fn table_dump(&self, network: &str) -> String {
        let mut text = format!("the tables of {network}");
        for peer in self.members_of(network) {
            let Some(state) = self.instance(peer).machine.replica().inspect(network, self.instant(peer))
            else {
                continue;
            };
            let on_it = self.instance(peer).tables.network_peers(network);
            text.push_str(&format!("\n    {}: on it are {on_it:?}", self.name(peer)));
            for held in state.attachments.values() {
                text.push_str(&format!(
                    "\n    {}: {}@{} seen {:?} live {:?} {}",
                    self.name(peer),
                    held.owner,
                    held.epoch,
                    held.seen.as_slice(),
                    held.live,
                    held.shown
                ));
            }
        }
        text
    }

    pub(crate) fn difference(&self, network: &str, a: Peer, b: Peer) -> String {
        let (left, right) = (self.visible(a, network), self.visible(b, network));
        let text = |shown: Option<&(Vec<u8>, String)>| match shown {
            None => "nothing".to_owned(),
            Some((value, owner)) => {
                format!("{:?} of {owner}", String::from_utf8_lossy(&value[..value.len().min(40)]))
            }
        };
        let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
        let mut differing = keys.into_iter().filter(|key| left.get(*key) != right.get(*key));
        let Some(key) = differing.next() else {
            return format!("{} and {} show the same entries but other digests", self.name(a), self.name(b));
        };
        format!(
            "{}/{}: {} on {}, {} on {}, and {} more keys",
            key.0,
            key.1,
            text(left.get(key)),
            self.name(a),
            text(right.get(key)),
            self.name(b),
            differing.count()
        )
    }

    /// Waits until the running nodes agree on the members, and each has completed the initial sync
    /// of every network it joined.
    #[track_caller]
    pub fn settle(&mut self) -> Duration {
        let peers = self.running();
        self.run_until("the cluster has settled", Duration::from_secs(120), |cluster| {
            let is_on_all = |peer: &Peer| {
                let instance = cluster.instance(*peer);
                instance.joined.iter().all(|network| instance.ready.contains(network))
            };
            let sees_all_attachments = |peer: &Peer| {
                let instance = cluster.instance(*peer);
                let listed = |network: &String| instance.tables.network_peers(network).len();
                instance.joined.iter().all(|network| listed(network) == cluster.members_of(network).len())
            };
            peers.iter().all(is_on_all)
                && cluster.all_agree_on_members(&peers)
                && peers.iter().all(sees_all_attachments)
        })
    }

    fn names(&self, peers: &[Peer]) -> String {
        let names: Vec<&str> = peers.iter().map(|peer| self.name(*peer).as_str()).collect();
        names.join(", ")
    }
}
