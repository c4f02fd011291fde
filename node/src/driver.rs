//! The driver: moves bytes between the state machine and the transport, and calls the machine when a deadline
//! is due.
//!
//! One task passes arrivals to the machine, then the time, then carries out its transmits. That task owns one
//! further task for each stream, which moves the stream's frames. The machine's lock is held for one call at
//! a time and never across an await.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use membership::{ConflictRole, Event, SeedFailure};
use parking_lot::{Mutex, MutexGuard};
use tabledb::{FinalSyncs, JoinOutcome, TableDb};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use transport::{Arrival, ConnectionChanges, FrameReceiver, FrameSender, Incoming, Transport};
use wire::{Destination, FramePoll, NodeName, StreamId};

use crate::clock::{monotonic_now, wall_clock};
use crate::inquiry_report::{InquiryId, InquiryReport};
use crate::machine::{NodeEvent, NodeMachine, NodeTransmit};
use crate::seeds::resolve;
use crate::subscription::Publisher;

/// The pause before seeds that could not be resolved are looked up again.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);

/// State shared by the driver, the stream tasks and the node's handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) machine: Mutex<NodeMachine>,
    pub(crate) tables: TableDb,
    pub(crate) transport: Transport,
    /// The port of a seed that is given without one: this node's own port.
    pub(crate) default_port: u16,
    /// Wakes the driver: the machine has something to poll, or an earlier deadline.
    pub(crate) wake: Arc<Notify>,
    /// The driver has completed a turn: all that it had to send, and all events, are dealt with.
    pub(crate) turned: Notify,
    pub(crate) waiters: Mutex<Waiters>,
    pub(crate) publisher: Publisher,
    seeds: Mutex<Vec<String>>,
    /// The last connection error of each unreachable seed. At most one for each seed.
    pub(crate) unreached: Mutex<BTreeMap<SocketAddr, String>>,
    /// Starts the resolution of the seeds, and a join through them.
    join_seeds: Notify,
}

/// Reports the outcome of each seed.
type SeedOutcomes = mpsc::UnboundedSender<(SocketAddr, Result<(), SeedFailure>)>;

/// Calls that wait for an event, and how the joins of networks went.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// The outcomes of the joins that have been reported, of joined networks.
    joined: HashMap<String, JoinOutcome>,
    ready: HashMap<String, Vec<oneshot::Sender<JoinOutcome>>>,
    left: HashMap<String, Vec<oneshot::Sender<FinalSyncs>>>,
    cluster_left: Vec<oneshot::Sender<()>>,
    inquiries: HashMap<InquiryId, oneshot::Sender<InquiryReport>>,
    seeds: Vec<SeedOutcomes>,
}

impl Waiters {
    pub(crate) fn ready(&mut self, network: &str) -> oneshot::Receiver<JoinOutcome> {
        add(self.ready.entry(network.to_owned()).or_default())
    }

    /// How the join of a network went, if that has been reported.
    pub(crate) fn join_outcome(&self, network: &str) -> Option<JoinOutcome> {
        self.joined.get(network).copied()
    }

    pub(crate) fn left(&mut self, network: &str) -> oneshot::Receiver<FinalSyncs> {
        add(self.left.entry(network.to_owned()).or_default())
    }

    pub(crate) fn cluster_left(&mut self) -> oneshot::Receiver<()> {
        add(&mut self.cluster_left)
    }

    /// The report of an inquiry.
    pub(crate) fn inquiry(&mut self, inquiry: InquiryId) -> oneshot::Receiver<InquiryReport> {
        let (sender, receiver) = oneshot::channel();
        self.inquiries.insert(inquiry, sender);
        receiver
    }

    /// The number of networks for which a call waits.
    #[cfg(test)]
    pub(crate) fn networks(&self) -> usize {
        self.ready.len() + self.left.len()
    }

    fn seed_outcome(&mut self, address: SocketAddr, outcome: Result<(), SeedFailure>) {
        self.seeds.retain(|waiter| waiter.send((address, outcome.clone())).is_ok());
    }
}

fn add<T>(waiters: &mut Vec<oneshot::Sender<T>>) -> oneshot::Receiver<T> {
    waiters.retain(|waiter| !waiter.is_closed());
    let (sender, receiver) = oneshot::channel();
    waiters.push(sender);
    receiver
}

fn notify_all<T: Copy>(waiters: impl IntoIterator<Item = oneshot::Sender<T>>, outcome: T) {
    for waiter in waiters {
        let _ = waiter.send(outcome);
    }
}

