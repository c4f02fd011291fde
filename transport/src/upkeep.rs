//! Periodic maintenance: renews certificates, removes expired failures of dials, closes unused
//! connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::certificate::wall_clock;
use crate::error::CloseCode;
use crate::identity::Identity;
use crate::shared::Shared;

/// The interval of the maintenance.
const UPKEEP: Duration = Duration::from_secs(1);

/// How often a peer's silence is looked at before its connection is lost.
const LOOKS: u32 = 8;

/// The interval between two warnings that a certificate of an operator's authority is about to expire.
const WARN_AGAIN: Duration = Duration::from_secs(3600);

/// Runs the maintenance until the transport stops.
pub(crate) async fn upkeep(shared: Arc<Shared>) {
    let mut warn_at = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(UPKEEP) => {}
            () = shared.stop.cancelled() => return,
        }
        let now = Instant::now();
        shared.table.write().dials.purge(now);
        let credentials = shared.credentials();
        if credentials.is_renewal_due(wall_clock()) {
            shared.replace_credentials(credentials.identity.clone());
        }
        if let Identity::Certificates(certificates) = &credentials.identity
            && let Some(left) = certificates.expires_soon(wall_clock())
            && now >= warn_at
        {
            warn_at = now + WARN_AGAIN;
            tracing::warn!(
                left = ?left,
                "this node's certificate is about to expire; replace it"
            );
        }
        close_unused(&shared, now);
    }
}

/// Closes connections whose peers leave packets unanswered, until the transport stops.
///
/// The idle timeout of QUIC does the same, but also ends every connection that is silent for as long, unless
/// keep-alives prevent that. They would be most of the traffic of an idle node.
pub(crate) async fn close_unanswered(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.config.timeouts.unanswered / LOOKS) => {}
            () = shared.stop.cancelled() => return,
        }
        for link in shared.links() {
            // Looks are counted, not time: a process that did not run has not read what arrived meanwhile.
            if link.look_for_answer() > LOOKS {
                link.close_unanswered();
            }
        }
    }
}

fn close_unused(shared: &Shared, now: Instant) {
    let links = shared.links();
    let surplus = links.len().saturating_sub(shared.config.limits.warm_connections);
    if surplus == 0 {
        return;
    }
    let mut unused: Vec<_> = links.iter().map(|link| (link.unused_for(now), link)).collect();
    unused.sort_unstable_by_key(|(time, link)| (std::cmp::Reverse(*time), link.id));
    for (time, link) in unused.into_iter().take(surplus) {
        if time < shared.config.timeouts.unused {
            break;
        }
        shared.counters.connections_closed_unused.increment();
        link.close(CloseCode::Unused, "the connection was unused");
    }
}
