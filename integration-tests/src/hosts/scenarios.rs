//! The scenarios: faults of the hosts or between them, and what must hold nevertheless.
//!
//! After each, all nodes must know all members, show the same, and have lost no acknowledged write
//! and brought nothing back; and during a scenario no host may show again what it has seen
//! superseded.

mod clocks;
mod keys;
mod links;
mod processes;

use std::pin::Pin;

use super::Failure;
use super::cluster::{Cluster, Plan};
use super::runs::Run;

/// A running scenario.
pub type Execution<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The name on the command line.
    pub name: &'static str,
    /// What happens, in a line.
    pub description: &'static str,
    /// Adapts the plan of its cluster.
    pub prepare: fn(&mut Plan),
    /// Runs it; the final checks, which are the same for all, are not part of it.
    pub run: for<'a> fn(&'a mut Run, &'a mut Cluster) -> Execution<'a>,
}

/// The scenario that needs libfaketime.
pub(super) const CLOCKS: &str = "clocks";

fn unchanged(_: &mut Plan) {}

/// All scenarios, the longest first: side by side they then end at about the same time.
pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "slow-link",
            description: "a newcomer behind 1 Mbit/s gets 100,000 entries, and no node is declared failed",
            prepare: |plan| {
                plan.hosts -= 1;
                plan.spare = 1;
            },
            run: |run, cluster| Box::pin(links::slow_link(run, cluster)),
        },
        Scenario {
            name: "loss",
            description: "one packet in five is lost for a minute while all write",
            prepare: unchanged,
            run: |run, cluster| Box::pin(links::loss(run, cluster)),
        },
        Scenario {
            name: "long-freeze",
            description: "a fifth of the processes is paused for a minute and held failed, while \
             the others write",
            prepare: unchanged,
            run: |run, cluster| Box::pin(processes::long_freeze(run, cluster)),
        },
        Scenario {
            name: "keys",
            description: "all change from one secret to another, node by node, while all write \
             and one restarts at each step",
            prepare: unchanged,
            run: |run, cluster| Box::pin(keys::rotation(run, cluster)),
        },
        Scenario {
            name: CLOCKS,
            description: "a host sleeps for two hours, a newcomer's clock is two hours ahead, \
             then that of a node that runs",
            prepare: |plan| {
                plan.hosts -= 1;
                plan.spare = 1;
                plan.wall_clocks = true;
            },
            run: |run, cluster| Box::pin(clocks::clocks(run, cluster)),
        },
        Scenario {
            name: "partition",
            description: "two hosts and the others are cut off from each other until both sides \
             hold the other failed; both write",
            prepare: unchanged,
            run: |run, cluster| Box::pin(links::partition(run, cluster)),
        },
        Scenario {
            name: "one-way",
            description: "no packets pass from one host to another; then none from the last host \
             to the others",
            prepare: unchanged,
            run: |run, cluster| Box::pin(links::one_way(run, cluster)),
        },
        Scenario {
            name: "reaped",
            description: "a host is cut off until the others have reaped the tombstones of their deletes",
            prepare: |plan| plan.flags.extend(["--reap-time".to_owned(), "5s".to_owned()]),
            run: |run, cluster| Box::pin(links::reaped(run, cluster)),
        },
        Scenario {
            name: "rolling-restart",
            description: "every node leaves and is started again, one after the other, while all write",
            prepare: unchanged,
            run: |run, cluster| Box::pin(processes::rolling_restart(run, cluster)),
        },
        Scenario {
            name: "kill",
            description: "a node is killed and started again, at once and after its failure was detected",
            prepare: unchanged,
            run: |run, cluster| Box::pin(processes::kill(run, cluster)),
        },
        Scenario {
            name: "freeze",
            description: "a process is paused for ten seconds and then continues",
            prepare: unchanged,
            run: |run, cluster| Box::pin(processes::freeze(run, cluster)),
        },
        Scenario {
            name: "seeds",
            description: "all seeds are killed and started again at once, as new instances",
            prepare: unchanged,
            run: |run, cluster| Box::pin(processes::seeds(run, cluster)),
        },
        Scenario {
            name: "address",
            description: "a host returns with another address under its old name",
            prepare: unchanged,
            run: |run, cluster| Box::pin(processes::address(run, cluster)),
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn scenario_names_are_unique() {
        let names: BTreeSet<_> = all().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().len());
    }
}
