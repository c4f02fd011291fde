//! The goals of the cluster, measured side by side in one run: our nodes, the limit (as many bytes over bare QUIC
//! streams and over bare TCP), and the rival, chitchat, which solves the same problem by Scuttlebutt over UDP.
//!
//! `cargo bench -p integration-tests --features rivals --bench rivals [-- NAME...]`
//!
//! Every participant is a process: this program, started again with a role. If this program is root and finds
//! `unshare`, `nsenter` and `ip`, the participants of a measurement share a fresh network namespace. The kinds of
//! participants take turns, so that other load of the machine meets all of them: compare the lines of one
//! run. A ratio is ours to the other side, for the minimum, which suffers least from other load, and for the median.
//!
//! Each side has the settings with which it is used: our nodes those of `NodeConfig::new`, the streams the windows of
//! our transport. chitchat has its newest protocol, and a gossip interval of 50 ms, that of its own
//! tests; its default of one second would be slower in every measurement of time, and is what the idle clusters have.
//!
//! How arrival is detected: receivers compare a counter once a millisecond (ours: the number of entries; chitchat: the
//! version up to which it has everything), which visits no entry. Only a single write is awaited by a watch and a listener. While
//! processor time is measured for slow writes, receivers look only after the last write.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

#[path = "rivals/burst.rs"]
mod burst;
#[path = "rivals/chitchat_store.rs"]
mod chitchat_store;
#[path = "rivals/clock.rs"]
mod clock;
#[path = "rivals/cluster.rs"]
mod cluster;
#[path = "rivals/entries.rs"]
mod entries;
#[path = "rivals/idle.rs"]
mod idle;
#[path = "rivals/join.rs"]
mod join;
#[path = "rivals/namespace.rs"]
mod namespace;
#[path = "rivals/networkdb_store.rs"]
mod networkdb_store;
#[path = "rivals/participant.rs"]
mod participant;
#[path = "rivals/quic.rs"]
mod quic;
#[path = "rivals/report.rs"]
mod report;
#[path = "rivals/settings.rs"]
mod settings;
#[path = "rivals/single.rs"]
mod single;
#[path = "rivals/slow.rs"]
mod slow;
#[path = "rivals/store.rs"]
mod store;
#[path = "rivals/streams.rs"]
mod streams;
#[path = "rivals/sustained.rs"]
mod sustained;
#[path = "rivals/tcp.rs"]
mod tcp;
#[path = "rivals/watchers.rs"]
mod watchers;

use participant::{Failure, Kind};
use settings::Settings;

/// Measures networkdb beside its limits and beside chitchat.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything if nothing is named
    names: Vec<Measurement>,
    /// A hundredth of each size, once: shows only that everything completes
    #[arg(long)]
    smoke: bool,
    /// How often each comparison of seconds or less is repeated
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Cargo passes it
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Measurement {
    /// 10,000 and 100,000 creates on one of five
    Burst,
    /// A newcomer gets 100,000 and 500,000 entries
    Join,
    /// The rate of writes with bounded delivery lag
    Sustained,
    /// One write in an idle cluster of five
    Single,
    /// Processor time of a thousand writes a second
    Slow,
    /// Traffic and memory of 25 and 100 idle nodes
    Idle,
    /// What a thousand watchers cost the writer
    Watchers,
}

impl Measurement {
    fn run(self, settings: &Settings) -> Result<(), Failure> {
        match self {
            Self::Burst => burst::measure(settings),
            Self::Join => join::measure(settings),
            Self::Sustained => sustained::measure(settings),
            Self::Single => single::measure(settings),
            Self::Slow => slow::measure(settings),
            Self::Idle => idle::measure(settings),
            Self::Watchers => watchers::measure(settings),
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, participant::ARGUMENT, kind] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        match Kind::named(kind) {
            Some(Kind::Networkdb) => store::run::<networkdb_store::NetworkdbStore>(),
            Some(Kind::Chitchat) => store::run::<chitchat_store::ChitchatStore>(),
            Some(Kind::Quic) => streams::run::<quic::Quic>(),
            Some(Kind::Tcp) => streams::run::<tcp::Tcp>(),
            Some(Kind::Watched) => watchers::run(),
            None => return ExitCode::FAILURE,
        }
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    let settings = if arguments.smoke { Settings::smoke() } else { Settings::whole(arguments.rounds) };
    let names = if arguments.names.is_empty() { Measurement::value_variants() } else { &arguments.names[..] };
    if !namespace::available() {
        println!(
            "Not root, or unshare, nsenter or ip are missing: all run on this host's loopback, and packets are not counted."
        );
    }
    let mut status = ExitCode::SUCCESS;
    for name in names {
        println!("\n== {name:?}, at a load of {:.1}", clock::load());
        if let Err(failure) = name.run(&settings) {
            println!("FAILED: {failure}");
            status = ExitCode::FAILURE;
        }
    }
    println!("\nThe load at the end is {:.1}.", clock::load());
    status
}
