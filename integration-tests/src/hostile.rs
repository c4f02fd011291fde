//! Attacks by outsiders and by a modified peer on one node of a cluster of real hosts.
//!
//! Each attack runs like a [scenario](crate::hosts::scenarios) on hosts of its own: the honest
//! nodes write all the time, the first of them is the victim, and one more host is the attacker's.
//! During the attack, new writes must reach all nodes, no honest node may be declared failed, and
//! the victim's memory must stay below a limit; afterwards all must show the same and have lost
//! nothing, and the victim's counters must have counted the attack.

mod attacks;
mod forge;
mod handshakes;
mod insider;
mod packets;
mod siege;
mod strangers;
mod streams;

pub use attacks::all;
