//! Dialling peers: one dial a destination, few at a time, and a pause after a failure.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use wire::Destination;

use crate::accept::check;
use crate::arrivals::Arrival;
use crate::endpoint::Sent;
use crate::introduction::{Introduction, Speechless};
use crate::link::Link;
use crate::refusal::{CloseCode, Loss, OpenError, Refusal, SendError, refusal_of};
use crate::shared::Shared;
use crate::tls::{self, Verdict};

type Outcome = Option<Result<Arc<Link>, OpenError>>;

/// A dial, or the memory of one that failed.
#[derive(Debug)]
enum Dial {
    Running {
        outcome: watch::Sender<Outcome>,
        /// The one datagram that may wait for it.
        kept: Option<Bytes>,
    },
    Failed {
        until: Instant,
        error: OpenError,
    },
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    dials: HashMap<Destination, Dial>,
    running: usize,
}

/// What to do about a destination without a connection.
enum Step {
    Wait(watch::Receiver<Outcome>),
    Start(watch::Receiver<Outcome>),
    Failed(OpenError),
    Busy,
}

impl Dials {
    fn step(&mut self, to: &Destination, limit: usize, now: Instant) -> Step {
        match self.dials.get(to) {
            Some(Dial::Running { outcome, .. }) => return Step::Wait(outcome.subscribe()),
            Some(Dial::Failed { until, error }) if now < *until => return Step::Failed(error.clone()),
            _ => {}
        }
        if self.running >= limit {
            return Step::Busy;
        }
        let (outcome, receiver) = watch::channel(None);
        self.dials.insert(to.clone(), Dial::Running { outcome, kept: None });
        self.running += 1;
        Step::Start(receiver)
    }

