//! The processor time of one handshake, the source of its price in the simulator.

use std::time::Duration;

use transport::{Config, Incoming, KeySet, Transport};
use wire::{Destination, NodeName};

use super::processes::processor_time;
use crate::hosts::Failure;

/// Dials `count` times from one node to another, one after the other, and returns the processor
/// time of one of these handshakes, for both sides together: certificates, key exchange,
/// introductions, and the tasks of a connection until it is closed.
///
/// # Errors
///
/// If a node cannot start, or a dial does not succeed.
pub async fn handshake_cost(count: u32) -> Result<Duration, Failure> {
    let (dialler, _unused) = endpoint("dialler")?;
    let (listener, _kept) = endpoint("listener")?;
    let name = NodeName::new("listener").map_err(|error| error.to_string())?;
    let to = Destination { name: Some(name), address: listener.local_address() };
    let once = async || {
        dialler.open_stream(&to).await.map_err(|error| error.to_string())?;
        let Some(name) = &to.name else { return Ok(()) };
        dialler.disconnect(name, None, "measured");
        Ok::<_, Failure>(())
    };
    // The first dial does one-time work, and is not counted.
    once().await?;
    let begun = processor_time("self")?;
    let dialled = dialler.statistics().dials_succeeded;
    for _ in 0..count {
        once().await?;
    }
    let taken = processor_time("self")?.saturating_sub(begun);
    let dials = dialler.statistics().dials_succeeded - dialled;
    if dials != u64::from(count) {
        return Err(format!("{count} connections took {dials} dials; each should take one"));
    }
    Ok(taken / count.max(1))
}

fn endpoint(name: &str) -> Result<(Transport, Incoming), Failure> {
    let name = NodeName::new(name).map_err(|error| error.to_string())?;
    let bind = "127.0.0.1:0".parse().map_err(|_| "no loopback address".to_owned())?;
    Transport::bind(Config::new(name, bind, KeySet::development())).map_err(|error| error.to_string())
}
