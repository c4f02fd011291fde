//! Dialling peers: one dial per destination, when the policy allows it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use wire::Destination;

use crate::adoption::{adopt, check};
use crate::arrivals::Arrival;
use crate::dial_policy::RENEWAL_INTERVAL;
use crate::dials::{Step, describe};
use crate::error::{CloseCode, Loss, OpenError, RefusalReason, SendError, refusal_of};
use crate::introduction::{Introduction, IntroductionError};
use crate::link::Link;
use crate::shared::Shared;
use crate::tls::{self, Verdict};

/// Starts or joins a dial for a datagram, which then waits for the connection, or returns why it does not.
pub(crate) fn for_datagram(shared: &Arc<Shared>, to: &Destination, bytes: Bytes) -> Result<(), SendError> {
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
                return Ok(());
            }
            shared.counters.datagrams_dropped_not_ready.increment();
            return Err(SendError::NotReady);
        }
        Step::Failed(_) => SendError::Unreachable,
        Step::Busy(_) => {
            shared.counters.dials_failed_capped.increment();
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
                    shared.counters.dials_failed_capped.increment();
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
    let mut look_at = Instant::now() + RENEWAL_INTERVAL;
    loop {
        sleep_until(look_at).await;
        let now = Instant::now();
        let dials = &mut shared.table.write().dials;
        if let Some(after) = dials.renew(to, now) {
            return after;
        }
        look_at = dials.renewal_due(to, now).unwrap_or(now + RENEWAL_INTERVAL);
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
            counters.dials_failed_refused.increment();
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
            counters.dials_failed_unanswered.increment();
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
            _ => adopt(shared, connection.clone(), verified, &introduction, true),
        }
    });
    adopted.map_err(|refusal| {
        connection.close(CloseCode::of_refusal(&refusal).code(), refusal.message_to_peer().as_bytes());
        refused(refusal)
    })
}
