//! The running dials, and what the node has learned from finished ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::Destination;

use crate::config::{Limits, Timeouts};
use crate::dial_policy::{DialEnd, DialPolicy, DialSettings, Turn};
use crate::error::OpenError;
use crate::link::Link;

type Outcome = Option<Result<Arc<Link>, OpenError>>;

/// A running dial.
#[derive(Debug)]
struct Dial {
    outcome: watch::Sender<Outcome>,
    /// The one datagram that waits for the connection.
    kept: Option<Bytes>,
}

/// All running dials, and what the node has learned from finished ones.
#[derive(Debug)]
pub(crate) struct Dials {
    dials: HashMap<Destination, Dial>,
    /// Why the last dial failed, for destinations in backoff.
    failed: HashMap<Destination, OpenError>,
    policy: DialPolicy,
    last_heard: Arc<LastHeard>,
    started: Instant,
}

/// When a datagram last arrived from any peer.
#[derive(Debug)]
pub(crate) struct LastHeard {
    started: Instant,
    /// Microseconds since then; zero if none arrived.
    at: AtomicU64,
}

impl LastHeard {
    pub(crate) fn note(&self) {
        self.at.store(self.started.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// How to proceed for a destination without a connection.
pub(crate) enum Step {
    Wait(watch::Receiver<Outcome>),
    Start(watch::Receiver<Outcome>, Duration),
    Failed(OpenError),
    /// The policy does not allow this dial yet. Try again when a dial ends, or after this time.
    Busy(Duration),
}

impl Dials {
    pub(crate) fn new(limits: &Limits, timeouts: &Timeouts, seed: u64) -> Self {
        let settings = DialSettings::of(limits, timeouts);
        let policy = DialPolicy::new(settings, seed);
        let started = Instant::now();
        let last_heard = Arc::new(LastHeard { started, at: AtomicU64::new(0) });
        Self { dials: HashMap::new(), failed: HashMap::new(), policy, last_heard, started }
    }

    pub(crate) fn last_heard(&self) -> Arc<LastHeard> {
        self.last_heard.clone()
    }

    /// Tells the policy when a datagram last arrived.
    fn hear(&mut self) {
        let at = self.last_heard.at.load(Ordering::Relaxed);
        if at > 0 {
            self.policy.hear(Duration::from_micros(at));
        }
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// How long a handshake may take now.
    pub(crate) fn timeout(&self, now: Instant) -> Duration {
        self.policy.timeout(self.since_start(now))
    }

    /// How long nearly all successful dials take now.
    pub(crate) fn expected(&self, now: Instant) -> Duration {
        self.policy.expected(self.since_start(now)).unwrap_or_default()
    }

    pub(crate) fn step(&mut self, to: &Destination, now: Instant) -> Step {
        if let Some(Dial { outcome, .. }) = self.dials.get(to) {
            return Step::Wait(outcome.subscribe());
        }
        self.hear();
        let at = self.since_start(now);
        match self.policy.begin(to, at) {
            Turn::Dial { timeout } => {
                self.failed.remove(to);
                let (outcome, receiver) = watch::channel(None);
                self.dials.insert(to.clone(), Dial { outcome, kept: None });
                Step::Start(receiver, timeout)
            }
            Turn::NotBefore(_) if let Some(error) = self.failed.get(to) => Step::Failed(error.clone()),
            // Another name, or none, is being dialled at this address. The result of that dial decides
            // this one too.
            Turn::UnderWay | Turn::Full | Turn::NotBefore(_) => Step::Busy(self.policy.overdue_timeout(at)),
        }
    }

    /// Keeps a datagram for a running dial, if that has none yet.
    pub(crate) fn keep(&mut self, to: &Destination, bytes: Bytes) -> bool {
        match self.dials.get_mut(to) {
            Some(Dial { kept: kept @ None, .. }) => {
                *kept = Some(bytes);
                true
            }
            _ => false,
        }
    }

    /// Ends a dial. Returns the datagram that waited for it.
    pub(crate) fn finish(
        &mut self,
        to: &Destination,
        result: Result<Arc<Link>, OpenError>,
        now: Instant,
    ) -> Option<Bytes> {
        let Dial { outcome, kept } = self.dials.remove(to)?;
        let end = match &result {
            Ok(_) => DialEnd::Connected,
            Err(OpenError::NoAnswer { .. } | OpenError::Lost { .. }) => DialEnd::Unanswered,
            Err(_) => DialEnd::Refused,
        };
        self.hear();
        // If the peer dialled us meanwhile, this failure must not delay the next dial.
        let connected = matches!(&*outcome.borrow(), Some(Ok(_)));
        self.policy.end(to, end, self.since_start(now));
        match &result {
            Err(_) if connected => self.policy.clear_failure(to),
            Err(error) => drop(self.failed.insert(to.clone(), error.clone())),
            Ok(_) => {}
        }
        outcome.send_replace(Some(result));
        kept
    }

    /// Gives a connection that the peer dialled to the callers that wait for a dial to the same peer.
    /// Returns their datagrams.
    ///
    /// The dial itself continues. If it leads to a second connection, both sides agree on the one to
    /// keep.
    pub(crate) fn resolve(
        &mut self,
        link: &Arc<Link>,
        leads_there: impl Fn(&Destination) -> bool,
        now: Instant,
    ) -> Vec<Bytes> {
        let mut datagrams = Vec::new();
        for (to, dial) in &mut self.dials {
            if leads_there(to) {
                dial.outcome.send_replace(Some(Ok(link.clone())));
                datagrams.extend(dial.kept.take());
            }
        }
        self.failed.retain(|to, _| !leads_there(to));
        self.policy.handshake_succeeded(leads_there, self.since_start(now));
        datagrams
    }

    /// When a running dial should begin again, as far as is known now.
    pub(crate) fn renewal_due(&self, to: &Destination, now: Instant) -> Option<Instant> {
        self.policy.renewal_due(to, self.since_start(now)).map(|due| self.started + due)
    }

    /// Begins a dial again if that is due. Returns its new timeout.
    pub(crate) fn renew(&mut self, to: &Destination, now: Instant) -> Option<Duration> {
        self.hear();
        self.policy.renew(to, self.since_start(now))
    }

    /// Clears all failures, because their causes may have changed.
    pub(crate) fn clear_failures(&mut self) {
        self.failed.clear();
        self.policy.clear_failures();
    }

    /// Removes expired failures.
    pub(crate) fn purge(&mut self, now: Instant) {
        let at = self.since_start(now);
        self.policy.purge(at);
        let policy = &self.policy;
        self.failed.retain(|to, _| policy.has_failure(to));
    }
}

/// A destination in a message for people.
pub(crate) fn describe(to: &Destination) -> Arc<str> {
    match &to.name {
        Some(name) => format!("the node {name:?} at {}", to.address).into(),
        None => to.address.to_string().into(),
    }
}
