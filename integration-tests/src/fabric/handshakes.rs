//! Handshakes that have a price: processed by both sides, one after the other.

use std::net::SocketAddr;
use std::time::Duration;

use super::{EndpointId, Fabric, Pending};

/// A handshake that one side or both have processed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handshake {
    from: EndpointId,
    to: EndpointId,
    address: SocketAddr,
    number: u64,
    done: bool,
}

impl Fabric {
    /// The first packet of a handshake has arrived: both sides process it, one after the other.
    pub(super) fn answer_dial(&mut self, from: EndpointId, to: EndpointId, address: SocketAddr, number: u64) {
        let Some(price) = self.config.handshakes else { return self.connected(from, to, address) };
        let deadline = self.dials[&(from, address)].deadline;
        let there = self.endpoint(to);
        if there.half_open >= price.most_half_open {
            self.schedule.push(self.now, Pending::DialTimeout { from, address, number });
            return;
        }
        there.half_open += 1;
        let answered = self.occupy_processor(to, price.work);
        let work = Handshake { from, to, address, number, done: false };
        self.schedule.push(answered, Pending::Handshake(work));
        self.schedule.push(deadline, Pending::DialTimeout { from, address, number });
    }

    /// One side has processed a handshake.
    pub(super) fn continue_handshake(&mut self, handshake: Handshake) {
        let Handshake { from, to, address, number, done } = handshake;
        let wanted = self.dials.get(&(from, address)).is_some_and(|dial| dial.number == number);
        if wanted
            && !done
            && let Some(price) = self.config.handshakes
        {
            let finished = self.occupy_processor(from, price.work);
            self.schedule.push(finished, Pending::Handshake(Handshake { done: true, ..handshake }));
            return;
        }
        let there = self.endpoint(to);
        there.half_open = there.half_open.saturating_sub(1);
        match wanted {
            true if self.is_running(to) => self.connected(from, to, address),
            true => {}
            // The work done for it was wasted.
            false => self.traffic.dials_in_vain += 1,
        }
    }

    /// When the processor of an endpoint's host has done this, after its earlier work.
    fn occupy_processor(&mut self, endpoint: EndpointId, work: Duration) -> Duration {
        self.traffic.handshake_work += work;
        let cores = self.config.handshakes.map_or(0, |price| price.shared_cores);
        if cores == 0 {
            let now = self.now;
            let here = self.endpoint(endpoint);
            here.processor_free = here.processor_free.max(now) + work;
            return here.processor_free;
        }
        self.cores_free.resize(cores, Duration::ZERO);
        let now = self.now;
        let Some(first) = self.cores_free.iter_mut().min() else { return now };
        *first = (*first).max(now) + work;
        *first
    }
}