impl Shared {
    pub(crate) fn new(
        machine: NodeMachine,
        tables: TableDb,
        transport: Transport,
        default_port: u16,
    ) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(machine),
            tables,
            transport,
            default_port,
            wake: Arc::default(),
            turned: Notify::new(),
            waiters: Mutex::default(),
            publisher: Publisher::default(),
            seeds: Mutex::default(),
            unreached: Mutex::default(),
            join_seeds: Notify::new(),
        })
    }

    /// Locks the machine and passes it the wall time. Returns the monotonic time of that reading.
    pub(crate) fn machine_now(&self) -> (MutexGuard<'_, NodeMachine>, std::time::Instant) {
        let mut machine = self.machine.lock();
        let now = monotonic_now();
        machine.handle_wall_clock(wall_clock(), now);
        (machine, now)
    }

    /// Calls the machine.
    pub(crate) fn with_machine<R>(&self, call: impl FnOnce(&mut NodeMachine, std::time::Instant) -> R) -> R {
        let (mut machine, now) = self.machine_now();
        call(&mut machine, now)
    }

    /// Replaces the seeds and joins through them in the background.
    pub(crate) fn set_seeds(&self, seeds: Vec<String>) {
        self.remember_seeds(seeds);
        self.join_seeds.notify_one();
    }

    /// Replaces the seeds without joining. The node uses them when none of them is a member.
    pub(crate) fn remember_seeds(&self, seeds: Vec<String>) {
        *self.seeds.lock() = seeds;
        self.unreached.lock().clear();
    }

    /// Whether this node was given seeds.
    pub(crate) fn has_seeds(&self) -> bool {
        !self.seeds.lock().is_empty()
    }

    /// Receives the outcomes of seeds from now on.
    pub(crate) fn expect_seeds(
        &self,
        addresses: &[SocketAddr],
    ) -> mpsc::UnboundedReceiver<(SocketAddr, Result<(), SeedFailure>)> {
        tracing::debug!(?addresses, "joining");
        let (sender, receiver) = mpsc::unbounded_channel();
        self.waiters.lock().seeds.push(sender);
        receiver
    }
}

/// The driver's end of a task that moves the frames of a stream.
#[derive(Debug)]
struct StreamHandle {
    abort: AbortHandle,
    /// The machine may have more frames for the stream.
    frames_ready: Arc<Notify>,
}

/// Reports to the machine that a stream is closed, however its task ends. The task holds it from before it
/// starts.
struct StreamGuard {
    shared: Arc<Shared>,
    stream: StreamId,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.shared.with_machine(|machine, now| machine.handle_stream_closed(self.stream, now));
        self.shared.wake.notify_one();
    }
}

