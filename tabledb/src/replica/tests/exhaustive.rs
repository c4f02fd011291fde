//! Every history of a small world: three replicas, two of which write, under all interleavings of what may
//! happen.
//!
//! The replicas are the production ones, and their messages are really encoded. A state of the world
//! ([`world::World`]) consists of the states of the replicas, all datagrams ever sent, the streams with the
//! frames on their way, all writes ever made, and what may still happen. stateright tries each possible next
//! step of each state, and the promises ([`promises::Promise`]) are checked after each step.
//!
//! **What may happen**, up to the numbers in [`Bounds`]: a put or delete; any datagram ever sent arrives, in
//! any order, once, again, or never; a comparison between any two begins; one end of a stream sends its next
//! frame, the other receives it, later, or the stream breaks, first for one end, then for the other; the next
//! deadline of a replica is reached; the reap time passes; a node leaves and joins again; a node considers
//! another failed, and then alive again; a probe reports a newer list. And whatever state the world has
//! reached, it comes to agreement if nothing more goes wrong from then on, even if everything on its way is
//! lost ([`quiet`]).
//!
//! **What is left out.** Time is coarse, and each replica has its own: it advances only when deadlines are
//! reached and when the reap time passes, so a deadline can be reached late, never early. Deadlines more than
//! ten seconds away (the periodic comparison, sessions without progress) are not reached by time, but
//! triggered or cut at any point. Fingerprints are not attached to probes: the comparisons that they cause
//! begin at any time anyway. Fewer than nine nodes are on the network, so nothing is relayed; little is
//! written, so nothing is a backlog, and a comparison needs no descent. A stream has at most one frame each
//! way in it. No node is restarted or forgotten. Clocks agree at the start.
//!
//! **When two states are equal.** A replica's state is a hash of everything in it, without counters and
//! generator ([`state_hash`]); a field that is not hashed does not compile. The generator is seeded before each
//! step; where a step draws a partner, eight generators are tried, and each outcome counts.

mod content;
mod live;
mod moves;
mod promises;
mod quiet;
mod state_hash;
mod steps;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use world::{Action, Small, World};

const NODES: usize = 3;

/// The shortest allowed: sessions last several times as long.
const REAP_TIME: Duration = Duration::from_secs(1);

/// How much may happen in a world.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    name: &'static str,
    keys: u8,
    /// The nodes on the network at the start.
    joined: [bool; NODES],
    /// All begin with an entry that n0 has written.
    known_entry: bool,
    /// Puts and deletes of each node.
    writes: [u8; NODES],
    /// Deadlines that are reached, other than those two milliseconds away.
    timers: u8,
    /// How often the reap time passes, for one replica.
    reaps: u8,
    /// Streams that can be opened; further ones fail.
    streams: u8,
    /// Ends of streams that break by themselves.
    cuts: u8,
    leaves: u8,
    joins: u8,
    leavers: [bool; NODES],
    /// How often a node considers another failed, and as often alive again.
    failures: u8,
    /// Too many states for breadth-first search.
    is_deep: bool,
}

impl Bounds {
    /// A leave without a reachable member takes longer than the shortest reap time. Where nothing is to be
    /// reaped, the reap time is longer than that.
    fn reap_time(&self) -> Duration {
        if self.reaps == 0 && self.leaves > 0 { crate::replica::timing::LEAVE_LIMIT * 2 } else { REAP_TIME }
    }
}

/// All are on the network and hold an entry.
const KNOWN_ENTRY: Bounds = Bounds {
    name: "nothing happens",
    keys: 1,
    joined: [true; NODES],
    known_entry: true,
    writes: [0; NODES],
    timers: 0,
    reaps: 0,
    streams: 0,
    cuts: 0,
    leaves: 0,
    joins: 0,
    leavers: [true, false, false],
    failures: 0,
    is_deep: false,
};

const DEEP: Bounds = Bounds { is_deep: true, ..KNOWN_ENTRY };

/// Explores worlds to their ends, one after the other, and reports on them. The events in `met` must have
/// occurred, or the case that a world is built for was not tried.
fn explore(worlds: &[Bounds], met: &[&str]) {
    let mut sum = Sum::default();
    for &bounds in worlds {
        let begin = begin();
        // Depth first where breadth first would not fit the memory; breadth first finds the shortest history.
        let model = || Small::new(bounds).checker().finish_when(HasDiscoveries::AnyFailures);
        match bounds.is_deep {
            true => sum.add(model().spawn_dfs().join(), bounds, begin),
            false => sum.add(model().spawn_bfs().join(), bounds, begin),
        }
    }
    println!("{} worlds: {} states, {} of them different", worlds.len(), sum.states, sum.different);
    println!("met, each step of a replica counted once: {:?}", sum.met);
    for what in met {
        assert!(
            sum.met.contains_key(what),
            "no {what} occurred: the case that the world is built for was not tried"
        );
    }
}

#[derive(Default)]
struct Sum {
    states: usize,
    different: usize,
    met: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, checker: impl Checker<Small>, bounds: Bounds, begin: Instant) {
        let small = checker.model();
        let replicas = small.replicas.lock();
        println!(
            "{}: {} states, {} of them different, depth {}, in {:.1} s; {} states of a replica by {} steps ({} \
             replayed); {} endings",
            bounds.name,
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth(),
            begin.elapsed().as_secs_f64(),
            replicas.count(),
            replicas.steps,
            replicas.replayed,
            small.settlings.lock(),
        );
        self.states += checker.state_count();
        self.different += checker.unique_state_count();
        for (what, count) in &replicas.met {
            *self.met.entry(what).or_default() += count;
        }
        drop(replicas);
        let broken = checker.discoveries();
        for (name, path) in &broken {
            println!("BROKEN: {name} {}", small.unsettled.lock().as_deref().unwrap_or_default());
            print_history(small, &path.clone().into_vec());
        }
        assert!(broken.is_empty(), "a promise is broken in the world of {}", bounds.name);
    }
}

