//! Clusters of nodes in one process, over real QUIC on loopback, on ports that the system chooses.

mod churning;
mod cluster;
mod departing;
mod joining;
mod links;
mod moving;
mod refusing;
mod report;
mod rotating;
mod tables;
mod waiting;
mod watching;