/// The task that drives a node.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    incoming: Incoming,
    streams: JoinSet<StreamId>,
    handles: BTreeMap<StreamId, StreamHandle>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, incoming: Incoming) -> Self {
        Self { shared, incoming, streams: JoinSet::new(), handles: BTreeMap::new() }
    }

    /// Drives the node until the transport shuts down. Dropping the future stops all tasks that it owns.
    pub(crate) async fn run(mut self) {
        let shared = self.shared.clone();
        let seeds = join_seeds(&shared);
        tokio::pin!(seeds);
        let mut arrivals = Vec::new();
        loop {
            let deadline = self.run_machine();
            shared.turned.notify_waiters();
            tokio::select! {
                // Arrivals come before timeouts: a response that arrived in time must not count as late.
                biased;
                more = self.incoming.next_batch(&mut arrivals) => {
                    if !more {
                        return;
                    }
                    // Connection changes come first: the arrivals came over those connections.
                    self.take_connection_changes();
                    self.handle_arrivals(&mut arrivals);
                }
                () = shared.transport.connections_changed() => self.take_connection_changes(),
                Some(ended) = self.streams.join_next() => {
                    match ended {
                        Ok(stream) => drop(self.handles.remove(&stream)),
                        Err(_) => self.handles.retain(|_, handle| !handle.abort.is_finished()),
                    }
                }
                () = self.shared.wake.notified() => {}
                () = sleep_until(deadline) => {}
                () = &mut seeds => {}
            }
            // Whatever happened may have made something due at once, as a write does. The timer, whose ticks are
            // milliseconds, would fire at the next one.
            self.handle_timeout();
        }
    }

    fn handle_timeout(&self) {
        let (mut machine, now) = self.shared.machine_now();
        if machine.poll_timeout().is_some_and(|due| due <= now) {
            machine.set_handshake_time(self.shared.transport.dial_time());
            machine.handle_timeout(now);
        }
    }

    /// Reports to the machine which peers are connected, and how long a handshake takes now.
    fn take_connection_changes(&self) {
        let transport = &self.shared.transport;
        let changes = transport.take_connection_changes();
        if changes == ConnectionChanges::default() {
            return;
        }
        let time = transport.dial_time();
        let mut machine = self.shared.machine.lock();
        machine.set_handshake_time(time);
        if changes.whole {
            machine.forget_connections();
        }
        for (peer, connected) in changes.peers {
            machine.handle_connection_changed(&peer, connected);
        }
    }

    /// Passes arrivals to the machine.
    fn handle_arrivals(&mut self, arrivals: &mut Vec<Arrival>) {
        let mut opened = Vec::new();
        {
            let (mut machine, now) = self.shared.machine_now();
            for arrival in arrivals.drain(..) {
                match arrival {
                    Arrival::Datagram { from, bytes } => {
                        // The part that could not decode it has counted it. The sender gets no response.
                        if let Err(error) = machine.handle_datagram(&from.name, from.address, &bytes, now) {
                            tracing::debug!(peer = %from.name, %error, "datagram dropped");
                        }
                    }
                    Arrival::Stream { from, sender, receiver } => {
                        let stream = machine.handle_stream_opened(&from.name, from.address, now);
                        opened.push((stream, sender, receiver));
                    }
                    Arrival::Lost { peer, .. } => machine.handle_connection_lost(&peer.name, now),
                    Arrival::Refused { address, name, refusal } => {
                        // The transport logs this as a warning, at most once a second for each peer.
                        tracing::debug!(%address, name = name.as_ref().map(NodeName::as_str), "{refusal}");
                    }
                    arrival => tracing::debug!(?arrival, "not handled"),
                }
            }
        }
        for (stream, sender, receiver) in opened {
            self.spawn(stream, move |shared, frames_ready| {
                move_frames(shared, stream, frames_ready, sender, receiver)
            });
        }
    }

    /// Carries out the machine's transmits and events. Returns its next deadline.
    fn run_machine(&mut self) -> Instant {
        loop {
            let (transmit, now) = {
                let (mut machine, now) = self.shared.machine_now();
                while let Some(event) = machine.poll_event() {
                    self.handle_event(event);
                }
                match machine.poll_transmit(now) {
                    Some(transmit) => (transmit, now),
                    None => {
                        let far = now + Duration::from_secs(3600);
                        return machine.poll_timeout().unwrap_or(far).into();
                    }
                }
            };
            match transmit {
                NodeTransmit::Datagram { id, to, bytes } => {
                    let sent = self.shared.transport.send_datagram(&to, Bytes::from(bytes));
                    if let (Err(error), Some(id)) = (&sent, id) {
                        tracing::trace!(%error, "datagram not sent");
                        self.shared.machine.lock().handle_unsent(id, now);
                    }
                }
                NodeTransmit::OpenStream { stream, to } => {
                    self.spawn(stream, move |shared, frames_ready| {
                        open_stream(shared, stream, frames_ready, to)
                    });
                }
                NodeTransmit::CloseStream { stream } => {
                    if let Some(handle) = self.handles.remove(&stream) {
                        handle.abort.abort();
                    }
                }
                NodeTransmit::WakeStream { stream } => {
                    if let Some(handle) = self.handles.get(&stream) {
                        handle.frames_ready.notify_one();
                    }
                }
            }
        }
    }

    fn spawn<F>(&mut self, stream: StreamId, task: impl FnOnce(Arc<Shared>, Arc<Notify>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let frames_ready = Arc::new(Notify::new());
        let guard = StreamGuard { shared: self.shared.clone(), stream };
        let work = task(self.shared.clone(), frames_ready.clone());
        let abort = self.streams.spawn(async move {
            let _guard = guard;
            work.await;
            stream
        });
        self.handles.insert(stream, StreamHandle { abort, frames_ready });
    }

    fn handle_event(&self, event: NodeEvent) {
        if let NodeEvent::Membership(event) = &event {
            self.shared.publisher.publish(event);
        }
        let mut waiters = self.shared.waiters.lock();
        match event {
            NodeEvent::NetworkReady { network, outcome } => {
                notify_all(waiters.ready.remove(&network).unwrap_or_default(), outcome);
                waiters.joined.insert(network, outcome);
            }
            NodeEvent::NetworkLeft { network, final_syncs } => {
                waiters.joined.remove(&network);
                notify_all(waiters.left.remove(&network).unwrap_or_default(), final_syncs)
            }
            NodeEvent::InquiryOver { inquiry, report } => {
                if let Some(waiter) = waiters.inquiries.remove(&inquiry) {
                    let _ = waiter.send(report);
                }
            }
            NodeEvent::Membership(Event::LeaveCompleted) => notify_all(waiters.cluster_left.drain(..), ()),
            NodeEvent::Membership(Event::SeedAnswered { address, .. }) => {
                waiters.seed_outcome(address, Ok(()))
            }
            NodeEvent::Membership(Event::SeedFailed { address, reason, retrying }) => {
                if reason != SeedFailure::Ourselves {
                    let then = if retrying { "; trying again" } else { "" };
                    if waiters.seeds.is_empty() {
                        tracing::warn!(seed = %address, "seed did not admit this node: {reason}{then}");
                    } else {
                        // The caller of the join reports it, once for all seeds.
                        tracing::debug!(seed = %address, "seed did not admit this node: {reason}{then}");
                    }
                }
                waiters.seed_outcome(address, Err(reason));
            }
            NodeEvent::Membership(Event::SeedsMissing) => self.shared.join_seeds.notify_one(),
            NodeEvent::Membership(Event::NameConflict(conflict)) => {
                if conflict.role == ConflictRole::Claimant {
                    let refused = SeedFailure::NameInUse { owner: conflict.owner };
                    waiters.seed_outcome(conflict.owner, Err(refused));
                }
                tracing::error!("{conflict}");
            }
            NodeEvent::Membership(_) => {}
        }
    }
}

