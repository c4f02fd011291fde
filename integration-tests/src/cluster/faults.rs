//! The faults of a cluster.

use std::time::Duration;

use tabledb::Limits;

use super::{Cluster, Peer};
use crate::fabric::{Ending, HeldDatagram, Link, Location, Message, RuleId, Verdict};

/// How long a message may be under way over such a link: it is retransmitted until it arrives, and
/// queues on a narrow link. A frame of a stream also waits until a cut ends that is shorter than
/// the idle timeout of its connection, which is ten seconds.
pub(super) fn under_way_over(link: &Link) -> Duration {
    Duration::from_secs(if link.bandwidth.is_some() { 70 } else { 15 })
}

impl Cluster {
    /// Ends the process without notice; the others detect it by timeouts.
    pub fn crash(&mut self, peer: Peer) {
        self.end_instance(peer, Ending::Crash);
    }

    /// Ends the process; its host resets its connections.
    pub fn kill(&mut self, peer: Peer) {
        self.end_instance(peer, Ending::Reset);
    }

    /// Starts a node that has ended as a new instance.
    pub fn restart(&mut self, peer: Peer, seeds: &[Peer]) {
        self.start_instance(peer, seeds);
    }

    /// The node leaves the cluster gracefully; its process ends when it has.
    pub fn leave(&mut self, peer: Peer) {
        self.note_on(peer, "leaves the cluster".into());
        let id = self.id(peer);
        self.instance_mut(peer).leaving = true;
        self.ledger.instance_ended(&id);
        self.drive(peer, |machine, now| machine.leave(now));
    }

    /// Pauses the process.
    pub fn pause(&mut self, peer: Peer) {
        let endpoint = self.instance(peer).endpoint;
        self.fabric.pause(endpoint);
        let now = self.now();
        self.nodes[peer.0].paused_at.get_or_insert(now);
    }

    /// Resumes the process.
    pub fn resume(&mut self, peer: Peer) {
        let endpoint = self.instance(peer).endpoint;
        self.fabric.resume(endpoint);
        self.end_pause(peer);
    }

    /// Records for how long a process was paused.
    pub(super) fn end_pause(&mut self, peer: Peer) {
        let now = self.now();
        let node = &mut self.nodes[peer.0];
        if let Some(paused_at) = node.paused_at.take() {
            node.total_pause += now - paused_at;
        }
    }

    /// Whether the node has limits of its own.
    pub fn has_limits(&self, peer: Peer) -> bool {
        self.nodes[peer.0].limits != Limits::default()
    }

    /// Sets the limits of a node's tables, for its next instance.
    pub fn set_limits(&mut self, peer: Peer, limits: Limits) {
        self.nodes[peer.0].limits = limits;
    }

    /// Cuts all links between nodes of different sides; within each side nothing is cut.
    pub fn partition(&mut self, sides: &[&[Peer]]) {
        let mut pairs = Vec::new();
        for (index, side) in sides.iter().enumerate() {
            for other in sides.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, side)| side) {
                for from in *side {
                    pairs.extend(other.iter().map(|to| (self.location(*from), self.location(*to))));
                }
            }
        }
        let names: Vec<Vec<_>> =
            sides.iter().map(|side| side.iter().map(|peer| self.name(*peer).clone()).collect()).collect();
        self.fabric.note(None, format!("partition {names:?}"));
        self.fabric.cut(pairs);
    }

    /// Cuts the link between two nodes, both ways.
    pub fn cut(&mut self, a: Peer, b: Peer) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts the link from one node to the other.
    pub fn cut_one_way(&mut self, from: Peer, to: Peer) {
        self.fabric.note(None, format!("cut {} → {}", self.name(from), self.name(to)));
        self.fabric.cut([(self.location(from), self.location(to))]);
    }

    /// Mends the link between two nodes, both ways.
    pub fn mend(&mut self, a: Peer, b: Peer) {
        self.fabric.note(None, format!("mend {} – {}", self.name(a), self.name(b)));
        let (a, b) = (self.location(a), self.location(b));
        self.fabric.mend([(a, b), (b, a)]);
    }

    /// Mends every cut.
    pub fn heal(&mut self) {
        self.fabric.note(None, "heal".into());
        self.fabric.mend_all();
    }

    /// Sets the conditions of every link.
    pub fn set_links(&mut self, link: Link) {
        self.under_way = self.under_way.max(under_way_over(&link));
        self.fabric.set_all_links(link);
    }

    /// Asks `decide` about every message from now on.
    pub fn rule(&mut self, decide: impl FnMut(&Message<'_>) -> Verdict + 'static) -> RuleId {
        // It may withhold messages for any time.
        self.under_way = Duration::from_secs(24 * 3600);
        self.fabric.add_rule(decide)
    }

    /// Applies this verdict to all table messages from one node to another. Streams cannot be held:
    /// they break instead.
    pub fn on_tables(&mut self, from: Peer, to: Peer, verdict: Verdict) -> RuleId {
        let (from, to) = (self.location(from), self.location(to));
        self.rule(move |message| match message.is_for_tables() && message.from == from && message.to == to {
            true if verdict == Verdict::Hold && message.first => Verdict::Drop,
            true => verdict,
            false => Verdict::Pass,
        })
    }

    /// Drops table messages between a node and others, both ways; membership messages pass.
    pub fn isolate_tables(&mut self, peer: Peer, others: &[Peer]) -> Vec<RuleId> {
        let pairs: Vec<_> = others.iter().flat_map(|other| [(*other, peer), (peer, *other)]).collect();
        pairs.into_iter().map(|(from, to)| self.on_tables(from, to, Verdict::Drop)).collect()
    }

    /// Removes several rules.
    pub fn remove_rules(&mut self, rules: Vec<RuleId>) {
        for rule in rules {
            self.remove_rule(rule);
        }
    }

    /// Removes a rule.
    pub fn remove_rule(&mut self, rule: RuleId) {
        self.fabric.remove_rule(rule);
    }

    /// The datagrams that rules withheld, oldest first.
    pub fn take_held(&mut self) -> Vec<HeldDatagram> {
        self.fabric.take_held()
    }

    /// Delivers a withheld datagram now; it may be called several times for one.
    pub fn deliver(&mut self, held: &HeldDatagram) {
        self.fabric.deliver(held);
    }

    /// Breaks every stream between two nodes; returns how many there were.
    pub fn break_streams(&mut self, a: Peer, b: Peer) -> usize {
        let (a, b): (Location, Location) = (self.location(a), self.location(b));
        self.fabric.break_streams_between(a, b)
    }

    /// How long a message may have been under way when a node receives it: messages wait while the
    /// receiver is paused, and may be relayed after that.
    pub(super) fn longest_under_way(&self) -> Duration {
        self.under_way + self.nodes.iter().map(|node| node.total_pause).sum::<Duration>()
    }
}