/// Prints a history and the state that it led to.
fn print_history(small: &Small, steps: &[(World, Option<Action>)]) {
    for (world, action) in steps {
        if let Some(action) = action {
            println!("  {}", small.describe_step(world, action));
        }
    }
    if let Some((world, _)) = steps.last() {
        println!("  written: {:?}", world.written);
        for state in world.replicas {
            println!("  {:?}", small.content(state));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "to report how long it took")]
fn begin() -> Instant {
    Instant::now()
}

/// Fast enough for every test run.
#[test]
fn a_small_world() {
    let worlds = [
        Bounds { name: "gossip", writes: [1, 1, 0], ..KNOWN_ENTRY },
        Bounds { name: "another's delete and reaps", writes: [0, 1, 0], reaps: 2, timers: 1, ..KNOWN_ENTRY },
        Bounds { name: "an attachment", writes: [1, 0, 0], leaves: 1, joins: 1, ..KNOWN_ENTRY },
        Bounds { name: "a comparison", writes: [1, 0, 0], streams: 1, cuts: 1, ..KNOWN_ENTRY },
        Bounds { name: "a comparison after a reap", writes: [0, 1, 0], reaps: 1, streams: 1, ..KNOWN_ENTRY },
    ];
    let met =
        ["ties", "superseded_dropped", "reaped", "provisional", "refused_ended", "pulls", "syncs_completed"];
    explore(&worlds, &met);
}

// Deeper, and far too slow without optimisation: `cargo test --release -p tabledb exhaustive::deep --
// --ignored --nocapture --test-threads 1`. A world that is to be made larger grows by a factor of three to
// ten with each thing more that may happen.

/// Two writers, and everything that datagrams can do.
#[test]
#[ignore = "takes long"]
fn deep_gossip() {
    let worlds = [
        Bounds { name: "more gossip", writes: [2, 2, 0], ..DEEP },
        Bounds { name: "gossip under two keys", keys: 2, writes: [2, 1, 0], ..DEEP },
        Bounds { name: "gossip, watermarks and reaps", writes: [2, 1, 0], timers: 1, reaps: 1, ..DEEP },
        Bounds { name: "a delete, watermarks and reaps", writes: [0, 1, 0], timers: 2, reaps: 2, ..DEEP },
    ];
    explore(&worlds, &["ties", "reaped", "pulls"]);
}

/// Comparisons that break anywhere, among writes.
#[test]
#[ignore = "takes long"]
fn deep_comparison() {
    let worlds = [
        Bounds { name: "a comparison among writes of both", writes: [1, 1, 0], streams: 1, cuts: 1, ..DEEP },
        Bounds { name: "a comparison and reaps", writes: [0, 1, 0], reaps: 2, streams: 1, cuts: 1, ..DEEP },
        Bounds { name: "a comparison of two keys", keys: 2, writes: [2, 0, 0], streams: 1, ..DEEP },
        Bounds { name: "a pull", writes: [1, 0, 0], timers: 2, streams: 1, cuts: 1, ..DEEP },
    ];
    explore(&worlds, &["superseded_dropped", "reaped", "pulls", "syncs_completed", "syncs_failed"]);
}

/// Two comparisons at a time.
#[test]
#[ignore = "takes long"]
fn deep_two_comparisons() {
    let worlds = [Bounds { name: "two comparisons", writes: [1, 0, 0], streams: 2, ..DEEP }];
    explore(&worlds, &["syncs_completed"]);
}

/// Nodes that leave the network, and join it.
#[test]
#[ignore = "takes long"]
fn deep_attachments() {
    let attachment = Bounds { writes: [1, 1, 0], leaves: 1, joins: 1, ..DEEP };
    let worlds = [
        Bounds { name: "an attachment among writes of both", ..attachment },
        Bounds { name: "the overwriter leaves", leavers: [false, true, false], ..attachment },
        Bounds { name: "an attachment and reaps", reaps: 1, ..attachment },
        Bounds { name: "an attachment with one session", writes: [1, 0, 0], streams: 1, ..attachment },
    ];
    explore(&worlds, &["provisional", "refused_ended", "refused_not_member", "syncs_completed"]);
}

/// A node that joins while others write.
#[test]
#[ignore = "takes long"]
fn deep_newcomer() {
    let newcomer = Bounds { joined: [true, true, false], joins: 1, ..DEEP };
    let worlds = [Bounds { name: "a newcomer", writes: [1, 0, 0], streams: 1, cuts: 1, ..newcomer }];
    explore(&worlds, &["provisional", "syncs_completed", "syncs_failed"]);
}

/// Nodes that consider each other failed.
#[test]
#[ignore = "takes long"]
fn deep_failures() {
    let failure = Bounds { failures: 1, ..DEEP };
    let worlds = [
        Bounds { name: "a failure among writes of both", writes: [1, 1, 0], reaps: 1, ..failure },
        Bounds { name: "a failure and a comparison", writes: [1, 0, 0], streams: 1, cuts: 1, ..failure },
        Bounds { name: "a failure and a write of another", writes: [0, 1, 0], streams: 1, ..failure },
    ];
    explore(&worlds, &["syncs_completed", "syncs_failed"]);
}
