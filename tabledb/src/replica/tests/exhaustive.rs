//! Every history of a small world: three replicas, two of which write, under all interleavings of what may happen.
//!
//! The replicas are the production ones, and what they say to each other is really encoded. A state of the world
//! ([`world::World`]) is made of the states of the replicas, of all datagrams ever sent, of the streams with what is on
//! its way in them, of all that was ever written, and of what may still happen. From each state each possible next step
//! is tried, by stateright, and what is promised ([`promises::Promise`]) is checked after each.
//!
//! **What may happen**, up to the numbers in [`Bounds`]: a put or delete; any datagram ever sent arrives, in any order,
//! once, again, or never; a comparison of any two begins; one end of a stream says its next frame, the other hears it,
//! later, or the stream breaks, first for one end, then for the other; the next deadline of a replica is met; the reap
//! time passes; a node leaves and joins again; a node takes another for failed, and for alive again; a probe tells of a
//! newer list. And wherever the world has got to, it comes to agreement if from then on nothing more goes wrong, though
//! everything on its way is lost ([`quiet`]).
//!
//! **What is left out.** Time is coarse, and each replica has its own: it stands still but for deadlines being met and
//! for the reap time passing, so a deadline can be met late, never early; those more than ten seconds away (the periodic
//! comparison, sessions without progress) are not met by time, but set off or cut at any point. Fingerprints do not ride
//! along with probes: the comparisons they ask for begin at any time anyway. Fewer than nine are on the network, so
//! nothing is relayed; little is written, so nothing is a backlog, and a comparison needs no descent. A stream has one
//! frame each way in it at most. Nobody is restarted or forgotten. Clocks agree at the start.
//!
//! **When two states are one.** A replica's state is the debug form of everything in it, counters and generator left out
//! ([`live`]), so no field that decides anything can be forgotten. The generator is set anew before each step; where
//! a step draws a partner, eight generators are tried, and each outcome counts.

mod content;
mod live;
mod moves;
mod promises;
mod quiet;
mod steps;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use world::{Action, Small, World};

const NODES: usize = 3;

/// The shortest there is: sessions outlast several of it.
const REAP_TIME: Duration = Duration::from_secs(1);

/// How much may happen in a world.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    name: &'static str,
    keys: u8,
    /// Who is on the network from the start.
    joined: [bool; NODES],
    /// All begin with an entry that n0 has written.
    known_entry: bool,
    /// Puts and deletes of each.
    writes: [u8; NODES],
    /// Deadlines that are met, other than those two milliseconds away.
    timers: u8,
    /// How often the reap time passes, for one replica.
    reaps: u8,
    /// Streams that can be opened; further ones fail.
    streams: u8,
    /// Ends of streams that break of themselves.
    cuts: u8,
    leaves: u8,
    joins: u8,
    leavers: [bool; NODES],
    /// How often somebody takes somebody for failed, and as often for alive again.
    failures: u8,
    /// Too many states to go through by breadth.
    is_deep: bool,
}

impl Bounds {
    /// A leave that reaches nobody takes longer than the shortest reap time. Where nothing is to be reaped, it outlasts that too.
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

/// Explores worlds to their ends, one after the other, and says what they were like. What stands in `met` must have been
/// met, or what is built to stand it was not tried.
fn explore(worlds: &[Bounds], met: &[&str]) {
    let mut sum = Sum::default();
    for &bounds in worlds {
        let begin = begin();
        // Depth first where the breadth would not fit the memory; breadth first finds the shortest history.
        let model = || Small::new(bounds).checker().finish_when(HasDiscoveries::AnyFailures);
        match bounds.is_deep {
            true => sum.add(model().spawn_dfs().join(), bounds, begin),
            false => sum.add(model().spawn_bfs().join(), bounds, begin),
        }
    }
    println!("{} worlds: {} states, {} of them different", worlds.len(), sum.states, sum.different);
    println!("met, each step of a replica counted once: {:?}", sum.met);
    for what in met {
        assert!(sum.met.contains_key(what), "no {what} was met: what is built to stand it was not tried");
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
            tell(small, &path.clone().into_vec());
        }
        assert!(broken.is_empty(), "a promise is broken in the world of {}", bounds.name);
    }
}

/// Tells a history, for people, and where it led.
fn tell(small: &Small, steps: &[(World, Option<Action>)]) {
    for (world, action) in steps {
        if let Some(action) = action {
            println!("  {}", small.tell(world, action));
        }
    }
    if let Some((world, _)) = steps.last() {
        println!("  written: {:?}", world.written);
        for state in world.replicas {
            println!("  {:?}", small.content(state));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "to say how long it took")]
fn begin() -> Instant {
    Instant::now()
}

/// What is quick enough to be tried all the time.
#[test]
fn a_small_world() {
    let worlds = [
        Bounds { name: "news", writes: [1, 1, 0], ..KNOWN_ENTRY },
        Bounds { name: "another's delete and reaps", writes: [0, 1, 0], reaps: 2, timers: 1, ..KNOWN_ENTRY },
        Bounds { name: "a stay", writes: [1, 0, 0], leaves: 1, joins: 1, ..KNOWN_ENTRY },
        Bounds { name: "a comparison", writes: [1, 0, 0], streams: 1, cuts: 1, ..KNOWN_ENTRY },
        Bounds { name: "a comparison after a reap", writes: [0, 1, 0], reaps: 1, streams: 1, ..KNOWN_ENTRY },
    ];
    let met = ["ties", "buried", "reaped", "provisional", "refused_ended", "pulls", "syncs_completed"];
    explore(&worlds, &met);
}

// Deeper, and far too slow without optimisation: `cargo test --release -p tabledb exhaustive::deep -- --ignored --nocapture
// --test-threads 1`. A world that is to be made larger grows by a factor of three to ten with each thing more that may
// happen.

/// Two who write, and everything that datagrams can do.
#[test]
#[ignore = "takes long"]
fn deep_news() {
    let worlds = [
        Bounds { name: "more news", writes: [2, 2, 0], ..DEEP },
        Bounds { name: "news under two keys", keys: 2, writes: [2, 1, 0], ..DEEP },
        Bounds { name: "news, heads and reaps", writes: [2, 1, 0], timers: 1, reaps: 1, ..DEEP },
        Bounds { name: "a delete, heads and reaps", writes: [0, 1, 0], timers: 2, reaps: 2, ..DEEP },
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
    explore(&worlds, &["buried", "reaped", "pulls", "syncs_completed", "syncs_failed"]);
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
fn deep_stays() {
    let stay = Bounds { writes: [1, 1, 0], leaves: 1, joins: 1, ..DEEP };
    let worlds = [
        Bounds { name: "a stay among writes of both", ..stay },
        Bounds { name: "the overwriter leaves", leavers: [false, true, false], ..stay },
        Bounds { name: "a stay and reaps", reaps: 1, ..stay },
        Bounds { name: "a stay with one exchange", writes: [1, 0, 0], streams: 1, ..stay },
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

/// Nodes that take each other for failed.
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
