//! Intervals, fan-outs and limits of the protocol, with presets for three kinds of network.

use std::time::Duration;

/// Intervals, fan-outs, multipliers and limits of the protocol.
///
/// Start from a preset ([`Config::lan`], [`Config::wan`], [`Config::loopback`]) and change
/// individual settings; [`Membership::new`](crate::Membership::new) rejects a combination that
/// cannot work and says why. Nodes of one cluster should use the same intervals: a node judges its
/// peers by its own.
#[derive(Debug, Clone, PartialEq, Eq)]
// Exhaustive: other crates build it as a literal, from the defaults.
pub struct Config {
    /// Time between two probes. Extended while the local health score is above zero.
    pub probe_interval: Duration,
    /// Time limit for a direct answer, after which indirect probes and a stream are used. Must be
    /// below `probe_interval`, after which the member is suspected. Extended while the local health
    /// score is above zero.
    pub probe_timeout: Duration,
    /// Number of members asked for an indirect probe.
    pub indirect_probes: usize,
    /// Maximum number of probes started out of turn: of members whose connection was lost, helpers
    /// that did not answer, and members that peers suspect. Members beyond it are probed in their
    /// turn.
    pub max_hinted_probes: usize,
    /// Maximum number of pending indirect probes made for other nodes.
    pub max_relayed_probes: usize,
    /// The shortest suspicion lasts this × `probe_interval`, plus 2 × log10 n × `gossip_interval`
    /// for the refutation to reach all members.
    pub suspicion_multiplier: u32,
    /// The longest suspicion, without any confirmation, lasts this many times the shortest.
    pub suspicion_max_multiplier: u32,
    /// Number of independent confirmations that reduce a suspicion to its shortest time; fewer if
    /// there are not as many members that are not suspected themselves.
    pub suspicion_confirmations: usize,
    /// Average number of members that probe a member at once when they learn that it is suspected,
    /// in addition to its indirect probers. They confirm the suspicion, or the suspect refutes it.
    pub second_opinions: usize,
    /// Maximum local health score. Probe intervals and timeouts are multiplied by the score plus
    /// one.
    pub health_max: u32,
    /// A call of `handle_timeout` that is later than this after its deadline indicates that this
    /// process stalled: it suspects no node for input it could not read meanwhile.
    pub stall_threshold: Duration,

    /// Time between two retransmissions of queued updates.
    pub gossip_interval: Duration,
    /// Number of random members that receive queued updates at each tick, and fresh relayed updates
    /// at once.
    pub gossip_fanout: usize,
    /// Maximum number of gossip datagrams sent to one member at a tick.
    pub gossip_packets: usize,
    /// Minimum time between two transmissions of fresh updates. The first one does not wait.
    pub gossip_delay: Duration,
    /// Up to this cluster size, a node sends its own updates to all members at once.
    pub broadcast_to_all: usize,
    /// Number of random members that receive a node's own updates at once in a larger cluster.
    pub broadcast_fanout: usize,
    /// Each update is sent this × ⌈log10(n + 1)⌉ times.
    pub retransmit_multiplier: u32,
    /// Maximum number of queued updates, one per member; the comparison of member lists delivers
    /// what was dropped.
    pub max_broadcasts: usize,
    /// Minimum time between two messages that send a node the claim about itself.
    pub notice_interval: Duration,
    /// Maximum number of queued messages that send a node the claim about itself.
    pub max_notices: usize,

    /// Time between two comparisons of the member list with a random member over a stream.
    pub sync_interval: Duration,
    /// Minimum time between two comparisons started because digests differed, and how long a list
    /// must have been unchanged before a difference counts.
    pub repair_interval: Duration,
    /// Time between two attempts to reconnect to a random failed member.
    pub reconnect_interval: Duration,
    /// Time between two attempts to join through the seeds while none of them is a member. A node
    /// that loses its last peer starts one at once.
    pub rejoin_interval: Duration,
    /// Time between two attempts to reach a random seed that is not a member, even if other seeds
    /// are members.
    pub seed_interval: Duration,
    /// How long a seed is retried before it counts as failed.
    pub join_timeout: Duration,
    /// Initial delay between two attempts to reach a seed; it doubles. Each delay is reduced by up
    /// to half at random.
    pub join_retry: Duration,
    /// Maximum delay between two attempts to reach a seed.
    pub join_retry_max: Duration,
    /// Time limit for a stream without progress.
    pub exchange_timeout: Duration,
    /// Time limit for a whole exchange over a stream.
    pub exchange_limit: Duration,
    /// Maximum number of open inbound streams; further ones are closed at once.
    pub max_inbound_streams: usize,
    /// Size at which a frame of a member list is complete, in bytes.
    pub frame_budget: usize,
    /// Maximum number of seeds.
    pub max_seeds: usize,

    /// Time limit for leaving.
    pub leave_timeout: Duration,
    /// Number of acknowledgements (or of all members, if there are fewer) that complete leaving.
    pub leave_acks: usize,

