//! Every write that was requested, whether it was acknowledged, and which values may be shown in
//! the end.
//!
//! All hosts share one wall clock here, and versions are never behind it: of two writes to a key
//! that did not overlap in time, the later one wins, also across a partition. So the allowed values
//! follow from the order in which the API acknowledged writes, and from which processes have not
//! been replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A write acknowledged this shortly before its writer was killed may have reached no other node.
const SPREADING: Duration = Duration::from_secs(5);

/// Names a write in its ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteId {
    key: String,
    index: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    host: String,
    instance: u64,
    /// `None` for a delete.
    value: Option<String>,
    begun: Instant,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    UnderWay,
    Acknowledged(Instant),
    /// There was no answer until then: the write may have been done, or not.
    Unknown(Instant),
    Refused,
}

/// What may be shown under a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Value and owner.
    pub shown: BTreeSet<(String, String)>,
    /// Whether the key may be missing.
    pub absent: bool,
}

/// What one host shows: key to value and owner.
pub type Table = BTreeMap<String, (String, String)>;

/// All writes of a scenario.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<String, Vec<Write>>,
    of_value: BTreeMap<String, WriteId>,
    /// When each ended instance of each host ended, in order; one more may be running.
    ended: BTreeMap<String, Vec<Instant>>,
    next_value: u64,
    /// When the first write began: histories count from there.
    origin: Option<Instant>,
}

impl Ledger {
    /// A value that no write has used, padded to this many bytes.
    pub fn fresh_value(&mut self, bytes: usize) -> String {
        self.next_value += 1;
        format!("{:.<bytes$}", format!("v{}", self.next_value))
    }

    /// Records a write that is about to be requested; `None` is a delete.
    pub fn begin(&mut self, host: &str, key: &str, value: Option<String>, now: Instant) -> WriteId {
        let instance = self.instance(host);
        self.origin.get_or_insert(now);
        let writes = self.keys.entry(key.to_owned()).or_default();
        let id = WriteId { key: key.to_owned(), index: writes.len() };
        if let Some(value) = &value {
            self.of_value.insert(value.clone(), id.clone());
        }
        writes.push(Write { host: host.to_owned(), instance, value, begun: now, outcome: Outcome::UnderWay });
        id
    }

    /// The node acknowledged the write.
    pub fn acknowledge(&mut self, id: &WriteId, now: Instant) {
        self.settle(id, Outcome::Acknowledged(now));
    }

    /// The node refused the write.
    pub fn refuse(&mut self, id: &WriteId) {
        self.settle(id, Outcome::Refused);
    }

    /// The node did not answer.
    pub fn give_up(&mut self, id: &WriteId, now: Instant) {
        self.settle(id, Outcome::Unknown(now));
    }

    fn settle(&mut self, id: &WriteId, outcome: Outcome) {
        if let Some(write) = self.keys.get_mut(&id.key).and_then(|writes| writes.get_mut(id.index)) {
            write.outcome = outcome;
        }
    }

    /// The process on this host has ended, and all that it owned with it.
    pub fn end_instance(&mut self, host: &str, now: Instant) {
        self.ended.entry(host.to_owned()).or_default().push(now);
    }

    /// The number of a host's present instance; the first is 0.
    pub fn instance(&self, host: &str) -> u64 {
        self.ended.get(host).map_or(0, |ended| ended.len() as u64)
    }

    fn end_of(&self, write: &Write) -> Option<Instant> {
        self.ended.get(&write.host)?.get(write.instance as usize).copied()
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let writes = self.keys.values().flatten();
        writes.filter(|write| matches!(write.outcome, Outcome::Acknowledged(_))).count()
    }

    /// Whether any node wrote this value.
    pub fn contains_value(&self, value: &str) -> bool {
        self.of_value.contains_key(value)
    }

    /// Whether a replica that ceased to show this value at this moment did so for good: a later
    /// write to its key had begun, or its owner had ended. Of concurrent writes either may have
    /// won, so they do not count.
    pub fn superseded_by(&self, value: &str, moment: Instant) -> bool {
        let Some(id) = self.of_value.get(value) else { return false };
        let Some(writes) = self.keys.get(&id.key) else { return false };
        let write = &writes[id.index];
        let later = |rival: &Write| match (write.outcome, rival.outcome) {
            (Outcome::Acknowledged(ended) | Outcome::Unknown(ended), Outcome::Acknowledged(_)) => {
                (ended..=moment).contains(&rival.begun)
            }
            _ => false,
        };
        let mut rivals = writes.iter().enumerate().filter(|(index, _)| *index != id.index);
        rivals.any(|(_, rival)| later(rival)) || self.end_of(write).is_some_and(|end| end <= moment)
    }

