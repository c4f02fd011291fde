//! Adopting connections: both ways to a connection, dialling and accepting, end here. An adopted
//! connection is in the table, and two tasks receive its datagrams and streams until it ends.

use std::sync::Arc;

use quinn::ConnectionError;

use crate::certificate::VerifiedPeer;
use crate::error::{CloseCode, RefusalReason};
use crate::frames::StreamCode;
use crate::introduction::Introduction;
use crate::link::Link;
use crate::shared::Shared;

/// How many datagrams are read before other tasks run.
const DATAGRAMS_A_TURN: usize = 128;

/// Checks that a peer whose name is verified belongs to this cluster and is not this node.
pub(crate) fn check(shared: &Shared, introduction: &Introduction) -> Result<(), RefusalReason> {
    let ours = &shared.subject.introduction;
    if introduction.cluster != ours.cluster {
        return Err(RefusalReason::Cluster {
            theirs: introduction.cluster.clone(),
            ours: ours.cluster.clone(),
        });
    }
    if introduction.instance == ours.instance {
        return Err(RefusalReason::Myself);
    }
    Ok(())
}

/// Adopts a connection whose two sides have accepted each other. Returns the connection to use for the
/// peer, which may be an older one.
pub(crate) fn adopt(
    shared: &Arc<Shared>,
    connection: quinn::Connection,
    verified: VerifiedPeer,
    introduction: &Introduction,
    dialled: bool,
) -> Result<Arc<Link>, RefusalReason> {
    let link = shared.new_link(connection, verified, introduction, dialled);
    let (best, waiting) = shared.add(&link, introduction.instance)?;
    let served = link.clone();
    shared.spawn(|shared| async move { serve_datagrams(&served, &shared).await });
    shared.spawn(|shared| async move {
        serve_streams(&link, &shared).await;
        shared.ended(&link);
    });
    for bytes in waiting {
        shared.send_kept(&best, bytes);
    }
    Ok(best)
}

/// Accepts the peer's streams until the connection ends. Returns why it ended.
async fn serve_streams(link: &Link, shared: &Shared) -> ConnectionError {
    let mut retirements = link.retirements();
    loop {
        let retirement = *retirements.borrow_and_update();
        tokio::select! {
            stream = link.connection.accept_bi() => match stream {
                Ok(stream) => accept_stream(link, stream, shared),
                Err(error) => return error,
            },
            _ = retirements.changed() => {}
            () = link.drained(retirement) => {
                link.close(CloseCode::Replaced, "another connection replaced it");
            }
        }
    }
}

fn accept_stream(link: &Link, stream: (quinn::SendStream, quinn::RecvStream), shared: &Shared) {
    let Ok(permit) = shared.streams.clone().try_acquire_owned() else {
        let (mut send, mut receive) = stream;
        let _ = send.reset(StreamCode::Busy.code());
        let _ = receive.stop(StreamCode::Busy.code());
        return shared.counters.streams_refused.increment();
    };
    let (sender, receiver) = link.frames(stream, Some(permit));
    shared.arrivals.push_stream(link.peer.clone(), sender, receiver);
}

/// Receives the peer's datagrams until the connection ends.
async fn serve_datagrams(link: &Link, shared: &Shared) {
    loop {
        for _ in 0..DATAGRAMS_A_TURN {
            match link.connection.read_datagram().await {
                Ok(bytes) => {
                    shared.last_heard.note();
                    shared.arrivals.push_datagram(&link.inbox, bytes);
                }
                Err(_) => return,
            }
        }
        // A peer that always has another datagram ready must not block the thread.
        tokio::task::yield_now().await;
    }
}