/// Resolves the seeds and joins through them at each notification. Never returns.
async fn join_seeds(shared: &Shared) {
    loop {
        shared.join_seeds.notified().await;
        let seeds = shared.seeds.lock().clone();
        match resolve(&seeds, shared.default_port).await {
            Ok(addresses) => {
                shared.with_machine(|machine, now| machine.join(&addresses, now));
                shared.wake.notify_one();
            }
            Err(error) => {
                tracing::warn!("{error}; trying again in {} s", RESOLVE_AGAIN.as_secs());
                tokio::time::sleep(RESOLVE_AGAIN).await;
                shared.join_seeds.notify_one();
            }
        }
    }
}

async fn open_stream(shared: Arc<Shared>, stream: StreamId, frames_ready: Arc<Notify>, to: Destination) {
    match shared.transport.open_stream(&to).await {
        Ok((sender, receiver, peer)) => {
            shared.unreached.lock().remove(&to.address);
            shared.with_machine(|machine, now| machine.handle_stream_connected(stream, &peer.name, now));
            move_frames(shared, stream, frames_ready, sender, receiver).await;
        }
        Err(error) => {
            tracing::debug!(address = %to.address, %error, "stream not opened");
            if to.name.is_none() {
                // Only seeds are dialled without a name.
                shared.unreached.lock().insert(to.address, error.to_string());
            }
        }
    }
}

/// How long to wait for a frame from the peer after a frame was sent to it. The sent frame may still be in
/// flight: a stream buffers up to 2 MiB, which take 17 s at one megabit a second. The timeout starts with the
/// first sent frame.
const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The stream broke before the exchange was complete.
struct Broken;

/// Moves the frames of one stream. It reads while it writes: two peers that only wrote would block each
/// other. Each half closes on its own, and the machine is notified, so that an exchange that needs the peer's
/// half ends then.
async fn move_frames(
    shared: Arc<Shared>,
    stream: StreamId,
    frames_ready: Arc<Notify>,
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
) {
    let sent = Notify::new();
    let writing = async {
        loop {
            let poll = shared.with_machine(|machine, now| machine.poll_frame(stream, now));
            match poll {
                FramePoll::Frame(frame) => {
                    sender.send(frame).await.map_err(|_| Broken)?;
                    sent.notify_one();
                }
                FramePoll::Wait => frames_ready.notified().await,
                FramePoll::Finish => return sender.finish().await.map_err(|_| Broken),
            }
        }
    };
    let reading = async {
        loop {
            let next = tokio::select! {
                next = receiver.next() => next.map_err(|_| Broken)?,
                // A peer that keeps reading what it is sent may take minutes until it responds.
                () = sent.notified() => {
                    receiver.set_timeout(PEER_IDLE_TIMEOUT);
                    continue;
                }
            };
            let Some(frame) = next else {
                shared.with_machine(|machine, now| machine.handle_stream_finished(stream, now));
                frames_ready.notify_one();
                shared.wake.notify_one();
                return Ok(());
            };
            let result = shared.with_machine(|machine, now| machine.handle_frame(stream, &frame, now));
            if let Err(error) = result {
                tracing::debug!(%error, "stream closed");
                return Err(Broken);
            }
            frames_ready.notify_one();
            shared.wake.notify_one();
        }
    };
    let _ = tokio::try_join!(writing, reading);
}