    /// The values allowed under each key once the cluster is quiescent.
    pub fn allowed(&self) -> BTreeMap<&str, Allowed> {
        self.keys.iter().map(|(key, writes)| (key.as_str(), self.allowed_for(writes))).collect()
    }

    fn allowed_for(&self, writes: &[Write]) -> Allowed {
        let mut allowed = Allowed::default();
        let mut left: Vec<&Write> = writes.iter().filter(|write| write.outcome != Outcome::Refused).collect();
        loop {
            // A write that ended before an acknowledged write began cannot be shown any more.
            let begun = left.iter().filter(|write| matches!(write.outcome, Outcome::Acknowledged(_)));
            let latest = begun.map(|write| write.begun).max();
            let (last, earlier): (Vec<&Write>, Vec<&Write>) =
                left.into_iter().partition(|write| match (write.outcome, latest) {
                    (Outcome::Acknowledged(at) | Outcome::Unknown(at), Some(latest)) => at >= latest,
                    _ => true,
                });
            let mut may_be_unknown = true;
            for write in &last {
                let acknowledged = match write.outcome {
                    Outcome::Acknowledged(at) => Some(at),
                    _ => None,
                };
                let end = self.end_of(write);
                let spread = match (acknowledged, end) {
                    (Some(at), Some(end)) => end.saturating_duration_since(at) > SPREADING,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                may_be_unknown &= !spread;
                match &write.value {
                    Some(value) if end.is_none() => {
                        allowed.shown.insert((value.clone(), write.host.clone()));
                    }
                    _ => allowed.absent = true,
                }
            }
            if !may_be_unknown {
                return allowed;
            }
            if earlier.is_empty() {
                allowed.absent = true;
                return allowed;
            }
            left = earlier;
        }
    }

    /// A moment as histories show it.
    pub fn when(&self, moment: Instant) -> String {
        let since = self.origin.map_or(Duration::ZERO, |origin| moment.saturating_duration_since(origin));
        format!("{:8.3} s", since.as_secs_f64())
    }

    /// Every write to a key, a line each.
    pub fn history(&self, key: &str) -> String {
        let line = |write: &Write| {
            let (what, ended) = match write.outcome {
                Outcome::UnderWay => ("is under way", None),
                Outcome::Acknowledged(at) => ("acknowledged", Some(at)),
                Outcome::Unknown(at) => ("given up", Some(at)),
                Outcome::Refused => ("refused", None),
            };
            let ended = ended.map(|at| self.when(at)).unwrap_or_default();
            let value = write.value.as_deref().unwrap_or("a delete");
            let over = self.end_of(write).map(|at| format!(", whose instance ended at {}", self.when(at)));
            let (begun, host, over) = (self.when(write.begun), &write.host, over.unwrap_or_default());
            format!("  {begun}: {value} on {host}{over}; {what} {ended}")
        };
        let writes = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        writes.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Checks a table; the error describes what is wrong.
    pub fn check(&self, table: &Table) -> Result<(), String> {
        let allowed = self.allowed();
        let mut wrong = Vec::new();
        for (key, may) in &allowed {
            match table.get(*key) {
                None if may.absent => {}
                None => wrong.push(format!(
                    "{key} is lost; {} should be there; written were\n{}",
                    any(&may.shown),
                    self.history(key)
                )),
                Some(found) if may.shown.contains(found) => {}
                Some((value, owner)) if may.shown.is_empty() => {
                    let history = self.history(key);
                    wrong
                        .push(format!("{key} is shown again as {value} of {owner}; written were\n{history}"));
                }
                Some((value, owner)) => {
                    wrong.push(format!("{key} is {value} of {owner}; it should be {}", any(&may.shown)));
                }
            }
        }
        wrong.extend(
            table
                .keys()
                .filter(|key| !allowed.contains_key(key.as_str()))
                .map(|key| format!("{key} is shown, and no node wrote it")),
        );
        match wrong.len() {
            0 => Ok(()),
            number => {
                wrong.truncate(3);
                Err(format!("{number} keys are wrong: {}", wrong.join("; ")))
            }
        }
    }
}

fn any(shown: &BTreeSet<(String, String)>) -> String {
    let shown: Vec<_> = shown.iter().map(|(value, owner)| format!("{value} of {owner}")).collect();
    shown.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger and a clock that advances by a second with each reading.
    struct Timeline {
        ledger: Ledger,
        now: Instant,
    }

    impl Timeline {
        #[expect(clippy::disallowed_methods, reason = "only a starting point")]
        fn new() -> Self {
            Self { ledger: Ledger::default(), now: Instant::now() }
        }

        fn tick(&mut self) -> Instant {
            self.now += Duration::from_secs(1);
            self.now
        }

        fn begin(&mut self, host: &str, value: Option<&str>) -> WriteId {
            let now = self.tick();
            self.ledger.begin(host, "k", value.map(str::to_owned), now)
        }

        fn done(&mut self, host: &str, value: Option<&str>) {
            let id = self.begin(host, value);
            let now = self.tick();
            self.ledger.acknowledge(&id, now);
        }

        fn allows(&self, value: Option<(&str, &str)>) -> bool {
            let table = value.map(|(value, host)| ("k".to_owned(), (value.to_owned(), host.to_owned())));
            self.ledger.check(&table.into_iter().collect()).is_ok()
        }
    }

    #[test]
    fn the_last_acknowledged_write_must_be_shown() {
        let mut timeline = Timeline::new();
        timeline.done("h1", Some("a"));
        assert!(
            timeline.allows(Some(("a", "h1")))
                && !timeline.allows(None)
                && !timeline.allows(Some(("a", "h2")))
        );
        timeline.done("h2", Some("b"));
        assert!(timeline.allows(Some(("b", "h2"))) && !timeline.allows(Some(("a", "h1"))));
        timeline.done("h1", None);
        assert!(timeline.allows(None) && !timeline.allows(Some(("b", "h2"))));
    }

    #[test]
    fn of_writes_at_the_same_time_either_may_win() {
        let mut timeline = Timeline::new();
        let (one, other) = (timeline.begin("h1", Some("a")), timeline.begin("h2", Some("b")));
        let now = timeline.tick();
        timeline.ledger.acknowledge(&one, now);
        timeline.ledger.acknowledge(&other, now);
        assert!(
            timeline.allows(Some(("a", "h1")))
                && timeline.allows(Some(("b", "h2")))
                && !timeline.allows(None)
        );
    }

    #[test]
    fn a_write_without_an_answer_may_be_shown_or_not() {
        let mut timeline = Timeline::new();
        timeline.done("h1", Some("a"));
        let id = timeline.begin("h1", Some("b"));
        let now = timeline.tick();
        timeline.ledger.give_up(&id, now);
        assert!(
            timeline.allows(Some(("a", "h1")))
                && timeline.allows(Some(("b", "h1")))
                && !timeline.allows(None)
        );
        timeline.done("h1", Some("c"));
        assert!(timeline.allows(Some(("c", "h1"))) && !timeline.allows(Some(("b", "h1"))));
    }

    #[test]
    fn entries_of_an_ended_process_go_and_uncover_nothing() {
        let mut timeline = Timeline::new();
        timeline.done("h1", Some("a"));
        timeline.done("h2", Some("b"));
        let later = timeline.tick() + 2 * SPREADING;
        timeline.ledger.end_instance("h2", later);
        assert!(
            timeline.allows(None)
                && !timeline.allows(Some(("b", "h2")))
                && !timeline.allows(Some(("a", "h1")))
        );
    }

    #[test]
    fn a_write_just_before_a_kill_may_have_reached_no_other_node() {
        let mut timeline = Timeline::new();
        timeline.done("h1", Some("a"));
        timeline.done("h2", None);
        let now = timeline.tick();
        timeline.ledger.end_instance("h2", now);
        assert!(timeline.allows(None) && timeline.allows(Some(("a", "h1"))));
    }

    #[test]
    fn a_refused_write_has_no_effect() {
        let mut timeline = Timeline::new();
        timeline.done("h1", Some("a"));
        let id = timeline.begin("h2", None);
        timeline.ledger.refuse(&id);
        assert!(timeline.allows(Some(("a", "h1"))) && !timeline.allows(None));
        assert!(!timeline.ledger.superseded_by("a", timeline.now));
        let before = timeline.now;
        timeline.done("h2", None);
        assert!(
            timeline.ledger.superseded_by("a", timeline.now) && !timeline.ledger.superseded_by("a", before)
        );
        assert!(timeline.ledger.contains_value("a") && !timeline.ledger.contains_value("never"));
    }
}
