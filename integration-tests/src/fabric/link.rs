//! What a link between two locations does to messages sent over it.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How long a packet is under way, one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// Always the same.
    Fixed(Duration),
    /// Drawn anew for each packet; packets overtake each other.
    Uniform(Duration, Duration),
    /// Locations are random points in a square; a packet needs `base` and up to `across` more, in
    /// proportion to the share of the square's diagonal that it travels.
    Distance {
        /// For neighbours.
        base: Duration,
        /// The addition for the whole diagonal.
        across: Duration,
    },
}

/// The location of a node in a square of 65,535 units, for [`Latency::Distance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) x: u16,
    pub(super) y: u16,
}

impl Position {
    /// In 65,535ths of the diagonal; integers, so that every machine computes the same.
    fn share_of_diagonal(self, other: Position) -> u64 {
        let dx = u64::from(self.x.abs_diff(other.x));
        let dy = u64::from(self.y.abs_diff(other.y));
        ((dx * dx + dy * dy) / 2).isqrt()
    }
}

impl Latency {
    pub(super) fn draw(self, from: Position, to: Position, rng: &mut ChaCha8Rng) -> Duration {
        match self {
            Latency::Fixed(latency) => latency,
            Latency::Uniform(low, high) => draw_between(low, high, rng),
            Latency::Distance { base, across } => {
                base + Duration::from_nanos(nanoseconds(across) / 65_535 * from.share_of_diagonal(to))
            }
        }
    }

    /// A typical value, for round trips that are not simulated packet by packet.
    pub(super) fn typical(self, from: Position, to: Position) -> Duration {
        match self {
            Latency::Fixed(latency) => latency,
            Latency::Uniform(low, high) => (low + high) / 2,
            Latency::Distance { base, across } => {
                base + Duration::from_nanos(nanoseconds(across) / 65_535 * from.share_of_diagonal(to))
            }
        }
    }
}

/// The conditions in one direction between two locations.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// How long a packet takes.
    pub latency: Latency,
    /// The share of packets lost, 0 to 1. A lost datagram is gone; a stream frame is delayed by the
    /// transport's retransmission.
    pub loss: f64,
    /// The share of datagrams that arrive twice.
    pub duplication: f64,
    /// The share of datagrams delayed by up to `reordering_delay`, so that later ones overtake
    /// them.
    pub reordering: f64,
    /// The longest such delay.
    pub reordering_delay: Duration,
    /// Bytes a second between the two locations; `None` for no limit. Datagrams go before stream
    /// frames, and are dropped when a tenth of a second's worth of them is waiting.
    pub bandwidth: Option<u64>,
    /// Larger datagrams are dropped.
    pub datagram_limit: usize,
    /// The share of stream frames on which the stream breaks instead.
    pub stream_breaks: f64,
}

impl Default for Link {
    /// Perfect: nothing takes time, nothing is lost; datagrams of up to 1,162 bytes pass, as over
    /// QUIC's smallest path.
    fn default() -> Self {
        Self {
            latency: Latency::Fixed(Duration::ZERO),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reordering_delay: Duration::from_millis(50),
            bandwidth: None,
            datagram_limit: 1162,
            stream_breaks: 0.0,
        }
    }
}

impl Link {
    /// Perfect but for a fixed latency.
    pub fn with_latency(latency: Duration) -> Self {
        Self { latency: Latency::Fixed(latency), ..Self::default() }
    }

    /// How long `bytes` occupy the link.
    pub(super) fn occupation(&self, bytes: usize) -> Duration {
        match self.bandwidth {
            None => Duration::ZERO,
            Some(rate) => Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate.max(1)),
        }
    }

    /// The delay of a stream frame of `bytes` by retransmissions: a lost tail costs the transport's
    /// probe timeout, which doubles each time.
    pub(super) fn retransmission_delay(
        &self,
        bytes: usize,
        round_trip: Duration,
        rng: &mut ChaCha8Rng,
    ) -> Duration {
        if self.loss <= 0.0 {
            return Duration::ZERO;
        }
        let packets = bytes.div_ceil(1200).clamp(1, 1024);
        let any_lost = (1.0 - (0..packets).fold(1.0, |all, _| all * (1.0 - self.loss))).min(0.95);
        let mut timeout = round_trip + Duration::from_millis(30);
        let mut delay = Duration::ZERO;
        let mut chance = any_lost;
        for _ in 0..8 {
            if !rng.random_bool(chance) {
                break;
            }
            delay += timeout;
            timeout *= 2;
            // Only what was lost is sent again: about one packet.
            chance = self.loss.min(0.95);
        }
        delay
    }
}

pub(super) fn draw_between(low: Duration, high: Duration, rng: &mut ChaCha8Rng) -> Duration {
    if high <= low {
        return low;
    }
    Duration::from_nanos(rng.random_range(nanoseconds(low)..=nanoseconds(high)))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
