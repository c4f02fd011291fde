//! Who is in the cluster, and who is not any more: SWIM with Lifeguard, as a state machine without I/O.
//!
//! [`Membership`] owns no socket, no clock, no thread and no randomness of its own. Datagrams, streams, connections
//! lost and the present time go in; datagrams, streams, [`Event`]s and the next deadline come out. What drives it in
//! production is what drives it in a simulation, and the same seed gives the same bytes.
//!
//! The transport below must do three things: say truthfully which node sent something (messages do not carry their
//! sender's name), deliver a datagram or stream only to a node of the name *and* the address it is meant for, and keep
//! the frames of a stream whole and in order. Datagrams may be lost, doubled, delayed and reordered.
//!
//! # Lives, incarnations and states
//!
//! A node is known by its name. Each start of its process is a *life* of it, numbered by a *generation* greater than
//! those before; a later life replaces an earlier one as a whole. Within a life, the node itself counts up its
//! *incarnation* whenever it refutes a claim or changes its labels. Claims about a node supersede each other in a total
//! order: a later life before an earlier one; of the same life `Left` before all else, then the higher incarnation,
//! then the graver of `Alive` < `Suspect` < `Failed`. So it does not matter in which order, or how often, they arrive.
//!
//! No node believes what others say about itself: it refutes it. Against a life of its name that it did not live
//! (its clock was set back, or the others remember what it forgot), it takes a later one.
//!
//! # How failures are found
//!
//! Every `probe_interval` a member is pinged: in turn the next of a shuffled round, and the one member that it is this
//! node's task to look after, the next one on a circle of hashed names. So every member is pinged by somebody within two
//! intervals. If no answer comes within `probe_timeout`,
//! three other members are asked to ping it, and it is pinged over a stream, in case the path loses datagrams. If
//! nothing has come after a whole `probe_interval`, it is suspected: it is told, everybody is told, and it has some
//! seconds to refute. A suspicion starts at six times its least length and shrinks with every member that suspects
//! independently, down to 3 · `probe_interval` + 2 · log10 n · `gossip_interval`; after that the member has failed.
//!
//! Nobody waits for the ring to confirm a suspicion: those who were asked to ping the suspect, and had no answer
//! either, probe it when they hear that it is suspected, and so do about three others, however large the cluster. So
//! a suspicion is either confirmed a second after it began, or the suspect has been told by several and objects. As
//! long as too few confirmations have come, as many again do the same every 1.25 `probe_interval`. Where most members are suspected at once, the others do not wait for confirmations of those: the last of a cluster
//! would wait for the dead.
//!
//! What others have found is taken as far as it fits what this node sees. A member that is suspected here for a whole
//! `probe_interval` already, and was not heard from since, has failed when somebody says so: the suspicion of one that
//! crashed spread seconds before the first verdict. A verdict without that comes from where things are seen otherwise,
//! from the other side of a partition that has just healed above all; it is a suspicion here, of the least length, and the
//! member has that time to refute it.
//!
//! A node doubts itself first. Its *health score* worsens when its helpers are silent too (they are probed at once, and
//! the silence of those that are in doubt themselves does not count), when it is suspected, and when it finds that its
//! process stood still; the score makes its probes rarer and more patient. After it stood still, all judgements are
//! postponed until it had time to read what arrived meanwhile. A lost connection is a reason to probe now, and nothing
//! more.
//!
//! # How news spreads
//!
//! What a node finds out itself (its own refutation, a failure, a newcomer that called it) it sends to all members at
//! once if there are not too many, else to some; what it hears it passes on to three at once. Ticks repeat it, and every
//! probe and answer carries some, until it was sent 4 · ⌈log10(n + 1)⌉ times. Answers to probes carry a fingerprint of
//! the member list: the instances and incarnations of the active members and of the failed. If it differs from one's own that has been still for a second, news was lost, and the two compare
//! their lists over a stream; they do so with a random member every 30 s anyway.
//!
//! # How nodes come and go
//!
//! *Joining* exchanges the whole lists with a seed over a stream, in frames of bounded size. What a newcomer learns it
//! does not pass on. Seeds that do not answer are tried for ten seconds with growing pauses, by a node that is alone
//! for ever, and again every `rejoin_interval` while none of them is a member. Of those that are no members one is called
//! every `seed_interval`: after a partition in which all nodes of both sides were restarted, nobody remembers anybody of
//! the other side.
//!
//! *Leaving* tells all members, repeats it to those who have not acknowledged it, and ends when three have, or after
//! two seconds. The name is free at once.
//!
//! *The dead* are kept for a day after the first of the members saw them fail, so that all forget them together. Of one name
//! the latest instance is kept: sides of a partition may each have seen another one fail. One random failed member is called each second, so that a healed partition finds
//! together: each side learns in the greeting what is held against it, and refutes that. Who claims to be alive and is
//! held failed is told so, at most once a second. Forgotten lives are remembered for two days more, so that nobody who
//! forgets later can teach them to us again.
//!
//! *One name, two addresses*: a node that claims the name of an active member from another address has to wait until
//! that member was probed. If it answers, the newcomer is refused, and both are told of each other
//! ([`Event::NameConflict`]); the member is not disturbed. If it is silent, the newcomer takes its place. Who hears from
//! another member that it has done so, follows. An address alone evicts nobody.
//!
//! # Messages
//!
//! A datagram is a list of messages, each with its length before it: unknown kinds are skipped.
//!
//! | message | says |
//! |---|---|
//! | `Ping` | are you, in this life, there? I am there, in this life and incarnation |
//! | `PingRequest` | please ping this node for me |
//! | `Ack` | this life is there, in this incarnation; my list has this fingerprint |
//! | `Nack` | I am there, but whom I was to ping has not answered yet |
//! | `Alive` | this node is alive, as this record says |
//! | `Suspect` | that node did not answer this accuser |
//! | `Failed` | that node has not objected |
//! | `Left` | that node has said good-bye |
//! | `Forgotten` | the time of this failed instance is over here |
//! | `Introduce` | I do not know you as you are now: send me your record |
//! | `Outdated` | I know a life of yours that is not earlier, and gone: take a later one |
//! | `NameInUse` | two living nodes have this name: who has it, and who wanted it |
//!
//! | frame of a stream | says |
//! |---|---|
//! | `Packet` | what else would have been a datagram: the reliable path of a probe, and its answer |
//! | `Hello` | let us compare our lists; this is who I am, my list's fingerprint, and what I hold against you |
//! | `Welcome` | yes; the same of the answerer, and whether the fingerprints are equal |
//! | `Refused` | no: wait, the name is in use, your life is outdated, you called yourself, there is no room, I am leaving |
//! | `Members` | a part of the list |
//! | `End` | that was all of it |
//!
//! # Bounds
//!
//! Everything that grows with what others send has a cap in [`Config`] and a counter in [`Statistics`] for what was
//! dropped at it; [`Config`] says what happens then. Bytes that make no sense are dropped and counted. Work for one
//! message is logarithmic in the number of members; only member lists, the 30-second comparison and the check after a
//! stall touch all of them.
//!
//! # Where it comes from
//!
//! - A. Das, I. Gupta, A. Motivala: *SWIM: Scalable Weakly-consistent Infection-style Process Group Membership
//!   Protocol*, DSN 2002: probes, indirect probes, suspicion, incarnations, piggybacked news, rounds.
//! - A. Dadgar, J. Phillips, J. Currey: *Lifeguard: Local Health Awareness for More Accurate Failure Detection*,
//!   DSN-W 2018: the health score, shrinking suspicions, telling the suspect first, "not yet" answers.
//!
//! Beyond them: lives, names with two owners, streams beside datagrams, fingerprints, the memory of the forgotten.
//!
//! # Example
//!
//! Two nodes without a network between them:
//!
//! ```
//! use std::{collections::BTreeMap, time::Instant};
//! use membership::{Config, Event, Membership, NodeRecord, Transmit};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//! use wire::{FramePoll, NodeId, NodeName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Instant::now();
//! let node = |name: &str, address: &str| -> Result<Membership, Box<dyn std::error::Error>> {
//!     let id = NodeId::new(NodeName::new(name)?, 1);
//!     let record = NodeRecord { id, address: address.parse()?, labels: BTreeMap::new() };
//!     Ok(Membership::new(Config::lan(), record, now, ChaCha8Rng::seed_from_u64(7))?)
//! };
//! let mut ada = node("ada", "10.0.0.1:7946")?;
//! let mut bob = node("bob", "10.0.0.2:7946")?;
//! let (ada_id, bob_id) = (ada.me().record.clone(), bob.me().record.clone());
//!
//! bob.join(&[ada_id.address], now);
//! let Some(Transmit::OpenStream { stream: outbound, to }) = bob.poll_transmit() else { panic!("it calls the seed") };
//! assert_eq!(to.address, ada_id.address);
//! bob.handle_stream_connected(outbound, &ada_id.id.name, now);
//! let inbound = ada.handle_stream_opened(&bob_id.id.name, bob_id.address, now);
//! loop {
//!     let mut idle = true;
//!     while let FramePoll::Frame(bytes) = bob.poll_frame(outbound, now) {
//!         ada.handle_frame(inbound, &bytes, now)?;
//!         idle = false;
//!     }
//!     while let FramePoll::Frame(bytes) = ada.poll_frame(inbound, now) {
//!         bob.handle_frame(outbound, &bytes, now)?;
//!         idle = false;
//!     }
//!     if idle {
//!         break;
//!     }
//! }
//! assert_eq!(ada.poll_event(), Some(Event::Joined(bob_id)));
//! assert_eq!(bob.poll_event(), Some(Event::Joined(ada_id.clone())));
//! assert_eq!(bob.poll_event(), Some(Event::SeedAnswered { address: ada_id.address, id: ada_id.id }));
//! assert_eq!((ada.alive_count(), bob.alive_count()), (2, 2));
//! assert_eq!(ada.digest(), bob.digest());
//! # Ok(())
//! # }
//! ```

mod broadcast;
mod config;
mod event;
mod forgotten;
mod health;
mod machine;
mod member;
mod message;
mod probe_round;
mod roster;
mod sample_set;
mod suspicion;
mod timers;

pub use config::{Config, ConfigError};
pub use event::{ConflictRole, Event, NameConflict, Purpose, SeedFailure, Statistics, Transmit};
pub use machine::Membership;
pub use member::{MAX_LABEL_BYTES, Member, NodeRecord, RecordError, State};
pub use message::MessageError;

#[cfg(test)]
mod tests;