    /// Time between two checks for departed members whose retention has expired.
    pub reap_interval: Duration,
    /// How long failed and left members are kept.
    pub departed_retention: Duration,
    /// How long their last instance is recorded after that, so that stale lists cannot re-introduce
    /// it. Must be above `departed_retention`, after which no other node can still keep it.
    pub memory_retention: Duration,
    /// Maximum number of members including departed ones. A joining node beyond it replaces the
    /// departed member that would be removed next, or is refused if there is none.
    pub max_members: usize,
    /// Maximum number of recorded instances of removed members.
    pub max_remembered: usize,
    /// Maximum number of joining nodes that wait for a probe of the current owner of their name.
    pub max_pending_joins: usize,
    /// Minimum time between two reports of the same name conflict.
    pub conflict_report_interval: Duration,

    /// Maximum size of a datagram in bytes.
    pub datagram_budget: usize,
    /// Bytes kept free in every probe and its answer so that other protocols can add data to the
    /// datagram.
    pub piggyback_reserve: usize,
    /// Maximum number of datagrams that wait to be polled.
    pub max_transmits: usize,
}

/// Invalid settings, or an invalid record of this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A duration or a number is zero.
    #[error("{0} is zero; it must be more")]
    Zero(&'static str),
    /// One setting must be below another.
    #[error("{smaller} ({smaller_value}) must be below {larger} ({larger_value})")]
    NotBelow {
        /// The setting that is too large.
        smaller: &'static str,
        /// Its value.
        smaller_value: String,
        /// The setting that must be greater.
        larger: &'static str,
        /// Its value.
        larger_value: String,
    },
    /// A number is out of range.
    #[error("{name} is {found}; it must be from {least} to {most}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: u128,
        /// The minimum.
        least: u128,
        /// The maximum.
        most: u128,
    },
    /// The record that this node would announce is invalid.
    #[error(transparent)]
    Record(#[from] crate::RecordError),
}

/// A year: a longer duration is certainly a mistake and could overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// The answer to a probe may have to carry the largest record in the same datagram.
pub(crate) const SMALLEST_DATAGRAM: usize = 900;

impl Default for Config {
    fn default() -> Self {
        Self::lan()
    }
}

impl Config {
    /// For hosts a few milliseconds apart.
    pub fn lan() -> Self {
        let seconds = Duration::from_secs;
        let millis = Duration::from_millis;
        Self {
            probe_interval: seconds(1),
            probe_timeout: millis(500),
            indirect_probes: 3,
            max_hinted_probes: 16,
            max_relayed_probes: 1024,
            // Measured, see `detection` in integration-tests: 2 would fail nodes that pause for
            // three seconds, and detect crashes one second sooner; 4 would detect some failures
            // among a hundred lossy nodes only after ten seconds.
            suspicion_multiplier: 3,
            suspicion_max_multiplier: 6,
            suspicion_confirmations: 3,
            second_opinions: 3,
            health_max: 8,
            stall_threshold: millis(250),

            gossip_interval: millis(200),
            gossip_fanout: 3,
            gossip_packets: 4,
            gossip_delay: millis(5),
            broadcast_to_all: 64,
            broadcast_fanout: 8,
            retransmit_multiplier: 4,
            max_broadcasts: 16_384,
            notice_interval: seconds(1),
            max_notices: 4096,

            sync_interval: seconds(30),
            repair_interval: seconds(1),
            reconnect_interval: seconds(1),
            rejoin_interval: seconds(60),
            seed_interval: seconds(5),
            join_timeout: seconds(10),
            join_retry: millis(200),
            join_retry_max: seconds(5),
            exchange_timeout: seconds(5),
            exchange_limit: seconds(60),
            max_inbound_streams: 128,
            frame_budget: 32 << 10,
            max_seeds: 256,

            leave_timeout: seconds(2),
            leave_acks: 3,

            reap_interval: seconds(2 * 3600),
            departed_retention: seconds(24 * 3600),
            memory_retention: seconds(48 * 3600),
            max_members: 16_384,
            max_remembered: 65_536,
            max_pending_joins: 64,
            conflict_report_interval: seconds(10),

            datagram_budget: 1150,
            piggyback_reserve: 200,
            max_transmits: 16_384,
        }
    }

    /// For hosts on different continents.
    pub fn wan() -> Self {
        Self {
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(3),
            suspicion_multiplier: 4,
            stall_threshold: Duration::from_secs(1),
            gossip_interval: Duration::from_millis(500),
            gossip_fanout: 4,
            sync_interval: Duration::from_secs(60),
            repair_interval: Duration::from_secs(3),
            reconnect_interval: Duration::from_secs(3),
            seed_interval: Duration::from_secs(15),
            exchange_timeout: Duration::from_secs(15),
            join_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(5),
            ..Self::lan()
        }
    }

    /// For several nodes on one host: failures are detected in about two seconds.
    pub fn loopback() -> Self {
        Self {
            probe_interval: Duration::from_millis(400),
            probe_timeout: Duration::from_millis(200),
            gossip_interval: Duration::from_millis(100),
            sync_interval: Duration::from_secs(15),
            rejoin_interval: Duration::from_secs(15),
            ..Self::lan()
        }
    }

