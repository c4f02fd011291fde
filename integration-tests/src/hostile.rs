//! Hostile load: strangers and a modified peer against one node of a cluster of real hosts.
//!
//! Each attack is told like a [scenario](crate::hosts::scenarios) on hosts of its own: the honest nodes write all the time,
//! the first of them is the victim, and one more host is the attacker's. While it lasts, new writes must reach everybody,
//! no honest node may be taken for failed, and the victim's memory must stay below a limit; afterwards all must show the
//! same and have lost nothing, and the victim's counters must tell what happened.

mod attacks;
mod forge;
mod handshakes;
mod insider;
mod packets;
mod siege;
mod strangers;
mod streams;

pub use attacks::all;
