//! Every interval, fan-out and bound of the protocol, with presets for three kinds of network.

use std::time::Duration;

/// Every interval, fan-out, multiplier and bound of the protocol.
///
/// Start from a preset ([`Config::lan`], [`Config::wan`], [`Config::loopback`]) and change what you must;
/// [`Membership::new`](crate::Membership::new) refuses a combination that cannot work and says why. Nodes of one
/// cluster should share their intervals: a node judges others by its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How often a member is probed, one after the other in random order. Lengthened by bad local health.
    pub probe_interval: Duration,
    /// How long a direct answer is awaited before others and the reliable path are asked too. Below
    /// `probe_interval`, which is the time until the verdict. Lengthened by bad local health.
    pub probe_timeout: Duration,
    /// How many members are asked to probe on our behalf.
    pub indirect_probes: usize,
    /// The most probes started at once out of turn: of members whose connection was lost, who did not answer when asked
    /// for help, or whom others suspect. The ring reaches those beyond it in its turn.
    pub max_hinted_probes: usize,
    /// The most probes kept on behalf of others.
    pub max_relayed_probes: usize,
    /// The shortest suspicion lasts this × `probe_interval`, and 2 × log10 n × `gossip_interval` for the objection to
    /// reach everybody.
    pub suspicion_multiplier: u32,
    /// The longest suspicion, without any confirmation, lasts this many times the shortest.
    pub suspicion_max_multiplier: u32,
    /// With so many independent confirmations a suspicion is as short as it can be; with fewer if there are not so many
    /// members who are not suspected themselves.
    pub suspicion_confirmations: usize,
    /// How many members, on average, probe a member at once because they hear that it is suspected, besides those who
    /// were asked to ping it: they confirm the suspicion, or get the suspect to object.
    pub second_opinions: usize,
    /// The worst local health score. Probe intervals and timeouts are multiplied by the score plus one.
    pub health_max: u32,
    /// `handle_timeout` called later than this after its deadline means that this process stood still: nobody is
    /// accused for what it missed meanwhile.
    pub stall_threshold: Duration,

    /// How often queued news is sent again.
    pub gossip_interval: Duration,
    /// To how many random members queued news goes at each tick, and fresh relayed news at once.
    pub gossip_fanout: usize,
    /// The most datagrams of news one member is sent at a tick.
    pub gossip_packets: usize,
    /// The least time between two rounds of fresh news. The first of them does not wait.
    pub gossip_delay: Duration,
    /// Up to this many members, a node tells its own news to all of them at once.
    pub broadcast_to_all: usize,
    /// To how many random members a node tells its own news at once when there are more.
    pub broadcast_fanout: usize,
    /// News is sent this × ⌈log10(n + 1)⌉ times.
    pub retransmit_multiplier: u32,
    /// The most news queued, one for each member; more are dropped and left to the comparison of member lists.
    pub max_broadcasts: usize,
    /// The least time between two messages that tell the same node what is held against it.
    pub notice_interval: Duration,
    /// The most such messages queued.
    pub max_notices: usize,

    /// How often the member list is compared with one random member's over a stream.
    pub sync_interval: Duration,
    /// The least time between two comparisons started because fingerprints differed, and how long a list must have
    /// been still before a difference counts.
    pub repair_interval: Duration,
    /// How often one random failed member is called.
    pub reconnect_interval: Duration,
    /// How often the seeds are called again while none of them is a member, beside the first time, which is when this
    /// node is left alone.
    pub rejoin_interval: Duration,
    /// How often one random seed that is no member is called, whether others are or not.
    pub seed_interval: Duration,
    /// How long a seed is tried before it counts as failed.
    pub join_timeout: Duration,
    /// The first pause between two tries of a seed; it doubles. Each is shortened by up to half at random.
    pub join_retry: Duration,
    /// The longest pause between two tries of a seed.
    pub join_retry_max: Duration,
    /// How long a stream may make no progress.
    pub exchange_timeout: Duration,
    /// How long an exchange over a stream may last in all.
    pub exchange_limit: Duration,
    /// The most streams open at once, those opened by others; more are closed at once.
    pub max_inbound_streams: usize,
    /// The size at which a frame of a member list is full, in bytes.
    pub frame_budget: usize,
    /// The most seeds.
    pub max_seeds: usize,

    /// How long leaving may take.
    pub leave_timeout: Duration,
    /// Leaving is over as soon as this many members (or all, if there are fewer) have acknowledged it.
    pub leave_acks: usize,

    /// How often departed members are looked at.
    pub reap_interval: Duration,
    /// How long failed and left members are kept.
    pub departed_retention: Duration,
    /// How long, after that, their last life is remembered, so that nobody can teach it to us again. Longer than
    /// `departed_retention`, after which no other node can still hold it.
    pub memory_retention: Duration,
    /// The most members, departed ones included. A newcomer beyond it takes the place of the departed member that
    /// would be forgotten next, or is refused if there is none.
    pub max_members: usize,
    /// The most lives remembered of forgotten members.
    pub max_remembered: usize,
    /// The most newcomers that wait until the present holder of their name has been probed.
    pub max_pending_joins: usize,
    /// The least time between two reports of the same name conflict.
    pub conflict_report_interval: Duration,

    /// The most bytes of a datagram.
    pub datagram_budget: usize,
    /// Bytes left free in every probe and its answer, for others to add theirs to the same datagram.
    pub piggyback_reserve: usize,
    /// The most datagrams waiting in the machine to be polled.
    pub max_transmits: usize,
}

/// A combination of settings, or a record of our own, that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
        /// The setting it must stay below.
        larger: &'static str,
        /// Its value.
        larger_value: String,
    },
    /// A number is outside of the range that works.
    #[error("{name} is {found}; it must be from {least} to {most}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: u128,
        /// The least that works.
        least: u128,
        /// The most that works.
        most: u128,
    },
    /// What would be told to others about this node is not valid.
    #[error(transparent)]
    Record(#[from] crate::RecordError),
}

/// A year: longer durations are certainly a mistake, and would overflow somewhere.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// A probe's answer may have to carry the largest record beside itself.
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
            // Measured, see `detection` in integration-tests: two would fail nodes that pause for three seconds and find
            // crashes one second sooner, four would find some among a hundred lossy nodes only after ten.
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

    /// For several nodes on one host: failures are noticed in about two seconds.
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

    /// Whether this combination can work.
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
    fn what_cannot_work_is_refused_with_the_setting_and_its_value() {
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