    /// Checks that this combination can work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (name, duration) in [
            ("probe_interval", self.probe_interval),
            ("probe_timeout", self.probe_timeout),
            ("stall_threshold", self.stall_threshold),
            ("gossip_interval", self.gossip_interval),
            ("gossip_delay", self.gossip_delay),
            ("notice_interval", self.notice_interval),
            ("sync_interval", self.sync_interval),
            ("repair_interval", self.repair_interval),
            ("reconnect_interval", self.reconnect_interval),
            ("rejoin_interval", self.rejoin_interval),
            ("seed_interval", self.seed_interval),
            ("join_timeout", self.join_timeout),
            ("join_retry", self.join_retry),
            ("join_retry_max", self.join_retry_max),
            ("exchange_timeout", self.exchange_timeout),
            ("exchange_limit", self.exchange_limit),
            ("leave_timeout", self.leave_timeout),
            ("reap_interval", self.reap_interval),
            ("departed_retention", self.departed_retention),
            ("memory_retention", self.memory_retention),
            ("conflict_report_interval", self.conflict_report_interval),
        ] {
            if duration.is_zero() {
                return Err(ConfigError::Zero(name));
            }
            if duration > LONGEST {
                return Err(ConfigError::OutOfRange {
                    name,
                    found: duration.as_millis(),
                    least: 1,
                    most: LONGEST.as_millis(),
                });
            }
        }
        for (name, number) in [
            ("gossip_fanout", self.gossip_fanout),
            ("gossip_packets", self.gossip_packets),
            ("broadcast_fanout", self.broadcast_fanout),
            ("max_broadcasts", self.max_broadcasts),
            ("max_notices", self.max_notices),
            ("max_inbound_streams", self.max_inbound_streams),
            ("max_seeds", self.max_seeds),
            ("leave_acks", self.leave_acks),
            ("max_members", self.max_members),
            ("max_remembered", self.max_remembered),
            ("max_pending_joins", self.max_pending_joins),
            ("max_transmits", self.max_transmits),
            ("max_hinted_probes", self.max_hinted_probes),
            ("max_relayed_probes", self.max_relayed_probes),
            ("suspicion_multiplier", self.suspicion_multiplier as usize),
            ("suspicion_max_multiplier", self.suspicion_max_multiplier as usize),
            ("retransmit_multiplier", self.retransmit_multiplier as usize),
        ] {
            if number == 0 {
                return Err(ConfigError::Zero(name));
            }
        }
        let below = |smaller, left: Duration, larger, right: Duration| {
            if left < right {
                return Ok(());
            }
            Err(ConfigError::NotBelow {
                smaller,
                smaller_value: format!("{left:?}"),
                larger,
                larger_value: format!("{right:?}"),
            })
        };
        below("probe_timeout", self.probe_timeout, "probe_interval", self.probe_interval)?;
        below("departed_retention", self.departed_retention, "memory_retention", self.memory_retention)?;
        let within = |name, found: usize, least: usize, most: usize| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(ConfigError::OutOfRange {
                name,
                found: found as u128,
                least: least as u128,
                most: most as u128,
            })
        };
        within("health_max", self.health_max as usize, 0, 64)?;
        within("suspicion_multiplier", self.suspicion_multiplier as usize, 1, 1000)?;
        within("suspicion_max_multiplier", self.suspicion_max_multiplier as usize, 1, 1000)?;
        within("suspicion_confirmations", self.suspicion_confirmations, 0, 1000)?;
        within("second_opinions", self.second_opinions, 0, 1000)?;
        within("retransmit_multiplier", self.retransmit_multiplier as usize, 1, 1000)?;
        within("frame_budget", self.frame_budget, 2048, 60 << 10)?;
        within("datagram_budget", self.datagram_budget, SMALLEST_DATAGRAM, 60 << 10)?;
        within("piggyback_reserve", self.piggyback_reserve, 0, self.datagram_budget - SMALLEST_DATAGRAM)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_valid() {
        for config in [Config::lan(), Config::wan(), Config::loopback()] {
            assert_eq!(config.validate(), Ok(()));
        }
    }

    #[test]
    fn invalid_settings_are_rejected_with_name_and_value() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::lan();
            change(&mut config);
            config.validate().expect_err("refused").to_string()
        };
        assert_eq!(
            refused(|config| config.gossip_interval = Duration::ZERO),
            "gossip_interval is zero; it must be more"
        );
        assert_eq!(
            refused(|config| config.probe_timeout = Duration::from_secs(2)),
            "probe_timeout (2s) must be below probe_interval (1s)"
        );
        assert_eq!(
            refused(|config| config.datagram_budget = 500),
            "datagram_budget is 500; it must be from 900 to 61440"
        );
        assert!(refused(|config| config.piggyback_reserve = 900).starts_with("piggyback_reserve is 900"));
        assert!(refused(|config| config.sync_interval = Duration::MAX).starts_with("sync_interval is "));
        assert!(
            refused(|config| config.memory_retention = config.departed_retention)
                .starts_with("departed_retention")
        );
    }
}
