//! The streams of a replica: dispatching frames to sessions, and reporting the results of sessions to their
//! networks.

use std::sync::Arc;
use std::time::Instant;

use wire::{FramePoll, NodeName, StreamId, codec};

use super::counters::RefusalReason;
use super::message::Frame;
use super::network::Network;
use super::node_state::{NodeState, Transmit};
use super::session::{PeerCopy, Progress, Role, Session};
use super::session_result::{FullSyncResult, Opener, Outcome};
use super::timing::{self, SESSION_SHARES};
use super::{MessageError, Replica, Stream, find};

impl Replica {
    /// A peer has opened a stream. The returned number identifies it in later calls.
    pub fn handle_stream_opened(&mut self, from: &NodeName, now: Instant) -> StreamId {
        self.now = now;
        let stream = self.new_stream();
        let until = now + timing::SESSION_TIMEOUT;
        self.streams.insert(stream, Stream::Unopened { peer: from.clone(), until });
        stream
    }

    /// Handles the next frame of a stream.
    pub fn handle_frame(&mut self, stream: StreamId, bytes: &[u8], now: Instant) -> Result<(), MessageError> {
        self.now = now;
        let mut session = match self.streams.remove(&stream) {
            None => return Err(MessageError::UnknownStream(stream)),
            Some(Stream::Unopened { peer, .. }) => {
                let frame = self.decoded(codec::decode::<Frame<'_>>(bytes))?;
                let Frame::Open(open) = frame else {
                    self.node.counters.refuse(RefusalReason::UnexpectedFrame);
                    return Err(MessageError::Exchange(
                        "the first frame of a stream has to be `Open`".to_owned(),
                    ));
                };
                let network: Arc<str> = open.network.into();
                let mut session = Box::new(Session::accept(stream, peer, open.kind, network, now));
                let most = self.node.config.limits.sessions;
                let accepted = self.streams.len() - self.node.requests.open();
                if accepted >= most || self.accepted_from(&session.progress.peer) >= most / SESSION_SHARES {
                    self.node.counters.refuse(RefusalReason::Busy);
                    session.refuse();
                } else {
                    self.node.counters.sessions_accepted += 1;
                    let network = find(&mut self.networks, &self.by_name, open.network);
                    session.handle_open(&open, network, &mut self.node, now);
                }
                self.keep_or_report(session, now);
                return Ok(());
            }
            Some(Stream::Session(session)) => session,
        };
        let result = match codec::decode::<Frame<'_>>(bytes) {
            Ok(frame) => {
                let network = find(&mut self.networks, &self.by_name, &session.progress.network);
                session.handle_frame(frame, network, &mut self.node, now)
            }
            Err(error) => Err(error.into()),
        };
        match result {
            Ok(()) => {
                self.keep_or_report(session, now);
                Ok(())
            }
            Err(error) => {
                self.node.counters.refuse(RefusalReason::UnexpectedFrame);
                tracing::debug!(peer = session.progress.peer.as_str(), %error, "session given up");
                let error = MessageError::Exchange(error.to_string());
                self.close(session, now);
                Err(error)
            }
        }
    }

    /// The number of sessions that this peer has opened.
    fn accepted_from(&self, peer: &NodeName) -> usize {
        let theirs = |stream: &&Stream| match stream {
            Stream::Session(session) => !session.is_opened_here() && session.progress.peer == *peer,
            // A stream without its first frame counts like one with a session.
            Stream::Unopened { peer: opener, .. } => opener == peer,
        };
        self.streams.values().filter(theirs).count()
    }

    /// The peer has finished its half of a stream: no more frames come. A session that still awaits one has
    /// failed; one that is over sends its remaining frames.
    pub fn handle_stream_finished(&mut self, stream: StreamId, now: Instant) {
        let is_over = |stream: &Stream| matches!(stream, Stream::Session(session) if session.progress.outcome.is_some());
        if !self.streams.get(&stream).is_some_and(is_over) {
            self.handle_stream_closed(stream, now);
        }
    }

    /// Gives up a stream without progress.
    pub(super) fn give_up_stream(&mut self, stream: StreamId, now: Instant) {
        self.handle_stream_closed(stream, now);
        self.node.outbox.push_back(Transmit::CloseStream { stream });
    }

    /// A stream is closed in both directions, has been reset, or could not be opened.
    pub fn handle_stream_closed(&mut self, stream: StreamId, now: Instant) {
        self.now = now;
        if let Some(Stream::Session(session)) = self.streams.remove(&stream) {
            self.close(session, now);
        }
    }

    /// The next frame of a stream; called whenever the stream can take one.
    pub fn poll_frame(&mut self, stream: StreamId, now: Instant) -> FramePoll {
        self.now = now;
        let mut session = match self.streams.remove(&stream) {
            None => return FramePoll::Finish,
            Some(unopened @ Stream::Unopened { .. }) => {
                self.streams.insert(stream, unopened);
                return FramePoll::Wait;
            }
            Some(Stream::Session(session)) => session,
        };
        let network = find(&mut self.networks, &self.by_name, &session.progress.network);
        let poll = session.poll_frame(network, &mut self.node, now);
        if poll == FramePoll::Finish {
            self.close(session, now);
        } else {
            self.keep_or_report(session, now);
        }
        poll
    }

