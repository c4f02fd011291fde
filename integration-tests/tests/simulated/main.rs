//! Whole clusters in the simulator, in virtual time.

mod catalogue;
mod clusters;
mod first_draft;
mod heals;
mod inquiries;
mod random;
mod stories;
