//! Dialling peers: one dial per destination, when [`DialPolicy`] allows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use wire::Destination;

use crate::accept::check;
use crate::arrivals::Arrival;
use crate::config::{Limits, Timeouts};
use crate::dial_policy::{DialEnd, DialPolicy, DialSettings, Turn};
use crate::endpoint::Sent;
use crate::error::{CloseCode, Loss, OpenError, RefusalReason, SendError, refusal_of};
use crate::introduction::{Introduction, IntroductionError};
use crate::link::Link;
use crate::shared::Shared;
use crate::tls::{self, Verdict};

/// A dial that may have to begin again looks this often whether a peer was heard.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

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
enum Step {
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

    fn step(&mut self, to: &Destination, now: Instant) -> Step {
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
    fn keep(&mut self, to: &Destination, bytes: Bytes) -> bool {
        match self.dials.get_mut(to) {
            Some(Dial { kept: kept @ None, .. }) => {
                *kept = Some(bytes);
                true
            }
            _ => false,
        }
    }

    /// Ends a dial. Returns the datagram that waited for it.
    fn finish(
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
    fn renewal_due(&mut self, to: &Destination, now: Instant) -> Option<Instant> {
        self.hear();
        self.policy.renewal_due(to, self.since_start(now)).map(|due| self.started + due)
    }

    /// Begins a dial again if that is due. Returns its new timeout.
    fn renew(&mut self, to: &Destination, now: Instant) -> Option<Duration> {
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

/// Starts or joins a dial for a datagram, which may wait for the connection.
pub(crate) fn for_datagram(shared: &Arc<Shared>, to: &Destination, bytes: Bytes) -> Result<Sent, SendError> {
    let mut table = shared.table.write();
    let step = table.dials.step(to, Instant::now());
    let failure = match step {
        Step::Wait(_) | Step::Start(..) => {
            let kept = table.dials.keep(to, bytes);
            drop(table);
            if let Step::Start(_, timeout) = step {
                start(shared, to, timeout);
            }
            if kept {
                shared.counters.datagrams_kept.increment();
                return Ok(Sent::Kept);
            }
            shared.counters.datagrams_dropped_not_ready.increment();
            return Err(SendError::NotReady);
        }
        Step::Failed(_) => SendError::Unreachable,
        Step::Busy(_) => {
            shared.counters.dials_capped.increment();
            SendError::Unreachable
        }
    };
    shared.counters.datagrams_dropped_unreachable.increment();
    Err(failure)
}

/// The connection with a destination, dialled if there is none.
pub(crate) async fn connect(
    shared: &Arc<Shared>,
    to: &Destination,
    begun: Instant,
    deadline: Instant,
) -> Result<Arc<Link>, OpenError> {
    let mut capped = false;
    let mut outcome = loop {
        if let Some(link) = shared.find(to) {
            return Ok(link);
        }
        // Subscribed before the state is read, so that a dial that ends in between is not missed.
        let dial_ended = shared.dial_ended.notified();
        let step = shared.table.write().dials.step(to, Instant::now());
        match step {
            Step::Wait(outcome) => break outcome,
            Step::Start(outcome, timeout) => {
                start(shared, to, timeout);
                break outcome;
            }
            Step::Failed(error) => return Err(error),
            Step::Busy(timeout) => {
                if !std::mem::replace(&mut capped, true) {
                    shared.counters.dials_capped.increment();
                }
                let now = Instant::now();
                if now >= deadline {
                    return Err(OpenError::Busy { to: describe(to), after: now - begun });
                }
                let _ = timeout_at(deadline.min(now + timeout), dial_ended).await;
            }
        }
    };
    match timeout_at(deadline, outcome.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => outcome.clone().expect("waited for"),
        Ok(Err(_)) => Err(OpenError::ShutDown),
        Err(_) => Err(OpenError::NoAnswer { to: describe(to), after: begun.elapsed() }),
    }
}

fn start(shared: &Arc<Shared>, to: &Destination, after: Duration) {
    shared.counters.dials_started.increment();
    let to = to.clone();
    shared.spawn(move |shared| async move {
        let mut after = after;
        let result = loop {
            tokio::select! {
                biased;
                result = timeout(after, dial(&shared, &to, after)) => {
                    break result.unwrap_or_else(|_| Err(OpenError::NoAnswer { to: describe(&to), after }));
                }
                () = shared.stop.cancelled() => break Err(OpenError::ShutDown),
                new_timeout = renewal(&shared, &to) => {
                    shared.counters.dials_renewed.increment();
                    after = new_timeout;
                }
            }
        };
        report(&shared, &to, &result);
        let link = result.as_ref().ok().cloned();
        let kept = shared.table.write().dials.finish(&to, result, Instant::now());
        shared.dial_ended.notify_waiters();
        match (kept, link) {
            (Some(bytes), Some(link)) => shared.send_kept(&link, bytes),
            (Some(_), None) => shared.counters.datagrams_dropped_unreachable.increment(),
            (None, _) => {}
        }
    });
}

/// Waits until a running dial should begin again. Returns its new timeout.
async fn renewal(shared: &Shared, to: &Destination) -> Duration {
    loop {
        // Subscribed before the state is read, so that a handshake that succeeds in between is not
        // missed.
        let handshake = shared.dial_ended.notified();
        let due = shared.table.write().dials.renewal_due(to, Instant::now());
        match due {
            None => drop(timeout(RENEWAL_INTERVAL, handshake).await),
            Some(due) if due > Instant::now() => {
                drop(timeout_at(due, handshake).await);
            }
            Some(_) => {
                let renewed = shared.table.write().dials.renew(to, Instant::now());
                if let Some(after) = renewed {
                    return after;
                }
            }
        }
    }
}

fn report(shared: &Shared, to: &Destination, result: &Result<Arc<Link>, OpenError>) {
    let counters = &shared.counters;
    match result {
        Ok(link) => {
            counters.dials_succeeded.increment();
            tracing::debug!(peer = %link.peer.name, address = %link.peer.address, "dialled a peer");
        }
        Err(OpenError::Refused { refusal, .. }) => {
            counters.dials_refused.increment();
            shared.count_refusal(refusal);
            if *refusal != RefusalReason::Myself && shared.may_log(to.address) {
                tracing::warn!(
                    to = %describe(to),
                    reason = %refusal,
                    "refused a dialled peer, or refused by it"
                );
                shared.arrivals.push_notice(Arrival::Refused {
                    address: to.address,
                    name: to.name.clone(),
                    refusal: refusal.clone(),
                });
            }
        }
        Err(error) => {
            counters.dials_unanswered.increment();
            tracing::debug!(to = %describe(to), %error, "a dial failed");
        }
    }
}

async fn dial(shared: &Arc<Shared>, to: &Destination, after: Duration) -> Result<Arc<Link>, OpenError> {
    let refused = |refusal| OpenError::Refused { to: describe(to), refusal };
    if to.address == shared.local {
        return Err(refused(RefusalReason::Myself));
    }
    let verdict = Verdict::default();
    let config = shared.client_config(tls::client_config(&shared.credentials(), &verdict));
    let connecting = shared.endpoint.connect_with(config, to.address, "networkdb").map_err(|error| {
        OpenError::Address { to: describe(to), bound: shared.local, reason: error.to_string() }
    })?;
    let ended = |error: quinn::ConnectionError| match refusal_of(&error) {
        Some(refusal) => refused(refusal),
        None if error == quinn::ConnectionError::TimedOut => OpenError::NoAnswer { to: describe(to), after },
        None => OpenError::Lost { to: describe(to), loss: Loss::of(&error) },
    };
    let connected = connecting.await;
    let verified = match (verdict.take(), &connected) {
        (Some(Err(refusal)), _) => return Err(refused(refusal)),
        (Some(Ok(verified)), _) => verified,
        (None, Err(error)) => return Err(ended(error.clone())),
        (None, Ok(_)) => return Err(refused(RefusalReason::Certificate("it showed none".to_owned()))),
    };
    let connection = connected.map_err(ended)?;
    shared.subject.introduction.send(&connection).await.map_err(ended)?;
    // The peer decides only now whether it accepts us. Its introduction also means that it can read a
    // reason for refusal.
    let introduction = match Introduction::receive(&connection).await {
        Ok(introduction) => Ok(introduction),
        Err(IntroductionError::Refused(refusal)) => Err(refusal),
        Err(IntroductionError::Lost(error)) => return Err(ended(error)),
    };
    let adopted = introduction.and_then(|introduction| {
        check(shared, &introduction)?;
        match &to.name {
            Some(expected) if *expected != verified.name => {
                Err(RefusalReason::Name { expected: expected.clone(), found: verified.name.clone() })
            }
            _ => shared.adopt(connection.clone(), verified, &introduction, true),
        }
    });
    adopted.map_err(|refusal| {
        connection.close(CloseCode::of_refusal(&refusal).code(), refusal.message_to_peer().as_bytes());
        refused(refusal)
    })
}

/// A destination in a message for people.
pub(crate) fn describe(to: &Destination) -> Arc<str> {
    match &to.name {
        Some(name) => format!("the node {name:?} at {}", to.address).into(),
        None => to.address.to_string().into(),
    }
}
