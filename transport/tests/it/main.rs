//! Endpoints that communicate over real sockets on loopback, on ports that the system chooses.

mod certificates;
mod connections;
mod datagrams;
mod identity;
mod keys;
mod nodes;
mod streams;
