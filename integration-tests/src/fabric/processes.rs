//! Processes: how they start, pause, sleep, resume and end, and their timers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use transport::DialPolicy;
use wire::{NodeName, StreamId};

use super::connections::{CONNECTIONS_KEPT_IDLE, ConnectionId};
use super::traffic::Traffic;
use super::{EndpointId, Fabric, FabricEvent, Location, Pending};
use crate::trace::TraceEvent;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Without notice: the peers detect it by timeouts.
    Crash,
    /// Its connections are closed or reset; the peers learn of it one latency later.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    Running,
    Paused,
    /// Its host is asleep.
    Asleep,
    Ended,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) name: NodeName,
    pub(super) location: Location,
    pub(super) activity: Activity,
    /// Messages that arrived during a pause.
    pub(super) inbox: VecDeque<Pending>,
    pub(super) inbox_bytes: usize,
    pub(super) connections: BTreeMap<EndpointId, ConnectionId>,
    /// Peers that gave up a connection which this process still takes for one.
    pub(super) given_up_by: BTreeSet<EndpointId>,
    /// With more connections than this, the endpoint checks which of them are idle.
    pub(super) connections_before_tidying: usize,
    pub(super) streams: BTreeMap<StreamId, (u64, usize)>,
    /// The earliest schedule entry for its timer, which may be stale, and the time that is wanted.
    pub(super) timer_scheduled: Option<Duration>,
    pub(super) timer_wanted: Option<Duration>,
    pub(super) traffic: Traffic,
    pub(super) dialling: Option<DialPolicy>,
    /// Handshakes begun by peers and not finished.
    pub(super) half_open: usize,
    pub(super) processor_free: Duration,
}

impl Fabric {
    /// A process by the name of `name` starts listening at `location`.
    ///
    /// # Panics
    /// If another one listens there.
    pub fn start(&mut self, location: Location, name: &NodeName, instance: &str) -> EndpointId {
        let id = EndpointId(self.endpoints.len() as u32);
        let before = self.listeners.insert(self.address(location), id);
        assert!(
            before.is_none(),
            "{} is taken by {:?}",
            self.address(location),
            before.map(|b| self.name(b))
        );
        self.trace.add_endpoint(instance.to_owned());
        let seed = self.config.seed ^ u64::from(id.0) << 32;
        let dialling = self.config.dialling.clone().map(|settings| DialPolicy::new(settings, seed));
        self.endpoints.push(Endpoint {
            name: name.clone(),
            location,
            activity: Activity::Running,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            connections: BTreeMap::new(),
            given_up_by: BTreeSet::new(),
            connections_before_tidying: CONNECTIONS_KEPT_IDLE,
            streams: BTreeMap::new(),
            timer_scheduled: None,
            timer_wanted: None,
            traffic: Traffic::default(),
            dialling,
            half_open: 0,
            processor_free: Duration::ZERO,
        });
        self.note(Some(id), format!("starts at {}", self.address(location)));
        id
    }

    /// A process ends; nothing is delivered to it any more, and its address is free.
    pub fn end(&mut self, endpoint: EndpointId, ending: Ending) {
        self.note(Some(endpoint), format!("ends ({ending:?})"));
        let here = &mut self.endpoints[endpoint.0 as usize];
        here.activity = Activity::Ended;
        here.inbox.clear();
        here.inbox_bytes = 0;
        here.timer_wanted = None;
        let address = self.addresses[here.location.0 as usize];
        if self.listeners.get(&address) == Some(&endpoint) {
            self.listeners.remove(&address);
        }
        self.dials.retain(|(from, _), _| *from != endpoint);
        self.opens_in_turn.retain(|(from, _)| *from != endpoint);
        match ending {
            Ending::Crash => self.refresh_connections_of(endpoint),
            Ending::Reset => self.break_connections_of(endpoint),
        }
    }

    /// The process is paused: arriving messages wait, within the limits of buffers.
    pub fn pause(&mut self, endpoint: EndpointId) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        if here.activity == Activity::Running {
            here.activity = Activity::Paused;
            self.note(Some(endpoint), "pauses".into());
            self.refresh_connections_of(endpoint);
        }
    }

    /// The host sleeps: its process is paused, and messages sent to it are lost.
    pub fn sleep(&mut self, endpoint: EndpointId) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        if matches!(here.activity, Activity::Running | Activity::Paused) {
            here.activity = Activity::Asleep;
            self.note(Some(endpoint), "falls asleep".into());
            self.refresh_connections_of(endpoint);
        }
    }

    /// Resumes the process: waiting messages arrive now, overdue timers fire.
    pub fn resume(&mut self, endpoint: EndpointId) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        if !matches!(here.activity, Activity::Paused | Activity::Asleep) {
            return;
        }
        here.activity = Activity::Running;
        here.inbox_bytes = 0;
        // Messages that arrived before the timers expired are handled first, as the production
        // driver does.
        for pending in std::mem::take(&mut here.inbox) {
            self.schedule.push(self.now, pending);
        }
        let here = &mut self.endpoints[endpoint.0 as usize];
        here.timer_scheduled = None;
        let wanted = here.timer_wanted;
        self.note(Some(endpoint), "resumes".into());
        self.set_timer(endpoint, wanted);
        self.refresh_connections_of(endpoint);
    }

    /// Whether the process is running, not paused, asleep or ended.
    pub fn is_running(&self, endpoint: EndpointId) -> bool {
        self.endpoints[endpoint.0 as usize].activity == Activity::Running
    }

    /// Wakes the process at `at`, or not at all; replaces what was set before.
    pub fn set_timer(&mut self, endpoint: EndpointId, at: Option<Duration>) {
        let here = &mut self.endpoints[endpoint.0 as usize];
        here.timer_wanted = at;
        let Some(at) = at else { return };
        let at = at.max(self.now);
        // An entry that is too early is rescheduled when it comes: most deadlines move away, few
        // come nearer.
        if here.timer_scheduled.is_none_or(|scheduled| scheduled > at) {
            here.timer_scheduled = Some(at);
            self.schedule.push(at, Pending::Timer { at: endpoint });
        }
    }

    pub(super) fn deliver_timer(&mut self, at: EndpointId) -> Option<(EndpointId, FabricEvent)> {
        let here = &mut self.endpoints[at.0 as usize];
        // An entry that a nearer deadline has overtaken is stale.
        if here.timer_scheduled != Some(self.now) {
            return None;
        }
        here.timer_scheduled = None;
        if here.activity != Activity::Running {
            return None;
        }
        let wanted = here.timer_wanted?;
        if wanted > self.now {
            self.set_timer(at, Some(wanted));
            return None;
        }
        here.timer_wanted = None;
        self.trace.record(self.now, TraceEvent::Timer { at });
        Some((at, FabricEvent::Timer))
    }
}
