//! Cluster membership: SWIM with Lifeguard as a state machine without I/O.
//!
//! [`Membership`] owns no socket, no clock, no thread and no source of randomness. Its input is
//! received datagrams, streams, lost connections and the current time; its output is datagrams,
//! streams, [`Event`]s and the next deadline. Production and simulation drive the same code, and
//! the same seed gives the same bytes.
//!
//! The transport must guarantee three things: it authenticates the node that sent something
//! (messages do not carry the sender's name), it delivers a datagram or stream only to a node with
//! the name *and* the address of the destination, and it keeps the frames of a stream complete and
//! in order. Datagrams may be lost, duplicated, delayed and reordered.
//!
//! # Instances, incarnations and states
//!
//! A node is identified by its name. Each start of its process is an *instance* of the node with a
//! *generation* greater than all earlier ones; a later instance replaces an earlier one completely.
//! Within an instance, the node increments its *incarnation* whenever it refutes a claim or changes
//! its labels. Claims about a node supersede each other in a total order: a later instance before
//! an earlier one; within an instance `Left` before all else, then the higher incarnation, then the
//! graver of `Alive` < `Suspect` < `Failed`. So the result does not depend on the order or
//! repetition of claims.
//!
//! A node accepts no claim of a peer about itself: it refutes it. Against an instance of its name
//! that it never was (its clock was set back, or peers recorded what it lost), it starts a later
//! instance.
//!
//! # Failure detection
//!
//! Every `probe_interval` a node pings a member: alternately the next one of a shuffled round and
//! the one neighbour that this node monitors, its successor on a ring of hashed names. So each
//! member is pinged within two intervals. If no answer arrives within `probe_timeout`, the node
//! asks three helpers to ping the member (indirect probes) and pings it over a stream, in case the
//! path loses datagrams. After a whole `probe_interval` without an answer the node suspects the
//! member. It sends the suspicion to the member and to all others, and the member has some seconds
//! to refute it. A suspicion starts at six times its shortest timeout and shrinks with each member
//! that suspects independently, down to 3 · `probe_interval` + 2 · log10 n · `gossip_interval`;
//! then the member has failed.
//!
//! Confirmations do not depend on probes in turn. The helpers that got no answer from the suspect
//! probe it when they learn of the suspicion, and so do about three other members, independent of
//! the cluster size (*second opinions*). So a suspicion is either confirmed a second after it
//! began, or several members report it to the suspect and the suspect refutes it. While too few
//! confirmations have arrived, as many members again do the same every 1.25 `probe_interval`. If
//! most members are suspected, confirmations are expected only from the others: the last members of
//! a cluster must not wait for failed ones.
//!
//! A node accepts failure claims of peers as far as they agree with its own observations. If it has
//! suspected a member for a whole `probe_interval` and not heard from it since, it accepts the
//! claim: the suspicion of a crashed member spread seconds before the first failure claim. A
//! failure claim without that comes from a node with a different view, most often from the other
//! side of a partition that has just healed. The node then starts a suspicion with the shortest
//! timeout, and the member has that time to refute it.
//!
//! A node doubts itself first. Its *health score* rises when its helpers do not answer either (they
//! are probed at once, and helpers that are doubtful themselves do not count), when it is
//! suspected, and when it detects a stall of its process; a higher score makes its probes less
//! frequent and extends their timeouts. After a stall, all failure timeouts are postponed until the
//! node had time to read the input that arrived meanwhile. A lost connection is a reason to probe
//! the member now, and nothing more.
//!
//! # Gossip
//!
//! A node sends its own updates (its refutation, a failure it declared, a node that joined through
//! it) to all members at once if there are not too many, otherwise to some. It relays received
//! updates to three members at once. Periodic ticks repeat an update, and every probe and answer
//! piggybacks some, until it was sent 4 · ⌈log10(n + 1)⌉ times. Answers to probes carry a digest of
//! the member list: the instances and incarnations of the active and the failed members. If it
//! differs from the node's own digest, and that has not changed for a second, an update was lost
//! and the two nodes compare their lists over a stream. A node also compares lists with a random
//! member every 30 s.
//!
//! # Joining, leaving and retention
//!
//! *Joining* exchanges complete lists with a seed over a stream, in frames of bounded size. A
//! joining node does not gossip what it learns. It retries seeds that do not answer for ten seconds
//! with growing delays; without members it retries forever, and it starts again every
//! `rejoin_interval` while no seed is a member. Every `seed_interval` it contacts one of the seeds
//! that are not members: if all nodes of both sides restarted during a partition, no node knows a
//! node of the other side.
//!
//! *Leaving* sends a leave message to all members, resends it to those that have not acknowledged
//! it, and completes after three acknowledgements or two seconds. The name is free at once.
//!
//! *Failed members* are kept for a day after the first node saw them fail, so that all nodes remove
//! them together. For each name the latest instance is kept: each side of a partition may have seen
//! a different one fail. Each second a node tries to reconnect to one random failed member, so that
//! a healed partition merges: each side receives the claims about it in the hello frame and refutes
//! them. A node that announces itself alive while a peer considers it failed receives that peer's
//! claim, at most once a second, so that it can refute it. Removed instances stay recorded for two
//! more days, so that a node that removes them later cannot re-introduce them.
//!
//! *Name conflicts*: a node that claims the name of an active member from another address waits
//! until that member was probed. If the member answers, the claimant is refused and both nodes
//! learn of the conflict ([`Event::NameConflict`]); the member is not affected. If it does not
//! answer, the claimant replaces it, and members that receive this update accept it. An equal
//! address alone never removes a member.
//!
//! # Messages
//!
//! A datagram is a list of length-prefixed messages: unknown kinds are skipped.
//!
//! | message | meaning |
//! |---|---|
//! | `Ping` | probe of an instance; carries the sender's instance and incarnation |
//! | `PingRequest` | request for an indirect probe |
//! | `Ack` | this instance is alive, in this incarnation, with this list digest |
//! | `Nack` | the sender is alive, but the target of the indirect probe has not answered yet |
//! | `Alive` | this node is alive, with this record |
//! | `Suspect` | this node did not answer this accuser |
//! | `Failed` | this node has not refuted the suspicion |
//! | `Left` | this node has left |
//! | `Forgotten` | the retention of this failed instance has expired at the sender |
//! | `Introduce` | the sender does not know the receiver's current state and asks for its record |
//! | `Outdated` | the sender knows an instance that is not earlier, and gone: start a later one |
//! | `NameInUse` | two live nodes use this name: the current owner and the claimant |
//!
//! | frame of a stream | meaning |
//! |---|---|
//! | `Packet` | a packet over the reliable path: a probe, or its answer |
//! | `Hello` | request to compare lists, with the sender's record, digest and claim about the receiver |
//! | `Welcome` | acceptance, with the same data of the receiver, and whether the digests are equal |
//! | `Refused` | refusal: wait, name in use, outdated instance, own address, table full, leaving |
//! | `Members` | a part of the list |
//! | `End` | the end of the list |
//!
//! # Bounds
//!
//! Everything that grows with input from peers has a limit in [`Config`] and a counter in
//! [`Statistics`] for what was dropped at it; [`Config`] describes the behaviour at the limit.
//! Invalid bytes are dropped and counted. The work for one message is logarithmic in the number of
//! members; only member lists, their periodic comparison and the check after a stall visit all of
//! them.
//!
//! # References
//!
//! - A. Das, I. Gupta, A. Motivala: *SWIM: Scalable Weakly-consistent Infection-style Process Group
//!   Membership Protocol*, DSN 2002: probes, indirect probes, suspicion, incarnations, piggybacked
//!   updates, rounds.
//! - A. Dadgar, J. Phillips, J. Currey: *Lifeguard: Local Health Awareness for More Accurate Failure
//!   Detection*, DSN-W 2018: the health score, shrinking suspicions, early notice to the suspect,
//!   nacks.
//!
//! Extensions: instances, name conflicts, streams beside datagrams, digests, records of removed
//! instances.
//!
//! # Example
//!
//! Two nodes without a network between them:
//!
//! ```
//! use std::{collections::BTreeMap, time::Instant};
//! use networkdb_membership::{Config, Event, Membership, NodeRecord, Transmit};
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
//! let Some(Transmit::OpenStream { stream: outbound, to }) = bob.poll_transmit() else {
//!     panic!("it contacts the seed")
//! };
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
mod explanation;
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
pub use explanation::{Accusation, Acknowledgement, MemberExplanation};
pub use machine::Membership;
pub use member::{MAX_LABEL_BYTES, Member, NodeRecord, RecordError, State};
pub use message::MessageError;

#[cfg(test)]
mod tests;