    pub(super) fn opened_session(&mut self, stream: StreamId, session: Session, to: NodeName) -> Transmit {
        self.node.requests.opened(&to);
        self.node.counters.sessions_opened += 1;
        self.streams.insert(stream, Stream::Session(Box::new(session)));
        Transmit::OpenStream { stream, to }
    }

    /// Stores a session again; reports its result to the network if it is over.
    fn keep_or_report(&mut self, mut session: Box<Session>, now: Instant) {
        for list in std::mem::take(&mut session.progress.lists) {
            self.handle_list(&list, now);
        }
        if let Some(outcome) = session.progress.outcome {
            self.report(&mut session, outcome, now);
        }
        let at = self.by_name.get(&session.progress.network).copied();
        self.streams.insert(session.progress.id, Stream::Session(session));
        if let Some(at) = at {
            self.plan(at, now);
        }
    }

    fn close(&mut self, mut session: Box<Session>, now: Instant) {
        let outcome = *session.progress.outcome.get_or_insert(Outcome::Failed);
        self.report(&mut session, outcome, now);
        if session.is_opened_here() {
            self.node.requests.closed(&session.progress.peer);
        }
    }

    /// Reports the result of a session to its network, once.
    fn report(&mut self, session: &mut Session, outcome: Outcome, now: Instant) {
        if std::mem::replace(&mut session.progress.reported, true) {
            return;
        }
        let peer = &session.progress.peer;
        if session.is_opened_here() {
            match outcome {
                Outcome::TurnedAway => self.node.requests.turned_away(peer, &mut self.node.rng, now),
                Outcome::Completed | Outcome::OpenedElsewhere => self.node.requests.served(peer),
                Outcome::Failed | Outcome::NotMember => {}
            }
        }
        if session.is_about_lists() && outcome == Outcome::Completed {
            // Only now: an exchange that was cut short is to be repeated after the next probe.
            if let Some((peer, mine, theirs)) = self.lists_comparing.take_if(|(with, ..)| with == peer)
                && self.node.owners.knows(&peer)
            {
                self.lists_compared.insert(peer, (mine, theirs, now));
            }
        }
        let Some(&at) = self.by_name.get(&session.progress.network) else { return };
        let Some(network) = &mut self.networks[at] else { return };
        network.scheduler.session_over(session.progress.id);
        report_to_network(session, outcome, network, &mut self.node, now);
        if network.left(now) {
            self.finish_leaving(at, now);
        } else {
            self.plan(at, now);
        }
    }

    pub(super) fn new_stream(&mut self) -> StreamId {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        stream
    }
}

fn report_to_network(
    session: &mut Session,
    outcome: Outcome,
    network: &mut Network,
    node: &mut NodeState,
    now: Instant,
) {
    let is_full = matches!(session.role, Role::FullOpener(_) | Role::FullResponder(_));
    if is_full && outcome == Outcome::Completed && session.brought_updates() {
        network.disagreements.repaired(&session.progress.peer);
    }
    let Session { progress: Progress { id, peer, learned, .. }, role } = session;
    match role {
        Role::FullOpener(sync) => {
            if sync.periodic && (*learned > 0 || sync.sent_updates()) {
                // The faster mechanisms should leave nothing for this one to find.
                node.counters.periodic_finds += 1;
                tracing::info!(
                    network = &*network.name,
                    peer = peer.as_str(),
                    learned,
                    sent_updates = sync.sent_updates(),
                    "the periodic comparison found differences"
                );
            }
            let opener = Opener::ThisNode { periodic: sync.periodic };
            let result = full_sync_result(*id, peer, opener, outcome, &sync.peer_copy);
            network.full_sync_over(&result, node, now);
        }
        Role::FullResponder(sync) => {
            let result = full_sync_result(*id, peer, Opener::Peer, outcome, &sync.peer_copy);
            network.full_sync_over(&result, node, now);
        }
        Role::PullOpener(_) => network.pull_over(*id, peer, outcome, node, now),
        Role::PushOpener(push) if outcome == Outcome::TurnedAway => {
            let attachments = std::mem::take(&mut push.attachments);
            network.scheduler.push(&attachments, push.relay, [peer.clone()], node);
        }
        Role::PushResponder(push) if *learned > 0 => {
            if let Some(attachments) = push.to_relay() {
                network.relay_pushed(attachments, node, now);
            }
        }
        _ => {}
    }
}

fn full_sync_result<'a>(
    stream: StreamId,
    peer: &'a NodeName,
    opener: Opener,
    outcome: Outcome,
    copy: &'a PeerCopy,
) -> FullSyncResult<'a> {
    FullSyncResult { stream, peer, opener, outcome, standing: &copy.standing, shown: &copy.shown }
}
