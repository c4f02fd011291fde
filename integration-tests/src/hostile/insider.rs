//! A modified peer: the production state machines with the cluster's secret, and a driver that
//! breaks the rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use networkdb::{MachineSettings, NodeMachine, NodeTransmit, compose};
use parking_lot::Mutex;
use tabledb::TableDb;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until};
use transport::{Arrival, FrameReceiver, FrameSender, Incoming, KeySet, SendError, Transport};
use wire::{Destination, FramePoll, NodeId, NodeName, StreamId};

use crate::hosts::Failure;

/// The first byte of messages for tables.
const FOR_TABLES: u8 = 1;

/// The modifications of a peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Modified {
    /// The lead of its clock.
    pub(super) clock_ahead: Duration,
    /// Whether it ignores the other nodes' messages about tables, above all refusals.
    pub(super) ignores_tables: bool,
}

/// A dishonest member of the cluster.
#[derive(Debug)]
pub(super) struct Insider {
    shared: Arc<Shared>,
    driver: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    machine: Mutex<NodeMachine>,
    transport: Transport,
    wake: Notify,
    ignores_tables: bool,
}

impl Drop for Insider {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.transport.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "the machines of a real peer run in real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a generation is taken from the wall clock")]
fn wall() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

impl Insider {
    /// Becomes a member through `victim`, attached to these networks.
    pub(super) async fn enter(
        name: &str,
        from: SocketAddr,
        victim: SocketAddr,
        keys: KeySet,
        networks: &[&str],
        modified: Modified,
    ) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| format!("the attacker cannot start: {error}");
        let name = NodeName::new(name).map_err(|error| failed(&error))?;
        let (start, wall) = (now(), wall());
        let id = NodeId::new(name.clone(), wall.as_micros() as u64);
        let (transport, incoming) =
            Transport::bind(transport::Config::new(name, from, keys)).map_err(|error| failed(&error))?;
        let (address, seed) = (transport.local_address(), id.generation);
        let settings = MachineSettings::new(id, address, start, wall + modified.clock_ahead, seed);
        let mut machine = compose(settings).map_err(|error| failed(&error))?;
        for network in networks {
            machine.join_network(network, start).map_err(|error| failed(&error))?;
        }
        machine.join(&[victim], start);
        let shared = Arc::new(Shared {
            machine: Mutex::new(machine),
            transport,
            wake: Notify::new(),
            ignores_tables: modified.ignores_tables,
        });
        let driver = tokio::spawn(drive(shared.clone(), incoming));
        Ok(Self { shared, driver })
    }

    /// Waits until this many others are alive.
    pub(super) async fn await_others(&self, others: usize) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.others().len() < others {
            if tokio::time::Instant::now() > deadline {
                return Err(format!("the attacker knows only {:?}", self.others()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Joins a network, and handles this forged datagram before any other message about it.
    pub(super) fn join_with_forged_datagram(
        &self,
        network: &str,
        sender: &NodeId,
        at: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Failure> {
        let mut machine = self.shared.machine.lock();
        machine.join_network(network, now()).map_err(|error| error.to_string())?;
        machine.handle_datagram(&sender.name, at, datagram, now()).map_err(|error| error.to_string())?;
        drop(machine);
        self.wake();
        Ok(())
    }

    /// The other members that are alive, with their incarnations and addresses.
    pub(super) fn others(&self) -> Vec<(NodeId, u64, SocketAddr)> {
        let machine = self.shared.machine.lock();
        let me = machine.membership().me().record.id.name.clone();
        let members = machine.membership().members();
        let alive =
            members.filter(|member| member.record.id.name != me && member.state == membership::State::Alive);
        alive.map(|member| (member.record.id.clone(), member.incarnation, member.record.address)).collect()
    }

    /// Its own instance.
    pub(super) fn id(&self) -> NodeId {
        self.shared.machine.lock().membership().me().record.id.clone()
    }

    /// Its own tables, for permitted writes in any number.
    pub(super) fn tables(&self) -> TableDb {
        self.shared.machine.lock().tables().clone()
    }

    /// Wakes the driver after a write to its tables.
    pub(super) fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Sends any bytes to any node, as fast as the connection allows. `false` if they were not
    /// sent.
    pub(super) async fn send(&self, to: &NodeId, at: SocketAddr, bytes: Vec<u8>) -> bool {
        let to = Destination { name: Some(to.name.clone()), address: at };
        let bytes = bytes::Bytes::from(bytes);
        for _ in 0..2000 {
            match self.shared.transport.send_datagram(&to, bytes.clone()) {
                Ok(_) => return true,
                Err(SendError::TooLarge { .. }) => return false,
                // The queue is full, or there is no connection yet.
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        }
        false
    }
}

/// The tasks that move the frames of streams.
#[derive(Default)]
struct Streams {
    tasks: JoinSet<StreamId>,
    /// The handles to abort each task, and to make it poll the machine for frames.
    handles: BTreeMap<StreamId, (AbortHandle, Arc<Notify>)>,
}

impl Streams {
    fn spawn<F>(&mut self, stream: StreamId, task: impl FnOnce(Arc<Notify>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let wake_stream = Arc::new(Notify::new());
        let work = task(wake_stream.clone());
        let abort = self.tasks.spawn(async move {
            work.await;
            stream
        });
        self.handles.insert(stream, (abort, wake_stream));
    }
}

/// Drives the machine like a node.
async fn drive(shared: Arc<Shared>, mut incoming: Incoming) {
    let mut streams = Streams::default();
    let mut arrivals = Vec::new();
    loop {
        let deadline = carry_out(&shared, &mut streams);
        tokio::select! {
            more = incoming.next_batch(&mut arrivals) => {
                if !more {
                    return;
                }
                for arrival in arrivals.drain(..) {
                    take_in(&shared, &mut streams, arrival);
                }
            }
            Some(ended) = streams.tasks.join_next() => {
                if let Ok(stream) = ended {
                    streams.handles.remove(&stream);
                }
            }
            () = shared.wake.notified() => {}
            () = sleep_until(deadline.into()) => {}
        }
        shared.machine.lock().handle_timeout(now());
    }
}

fn take_in(shared: &Arc<Shared>, streams: &mut Streams, arrival: Arrival) {
    match arrival {
        Arrival::Datagram { from, bytes } => {
            if shared.ignores_tables && bytes.first() == Some(&FOR_TABLES) {
                return;
            }
            let _ = shared.machine.lock().handle_datagram(&from.name, from.address, &bytes, now());
        }
        Arrival::Stream { from, sender, receiver } => {
            let stream = shared.machine.lock().handle_stream_opened(&from.name, from.address, now());
            let shared = shared.clone();
            streams
                .spawn(stream, move |wake_stream| move_frames(shared, stream, wake_stream, sender, receiver));
        }
        Arrival::Lost { peer, .. } => shared.machine.lock().handle_connection_lost(&peer.name, now()),
        _ => {}
    }
}

fn carry_out(shared: &Arc<Shared>, streams: &mut Streams) -> std::time::Instant {
    let mut machine = shared.machine.lock();
    while machine.poll_event().is_some() {}
    while let Some(transmit) = machine.poll_transmit(now()) {
        match transmit {
            NodeTransmit::Datagram { id, to, bytes } => {
                let sent = shared.transport.send_datagram(&to, bytes.into());
                if let (Err(_), Some(id)) = (sent, id) {
                    machine.handle_unsent(id, now());
                }
            }
            NodeTransmit::OpenStream { stream, to } => {
                let shared = shared.clone();
                streams.spawn(stream, move |wake_stream| async move {
                    match shared.transport.open_stream(&to).await {
                        Ok((sender, receiver, peer)) => {
                            shared.machine.lock().handle_stream_connected(stream, &peer.name, now());
                            move_frames(shared, stream, wake_stream, sender, receiver).await;
                        }
                        Err(_) => {
                            shared.machine.lock().handle_stream_closed(stream, now());
                            shared.wake.notify_one();
                        }
                    }
                });
            }
            NodeTransmit::CloseStream { stream } => {
                if let Some((task, _)) = streams.handles.remove(&stream) {
                    task.abort();
                }
            }
            NodeTransmit::WakeStream { stream } => {
                if let Some((_, wake_stream)) = streams.handles.get(&stream) {
                    wake_stream.notify_one();
                }
            }
        }
    }
    machine.poll_timeout().unwrap_or_else(|| now() + Duration::from_secs(1))
}

async fn move_frames(
    shared: Arc<Shared>,
    stream: StreamId,
    wake_stream: Arc<Notify>,
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
) {
    let writing = async {
        let mut first = true;
        loop {
            let poll = shared.machine.lock().poll_frame(stream, now());
            match poll {
                // It does not begin exchanges about tables either: their answers would contain what
                // it ignores.
                FramePoll::Frame(frame)
                    if std::mem::take(&mut first)
                        && shared.ignores_tables
                        && frame.first() == Some(&FOR_TABLES) =>
                {
                    return Err(());
                }
                FramePoll::Frame(frame) => sender.send(frame).await.map_err(drop)?,
                FramePoll::Wait => wake_stream.notified().await,
                FramePoll::Finish => return sender.finish().await.map_err(drop),
            }
        }
    };
    let reading = async {
        let mut first = true;
        while let Some(frame) = receiver.next().await.map_err(drop)? {
            if shared.ignores_tables && std::mem::take(&mut first) && frame.first() == Some(&FOR_TABLES) {
                return Err(());
            }
            shared.machine.lock().handle_frame(stream, &frame, now()).map_err(drop)?;
            wake_stream.notify_one();
            shared.wake.notify_one();
        }
        shared.machine.lock().handle_stream_finished(stream, now());
        wake_stream.notify_one();
        Ok(())
    };
    let _ = tokio::try_join!(writing, reading);
    shared.machine.lock().handle_stream_closed(stream, now());
    shared.wake.notify_one();
}