    /// Keeps a datagram for a running dial, if it has none yet.
    fn keep(&mut self, to: &Destination, bytes: Bytes) -> bool {
        match self.dials.get_mut(to) {
            Some(Dial::Running { kept: kept @ None, .. }) => {
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
        until: Instant,
    ) -> Option<Bytes> {
        let Some(Dial::Running { outcome, kept }) = self.dials.remove(to) else { return None };
        self.running -= 1;
        if let Err(error) = &result {
            self.dials.insert(to.clone(), Dial::Failed { until, error: error.clone() });
        }
        outcome.send_replace(Some(result));
        kept
    }

    /// Gives what waits for a dial the connection that came about in another way: the peer dialled us first.
    ///
    /// The dial itself goes on; if it leads to a second connection, both sides agree on the one to keep.
    pub(crate) fn satisfy(
        &mut self,
        link: &Arc<Link>,
        leads_there: impl Fn(&Destination) -> bool,
    ) -> Vec<Bytes> {
        let mut datagrams = Vec::new();
        for (to, dial) in &mut self.dials {
            if let Dial::Running { outcome, kept } = dial
                && leads_there(to)
            {
                outcome.send_replace(Some(Ok(link.clone())));
                datagrams.extend(kept.take());
            }
        }
        self.dials.retain(|to, dial| !matches!(dial, Dial::Failed { .. }) || !leads_there(to));
        datagrams
    }

    /// Forgets all failures: what they failed for may have changed.
    pub(crate) fn forgive(&mut self) {
        self.dials.retain(|_, dial| !matches!(dial, Dial::Failed { .. }));
    }

    /// Forgets failures that no longer count.
    pub(crate) fn purge(&mut self, now: Instant) {
        self.dials.retain(|_, dial| !matches!(dial, Dial::Failed { until, .. } if *until <= now));
    }
}

/// Has a destination dialled for a datagram, which may wait for it.
pub(crate) fn for_datagram(shared: &Arc<Shared>, to: &Destination, bytes: Bytes) -> Result<Sent, SendError> {
    let mut table = shared.table.write();
    let step = table.dials.step(to, shared.config.limits.dials, Instant::now());
    let failure = match step {
        Step::Wait(_) | Step::Start(_) => {
            let kept = table.dials.keep(to, bytes);
            drop(table);
            if matches!(step, Step::Start(_)) {
                start(shared, to);
            }
            if kept {
                shared.counters.datagrams_kept.increment();
                return Ok(Sent::Kept);
            }
            shared.counters.datagrams_dropped_not_ready.increment();
            return Err(SendError::NotReady);
        }
        Step::Failed(_) => SendError::Unreachable,
        Step::Busy => {
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
    deadline: Instant,
) -> Result<Arc<Link>, OpenError> {
    let after = shared.config.timeouts.dial;
    let mut outcome = loop {
        if let Some(link) = shared.find(to) {
            return Ok(link);
        }
        // Asked before it is looked, so that a place that becomes free in between is not missed.
        let place = shared.dial_ended.notified();
        let step = shared.table.write().dials.step(to, shared.config.limits.dials, Instant::now());
        match step {
            Step::Wait(outcome) => break outcome,
            Step::Start(outcome) => {
                start(shared, to);
                break outcome;
            }
            Step::Failed(error) => return Err(error),
            Step::Busy => {
                shared.counters.dials_capped.increment();
                if timeout_at(deadline, place).await.is_err() {
                    return Err(OpenError::Busy { to: describe(to), after });
                }
            }
        }
    };
    match timeout_at(deadline, outcome.wait_for(Option::is_some)).await {
        Ok(Ok(outcome)) => outcome.clone().expect("waited for"),
        Ok(Err(_)) => Err(OpenError::ShutDown),
        Err(_) => Err(OpenError::NoAnswer { to: describe(to), after }),
    }
}

fn start(shared: &Arc<Shared>, to: &Destination) {
    shared.counters.dials_started.increment();
    let to = to.clone();
    shared.spawn(move |shared| async move {
        let after = shared.config.timeouts.dial;
        let result = tokio::select! {
            result = timeout(after, dial(&shared, &to)) => {
                result.unwrap_or_else(|_| Err(OpenError::NoAnswer { to: describe(&to), after }))
            }
            () = shared.stop.cancelled() => Err(OpenError::ShutDown),
        };
        report(&shared, &to, &result);
        let link = result.as_ref().ok().cloned();
        let until = Instant::now() + shared.config.timeouts.dial_backoff;
        let kept = shared.table.write().dials.finish(&to, result, until);
        shared.dial_ended.notify_waiters();
        match (kept, link) {
            (Some(bytes), Some(link)) => shared.send_kept(&link, bytes),
            (Some(_), None) => shared.counters.datagrams_dropped_unreachable.increment(),
            (None, _) => {}
        }
    });
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
            if *refusal != Refusal::Myself && shared.may_mention(to.address) {
                tracing::warn!(to = %describe(to), reason = %refusal, "a dialled peer and this node refuse each other");
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

async fn dial(shared: &Arc<Shared>, to: &Destination) -> Result<Arc<Link>, OpenError> {
    let refused = |refusal| OpenError::Refused { to: describe(to), refusal };
    if to.address == shared.local {
        return Err(refused(Refusal::Myself));
    }
    let verdict = Verdict::default();
    let config = shared.client_config(tls::client_config(&shared.credentials(), &verdict));
    let connecting = shared.endpoint.connect_with(config, to.address, "networkdb").map_err(|error| {
        OpenError::Address { to: describe(to), bound: shared.local, reason: error.to_string() }
    })?;
    let ended = |error: quinn::ConnectionError| match refusal_of(&error) {
        Some(refusal) => refused(refusal),
        None if error == quinn::ConnectionError::TimedOut => {
            OpenError::NoAnswer { to: describe(to), after: shared.config.timeouts.dial }
        }
        None => OpenError::Lost { to: describe(to), loss: Loss::of(&error) },
    };
    let connected = connecting.await;
    let bearer = match (verdict.take(), &connected) {
        (Some(Err(refusal)), _) => return Err(refused(refusal)),
        (Some(Ok(bearer)), _) => bearer,
        (None, Err(error)) => return Err(ended(error.clone())),
        (None, Ok(_)) => return Err(refused(Refusal::Certificate("it showed none".to_owned()))),
    };
    let connection = connected.map_err(ended)?;
    shared.subject.introduction.send(&connection).await.map_err(ended)?;
    // The peer decides only now whether it takes us; its welcome also means that it can read why we may not take it.
    let introduction = match Introduction::receive(&connection).await {
        Ok(introduction) => Ok(introduction),
        Err(Speechless::Refused(refusal)) => Err(refusal),
        Err(Speechless::Lost(error)) => return Err(ended(error)),
    };
    let adopted = introduction.and_then(|introduction| {
        check(shared, &introduction)?;
        match &to.name {
            Some(expected) if *expected != bearer.name => {
                Err(Refusal::Name { expected: expected.clone(), found: bearer.name.clone() })
            }
            _ => shared.adopt(connection.clone(), bearer, &introduction, true),
        }
    });
    adopted.map_err(|refusal| {
        connection.close(CloseCode::of_refusal(&refusal).code(), refusal.told_to_peer().as_bytes());
        refused(refusal)
    })
}

/// A destination as a person reads it.
pub(crate) fn describe(to: &Destination) -> Arc<str> {
    match &to.name {
        Some(name) => format!("the node {name:?} at {}", to.address).into(),
        None => to.address.to_string().into(),
    }
}
