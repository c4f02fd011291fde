//! Accepting peers: which handshakes are admitted, and which connections are adopted.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::adoption::{adopt, check};
use crate::error::{CloseCode, RefusalReason, refusal_of};
use crate::half_open::{Account, Admission, HalfOpen};
use crate::introduction::{Introduction, IntroductionError};
use crate::shared::Shared;
use crate::socket::canonical;
use crate::tls::{self, Verdict};

/// A handshake that counts as half-open until this is dropped.
struct HandshakeGuard<'a> {
    half_open: &'a Mutex<HalfOpen>,
    account: Account,
}

impl Drop for HandshakeGuard<'_> {
    fn drop(&mut self) {
        self.half_open.lock().end(self.account);
    }
}

/// Accepts handshakes until the transport stops.
pub(crate) async fn accept(shared: Arc<Shared>) {
    loop {
        let incoming = tokio::select! {
            incoming = shared.endpoint.accept() => incoming,
            () = shared.stop.cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        admit(&shared, incoming);
    }
}

/// The admission check: refuses the handshake, asks the sender to validate its address, or begins it. A
/// refused handshake leaves no state behind.
fn admit(shared: &Arc<Shared>, incoming: quinn::Incoming) {
    let (limits, counters) = (&shared.config.limits, &shared.counters);
    let address = canonical(incoming.remote_address()).ip();
    let account = Account::new(address, incoming.remote_address_validated());
    let admission = shared.half_open.lock().begin(limits, account);
    match admission {
        Admission::Begin => {}
        Admission::Retry => {
            counters.handshakes_retried.increment();
            return drop(incoming.retry());
        }
        Admission::Full => {
            counters.handshakes_failed_capped.increment();
            return incoming.refuse();
        }
        Admission::FullForAddress => {
            counters.handshakes_failed_capped_by_address.increment();
            return incoming.refuse();
        }
    }
    shared.spawn(move |shared| async move {
        let guard = HandshakeGuard { half_open: &shared.half_open, account };
        handshake(&shared, incoming).await;
        drop(guard);
    });
}

async fn handshake(shared: &Arc<Shared>, incoming: quinn::Incoming) {
    let address = canonical(incoming.remote_address());
    if shared.is_full(address) {
        incoming.refuse();
        return shared.refuse(address, None, RefusalReason::AtCapacity);
    }
    let verdict = Verdict::default();
    let config = shared.server_config(tls::server_config(&shared.credentials(), &verdict));
    let connecting = match incoming.accept_with(Arc::new(config)) {
        Ok(connecting) => connecting,
        Err(error) => match refusal_of(&error) {
            Some(refusal) => return shared.refuse(address, None, refusal),
            // The packet looks like the first of a handshake, but is encrypted with the keys of another
            // one: a late packet of a handshake that was given up here and that the peer still
            // continues.
            None => return shared.counters.handshakes_failed_stray.increment(),
        },
    };
    let handshaking = async {
        let connection = connecting.await.map_err(IntroductionError::Lost)?;
        let introduction = Introduction::receive(&connection).await;
        Ok((connection, introduction))
    };
    let after = shared.handshake_timeout();
    let outcome = tokio::select! {
        outcome = timeout(after, handshaking) => outcome,
        () = shared.stop.cancelled() => return,
    };
    let verified = verdict.take();
    let (connection, introduction) = match (outcome, &verified) {
        (Ok(Ok(outcome)), _) => outcome,
        (_, Some(Err(refusal))) => return shared.refuse(address, None, refusal.clone()),
        (Ok(Err(IntroductionError::Lost(error))), _) => match refusal_of(&error) {
            Some(refusal) => return shared.refuse(address, None, refusal),
            None => return shared.counters.handshakes_failed_unfinished.increment(),
        },
        (Ok(Err(IntroductionError::Refused(refusal))), _) => return shared.refuse(address, None, refusal),
        // Dropping the connection closes it.
        (Err(_), _) => return shared.counters.handshakes_failed_unfinished.increment(),
    };
    let Some(Ok(verified)) = verified else {
        // No handshake completes without a certificate. This is a second line of defence.
        return connection.close(CloseCode::Refused.code(), b"no certificate");
    };
    let name = verified.name.clone();
    let introduction = match introduction {
        Ok(introduction) => Ok(introduction),
        Err(IntroductionError::Refused(refusal)) => Err(refusal),
        Err(IntroductionError::Lost(error)) => match refusal_of(&error) {
            // The dialler has verified our certificate and refuses it.
            Some(refusal) => return shared.refuse(address, Some(name), refusal),
            None => return shared.counters.handshakes_failed_unfinished.increment(),
        },
    };
    let adopted = introduction.and_then(|introduction| {
        check(shared, &introduction)?;
        adopt(shared, connection.clone(), verified, &introduction, false)
    });
    match adopted {
        Ok(_) => {
            shared.counters.handshakes_accepted.increment();
            // Our introduction tells the dialler that it is accepted. Until then it may still be
            // refused.
            let introducing = shared.subject.introduction.send(&connection);
            let _ = timeout(after, introducing).await;
        }
        Err(refusal) => {
            connection.close(CloseCode::of_refusal(&refusal).code(), refusal.message_to_peer().as_bytes());
            shared.refuse(address, Some(name), refusal);
        }
    }
}
