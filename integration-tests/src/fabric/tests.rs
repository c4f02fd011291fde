//! The fabric under a protocol of its own: flooding, simple enough to predict the results by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wire::{Destination, NodeName, StreamId};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Forwards each new rumour to every peer, and repeats the known ones to a random peer every 100
/// ms.
#[derive(Debug)]
struct Flooder {
    rng: ChaCha8Rng,
    peers: Vec<Destination>,
    known: BTreeSet<Vec<u8>>,
    received: Vec<(Duration, EndpointId, Vec<u8>)>,
    repeat_at: Duration,
}

struct Flood {
    fabric: Fabric,
    nodes: BTreeMap<EndpointId, Flooder>,
    locations: Vec<Location>,
    ids: Vec<EndpointId>,
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250 + 1) as u8], 7946))
}

fn destination(index: usize) -> Destination {
    Destination { name: Some(name(&format!("n{index}"))), address: address(index) }
}

fn endpoints(fabric: &mut Fabric, count: usize) -> (Vec<Location>, Vec<EndpointId>) {
    let locations: Vec<Location> = (0..count).map(|index| fabric.location_at(address(index))).collect();
    let ids = (0..count)
        .map(|index| fabric.start(locations[index], &name(&format!("n{index}")), &format!("n{index}#1")))
        .collect();
    (locations, ids)
}

impl Flood {
    fn new(count: usize, config: FabricConfig) -> Self {
        let seed = config.seed;
        let mut fabric = Fabric::new(config);
        let (locations, ids) = endpoints(&mut fabric, count);
        let nodes = ids
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let flooder = Flooder {
                    rng: ChaCha8Rng::seed_from_u64(seed ^ (index as u64) << 32),
                    peers: (0..count).filter(|other| *other != index).map(destination).collect(),
                    known: BTreeSet::new(),
                    received: Vec::new(),
                    repeat_at: milliseconds(100),
                };
                fabric.set_timer(*id, Some(flooder.repeat_at));
                (*id, flooder)
            })
            .collect();
        Self { fabric, nodes, locations, ids }
    }

    fn start_rumour(&mut self, index: usize, rumour: &[u8]) {
        let id = self.ids[index];
        let node = self.nodes.get_mut(&id).unwrap();
        node.known.insert(rumour.to_vec());
        for peer in &node.peers {
            let _ = self.fabric.send_datagram(id, peer, rumour.to_vec());
        }
    }

    fn run_until(&mut self, until: Duration) {
        while let Some((id, event)) = self.fabric.next(until) {
            let now = self.fabric.now();
            let node = self.nodes.get_mut(&id).unwrap();
            match event {
                FabricEvent::Datagram { from, bytes } => {
                    node.received.push((now, from, bytes.to_vec()));
                    if node.known.insert(bytes.to_vec()) {
                        for peer in &node.peers {
                            let _ = self.fabric.send_datagram(id, peer, bytes.to_vec());
                        }
                    }
                }
                FabricEvent::Timer => {
                    let peer = &node.peers[node.rng.random_range(0..node.peers.len())];
                    for rumour in &node.known {
                        let _ = self.fabric.send_datagram(id, peer, rumour.clone());
                    }
                    node.repeat_at = now + milliseconds(100);
                    self.fabric.set_timer(id, Some(node.repeat_at));
                }
                _ => {}
            }
        }
    }

    fn informed(&self, rumour: &[u8]) -> usize {
        self.nodes.values().filter(|node| node.known.contains(rumour)).count()
    }
}

#[test]
fn a_rumour_takes_the_latency_of_one_hop() {
    let mut flood =
        Flood::new(5, FabricConfig { link: Link::with_latency(milliseconds(7)), ..FabricConfig::default() });
    // The first datagram waits for the connection: one round trip.
    flood.start_rumour(0, b"x");
    flood.run_until(milliseconds(20));
    assert_eq!(flood.informed(b"x"), 1);
    flood.run_until(milliseconds(21));
    assert_eq!(flood.informed(b"x"), 5);
    flood.start_rumour(0, b"y");
    flood.run_until(milliseconds(28));
    assert_eq!(flood.informed(b"y"), 5);
}

fn lossy_config(seed: u64) -> FabricConfig {
    let link = Link {
        latency: Latency::Uniform(milliseconds(1), milliseconds(30)),
        loss: 0.3,
        duplication: 0.1,
        reordering: 0.1,
        bandwidth: Some(100_000),
        ..Link::default()
    };
    FabricConfig { seed, link, ..FabricConfig::default() }
}

#[test]
fn one_seed_gives_one_trace_and_another_seed_another() {
    let hash = |seed| {
        let mut flood = Flood::new(20, lossy_config(seed));
        for rumour in 0..10u8 {
            flood.start_rumour(usize::from(rumour), &[rumour]);
        }
        flood.run_until(SECOND);
        flood.fabric.pause(flood.ids[3]);
        flood.fabric.cut([(flood.locations[1], flood.locations[2])]);
        flood.run_until(2 * SECOND);
        flood.fabric.resume(flood.ids[3]);
        flood.fabric.end(flood.ids[5], Ending::Crash);
        flood.run_until(3 * SECOND);
        assert_eq!(flood.informed(&[3]), 20, "the repetitions overcome the loss");
        let traffic = flood.fabric.traffic();
        assert!(traffic.dropped[&DropReason::Lost] > 0 && traffic.duplicated > 0 && traffic.reordered > 0);
        (flood.fabric.trace().hash(), flood.fabric.trace().count())
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1).0, hash(2).0);
}

#[test]
fn a_one_way_cut_leaves_the_other_direction_open() {
    let mut flood = Flood::new(2, FabricConfig::default());
    flood.start_rumour(0, b"before");
    flood.run_until(milliseconds(1));
    let (a, b) = (flood.locations[0], flood.locations[1]);
    flood.fabric.cut([(a, b)]);
    flood.start_rumour(0, b"to b");
    flood.start_rumour(1, b"to a");
    flood.run_until(milliseconds(50));
    assert_eq!(flood.informed(b"to b"), 1);
    assert_eq!(flood.informed(b"to a"), 2);
    flood.fabric.mend_all();
    flood.run_until(SECOND);
    assert_eq!(flood.informed(b"to b"), 2);
}

#[test]
fn messages_received_during_a_pause_are_handled_at_its_end_up_to_the_buffer_size() {
    let mut flood = Flood::new(2, FabricConfig { receive_buffer: 2500, ..FabricConfig::default() });
    flood.start_rumour(0, b"before");
    flood.run_until(milliseconds(1));
    flood.nodes.get_mut(&flood.ids[1]).unwrap().received.clear();
    flood.fabric.pause(flood.ids[1]);
    for rumour in 0..5u8 {
        flood.start_rumour(0, &[rumour; 1000]);
    }
    flood.run_until(milliseconds(40));
    assert!(flood.nodes[&flood.ids[1]].received.is_empty());
    assert_eq!(flood.fabric.traffic().dropped[&DropReason::BufferFull], 3);
    flood.fabric.resume(flood.ids[1]);
    flood.run_until(milliseconds(41));
    let received = &flood.nodes[&flood.ids[1]].received;
    assert_eq!(
        received.iter().map(|(at, _, bytes)| (*at, bytes[0])).collect::<Vec<_>>(),
        [(milliseconds(40), 0), (milliseconds(40), 1)]
    );
}

#[test]
fn an_overdue_timer_fires_when_the_pause_ends() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 1);
    fabric.set_timer(ids[0], Some(milliseconds(10)));
    fabric.pause(ids[0]);
    assert_eq!(fabric.next(milliseconds(500)), None);
    fabric.resume(ids[0]);
    assert_eq!(fabric.next(SECOND), Some((ids[0], FabricEvent::Timer)));
    assert_eq!(fabric.now(), milliseconds(500));
}

#[test]
fn only_the_latest_timer_fires() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 1);
    fabric.set_timer(ids[0], Some(milliseconds(10)));
    fabric.set_timer(ids[0], Some(milliseconds(30)));
    fabric.set_timer(ids[0], Some(milliseconds(20)));
    assert_eq!(fabric.next(SECOND), Some((ids[0], FabricEvent::Timer)));
    assert_eq!(fabric.now(), milliseconds(20));
    assert_eq!(fabric.next(SECOND), None);
}

#[test]
fn rules_select_messages_and_can_withhold_them() {
    let mut flood = Flood::new(3, FabricConfig::default());
    flood.start_rumour(0, b"before");
    flood.run_until(milliseconds(1));
    let b = flood.locations[1];
    let rule = flood.fabric.add_rule(move |message| match message.bytes {
        b"late" if message.to == b => Verdict::Hold,
        _ => Verdict::Pass,
    });
    flood.start_rumour(0, b"late");
    flood.start_rumour(0, b"at once");
    flood.run_until(milliseconds(50));
    assert!(!flood.nodes[&flood.ids[1]].known.contains(&b"late"[..]));
    assert_eq!(flood.informed(b"at once"), 3);
    flood.fabric.remove_rule(rule);
    let held = flood.fabric.take_held();
    assert!(held.len() >= 2, "n0 and n2 both send it to n1");
    flood.fabric.deliver(&held[0]);
    flood.run_until(milliseconds(60));
    assert_eq!(flood.informed(b"late"), 3);
}

#[test]
fn too_large_datagrams_are_dropped_and_counted() {
    let mut flood = Flood::new(2, FabricConfig::default());
    flood.start_rumour(0, &[7; 1162]);
    flood.start_rumour(0, &[8; 1163]);
    flood.run_until(milliseconds(10));
    assert_eq!((flood.informed(&[7; 1162]), flood.informed(&[8; 1163])), (2, 1));
    assert_eq!(flood.fabric.traffic_of(flood.ids[0]).dropped[&DropReason::TooLarge], 1);
}

/// An established stream from n0 to n1, with its numbers at both ends.
fn stream(fabric: &mut Fabric, ids: &[EndpointId]) -> (StreamId, StreamId) {
    let (here, there) = (StreamId(1), StreamId(9));
    fabric.open_stream(ids[0], here, &destination(1));
    let mut events = Vec::new();
    while let Some((id, event)) = fabric.next(fabric.now() + SECOND) {
        if let FabricEvent::StreamOpened { from, number } = event {
            assert_eq!((id, from), (ids[1], ids[0]));
            fabric.accept_stream(number, there);
        } else {
            events.push((id, event));
        }
    }
    assert_eq!(events, [(ids[0], FabricEvent::StreamConnected { stream: here, peer: ids[1] })]);
    (here, there)
}

#[test]
fn all_frames_arrive_in_order_on_any_link() {
    let mut config = lossy_config(3);
    config.frames_in_flight = 4;
    let mut fabric = Fabric::new(config);
    let (_, ids) = endpoints(&mut fabric, 2);
    let (here, there) = stream(&mut fabric, &ids);
    let (mut sent, mut received) = (0u8, Vec::new());
    let mut most_in_flight = 0;
    let mut closed = BTreeSet::new();
    loop {
        while sent < 100 && fabric.has_capacity(ids[0], here) {
            fabric.send_frame(ids[0], here, vec![sent; 2000]);
            sent += 1;
        }
        if sent == 100 {
            fabric.finish_stream(ids[0], here);
            fabric.finish_stream(ids[1], there);
        }
        most_in_flight = most_in_flight.max(usize::from(sent) - received.len());
        match fabric.next(600 * SECOND) {
            Some((id, FabricEvent::Frame { stream, first, bytes })) => {
                assert_eq!(first, received.is_empty());
                assert_eq!((id, stream), (ids[1], there));
                received.push(bytes[0]);
            }
            Some((_, FabricEvent::StreamWritable { .. } | FabricEvent::StreamFinished { .. })) => {}
            Some((id, FabricEvent::StreamClosed { stream, clean: true })) => {
                assert!(closed.insert((id, stream)), "reported once");
                if closed.len() == 2 {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, (0..100).collect::<Vec<u8>>());
    assert_eq!(closed, BTreeSet::from([(ids[0], here), (ids[1], there)]));
    assert_eq!(most_in_flight, 4, "no more frames are in flight than allowed");
    // 200,000 bytes at 100,000 a second.
    assert!(fabric.now() > 2 * SECOND, "{:?}", fabric.now());
}

#[test]
fn each_half_of_a_stream_ends_by_itself() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 2);
    let (here, there) = stream(&mut fabric, &ids);
    fabric.finish_stream(ids[0], here);
    assert_eq!(fabric.next(SECOND), Some((ids[1], FabricEvent::StreamFinished { stream: there })));
    // The other half goes on as long as its sender needs it.
    assert!(fabric.has_capacity(ids[1], there) && !fabric.has_capacity(ids[0], here));
    fabric.send_frame(ids[1], there, b"frame".to_vec());
    assert_eq!(
        fabric.next(SECOND),
        Some((ids[0], FabricEvent::Frame { stream: here, first: false, bytes: b"frame"[..].into() }))
    );
    assert_eq!(fabric.next(600 * SECOND), None);
    assert_eq!(fabric.open_streams(), 1, "it remains open until both halves have ended");
    assert_eq!(fabric.streams_of(ids[1]), BTreeSet::from([there]));
    fabric.finish_stream(ids[1], there);
    let mut events = Vec::new();
    while let Some(event) = fabric.next(601 * SECOND) {
        events.push(event);
    }
    events.sort_by_key(|(id, event)| (*id, matches!(event, FabricEvent::StreamClosed { .. })));
    assert_eq!(
        events,
        [
            (ids[0], FabricEvent::StreamFinished { stream: here }),
            (ids[0], FabricEvent::StreamClosed { stream: here, clean: true }),
            (ids[1], FabricEvent::StreamClosed { stream: there, clean: true }),
        ]
    );
    assert_eq!(fabric.open_streams(), 0);
}

#[test]
fn further_streams_wait_at_the_limit_until_one_has_ended() {
    let mut fabric = Fabric::new(FabricConfig { streams_per_connection: 2, ..FabricConfig::default() });
    let (_, ids) = endpoints(&mut fabric, 2);
    stream(&mut fabric, &ids);
    for number in 10..14 {
        fabric.open_stream(ids[0], StreamId(number), &destination(1));
    }
    let opened = |fabric: &mut Fabric, until: Duration| {
        let mut opened = Vec::new();
        while let Some((_, event)) = fabric.next(until) {
            match event {
                FabricEvent::StreamConnected { stream, .. } => opened.push(stream.0),
                FabricEvent::StreamOpened { number, .. } => {
                    fabric.accept_stream(number, StreamId(100 + number))
                }
                _ => {}
            }
        }
        opened
    };
    assert_eq!(opened(&mut fabric, SECOND), [10], "two are open");
    assert_eq!(fabric.streams_of(ids[0]).len(), 5, "three wait");
    fabric.reset_stream(ids[0], StreamId(11));
    fabric.reset_stream(ids[0], StreamId(10));
    assert_eq!(
        opened(&mut fabric, 2 * SECOND),
        [12],
        "in their order, but for the one that is not wanted any more"
    );
    // The other end may open as many of its own.
    fabric.open_stream(ids[1], StreamId(1), &destination(0));
    assert_eq!(opened(&mut fabric, 3 * SECOND), [1]);
}

#[test]
fn a_stream_across_a_cut_continues_if_it_is_mended_in_time() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 2);
    let (here, there) = stream(&mut fabric, &ids);
    fabric.cut([(locations[1], locations[0])]);
    fabric.send_frame(ids[0], here, b"frame".to_vec());
    assert_eq!(fabric.next(fabric.now() + 9 * SECOND), None);
    fabric.mend_all();
    let event = fabric.next(fabric.now() + SECOND);
    assert_eq!(
        event,
        Some((ids[1], FabricEvent::Frame { stream: there, first: true, bytes: b"frame"[..].into() }))
    );
}

#[test]
fn no_traffic_for_the_idle_timeout_loses_the_connection_and_its_streams_at_both_ends() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 2);
    let (here, there) = stream(&mut fabric, &ids);
    fabric.cut([(locations[0], locations[1])]);
    let start = fabric.now();
    let mut events = Vec::new();
    while let Some(event) = fabric.next(start + 60 * SECOND) {
        assert_eq!(fabric.now(), start + 10 * SECOND);
        events.push(event);
    }
    assert_eq!(
        events,
        [
            (ids[0], FabricEvent::StreamClosed { stream: here, clean: false }),
            (ids[1], FabricEvent::StreamClosed { stream: there, clean: false }),
            (ids[0], FabricEvent::ConnectionLost { peer: ids[1] }),
            (ids[1], FabricEvent::ConnectionLost { peer: ids[0] }),
        ]
    );
    assert_eq!(fabric.open_streams(), 0);
}

#[test]
fn a_stream_to_an_unused_address_across_a_cut_or_to_another_name_does_not_open() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 3);
    fabric.end(ids[1], Ending::Crash);
    fabric.cut([(locations[0], locations[2])]);
    fabric.open_stream(ids[0], StreamId(1), &destination(1));
    fabric.open_stream(ids[0], StreamId(2), &destination(2));
    let closed =
        |stream| Some((ids[0], FabricEvent::StreamClosed { stream: StreamId(stream), clean: false }));
    assert_eq!(fabric.next(60 * SECOND), closed(1));
    assert_eq!(fabric.next(60 * SECOND), closed(2));
    assert_eq!(fabric.now(), 3 * SECOND);
    fabric.mend_all();
    let elsewhere = Destination { name: Some(name("n7")), address: address(2) };
    fabric.open_stream(ids[0], StreamId(3), &elsewhere);
    assert_eq!(fabric.next(60 * SECOND), closed(3));
    fabric.open_stream(ids[0], StreamId(4), &elsewhere);
    assert_eq!(fabric.next(60 * SECOND), closed(4), "the connection is open, but the name is wrong");
}

#[test]
fn a_dial_is_repeated_until_a_process_listens() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 1);
    fabric.open_stream(ids[0], StreamId(1), &Destination { name: None, address: address(1) });
    assert_eq!(fabric.next(milliseconds(500)), None);
    let location = fabric.location_at(address(1));
    let late = fabric.start(location, &name("n1"), "n1#1");
    let mut events = Vec::new();
    while let Some(event) = fabric.next(2 * SECOND) {
        events.push(event);
    }
    assert_eq!(
        events,
        [
            (late, FabricEvent::StreamOpened { from: ids[0], number: 0 }),
            (ids[0], FabricEvent::StreamConnected { stream: StreamId(1), peer: late }),
        ]
    );
}

/// As in production: a dial that waits to be repeated does not prevent the use of a connection that
/// the peer has dialled meanwhile.
#[test]
fn traffic_waiting_for_a_dial_uses_the_connection_that_the_peer_dialled_first() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 2);
    fabric.cut([(locations[0], locations[1])]);
    fabric.open_stream(ids[0], StreamId(1), &destination(1));
    assert_eq!(fabric.next(milliseconds(800)), None);
    fabric.mend_all();
    fabric.open_stream(ids[1], StreamId(1), &destination(0));
    let mut opened = false;
    while let Some((of, event)) = fabric.next(SECOND) {
        opened |= of == ids[0] && event == FabricEvent::StreamConnected { stream: StreamId(1), peer: ids[1] };
    }
    assert!(opened, "before its own dial is repeated");
}

#[test]
fn the_next_instance_at_an_address_receives_nothing_sent_to_the_previous_one() {
    let mut fabric =
        Fabric::new(FabricConfig { link: Link::with_latency(milliseconds(100)), ..FabricConfig::default() });
    let (locations, ids) = endpoints(&mut fabric, 2);
    let (here, _) = stream(&mut fabric, &ids);
    fabric.send_datagram(ids[0], &destination(1), b"for the first instance".to_vec()).unwrap();
    fabric.send_frame(ids[0], here, b"for the first instance".to_vec());
    fabric.end(ids[1], Ending::Reset);
    fabric.start(locations[1], &name("n1"), "n1#2");
    let mut events = Vec::new();
    while let Some(event) = fabric.next(60 * SECOND) {
        events.push(event);
    }
    assert_eq!(
        events,
        [
            (ids[0], FabricEvent::StreamClosed { stream: here, clean: false }),
            (ids[0], FabricEvent::ConnectionLost { peer: ids[1] }),
        ]
    );
}

#[test]
fn a_stream_given_up_breaks_at_the_other_end_only() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 2);
    let (here, there) = stream(&mut fabric, &ids);
    fabric.reset_stream(ids[0], here);
    assert_eq!(
        fabric.next(60 * SECOND),
        Some((ids[1], FabricEvent::StreamClosed { stream: there, clean: false }))
    );
    assert_eq!(fabric.next(60 * SECOND), None);
}

#[test]
fn latency_by_distance_is_the_same_both_ways_and_within_its_bounds() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let latency = Latency::Distance { base: milliseconds(2), across: milliseconds(40) };
    for _ in 0..100 {
        let a = Position { x: rng.random(), y: rng.random() };
        let b = Position { x: rng.random(), y: rng.random() };
        let there = latency.draw(a, b, &mut rng);
        assert_eq!(there, latency.draw(b, a, &mut rng));
        assert!(there >= milliseconds(2) && there <= milliseconds(42));
    }
    let corner = |x, y| Position { x, y };
    let across = latency.draw(corner(0, 0), corner(u16::MAX, u16::MAX), &mut rng);
    assert!(across > milliseconds(41), "{across:?}");
}

/// How many of `count` datagrams of 100 B, sent one every ten milliseconds over a link, arrive, and
/// how often.
fn arrivals(link: Link, count: u8) -> Vec<(u8, Duration)> {
    let mut fabric = Fabric::new(FabricConfig { seed: 8, ..FabricConfig::default() });
    let (locations, ids) = endpoints(&mut fabric, 2);
    stream(&mut fabric, &ids);
    fabric.set_link(locations[0], locations[1], link);
    let (start, mut arrived) = (fabric.now(), Vec::new());
    for number in 0..count {
        fabric.send_datagram(ids[0], &destination(1), vec![number; 100]).unwrap();
        let until = start + milliseconds(10) * (u32::from(number) + 1);
        while let Some((_, event)) = fabric.next(until) {
            let FabricEvent::Datagram { bytes, .. } = event else { panic!("{event:?}") };
            arrived.push((bytes[0], fabric.now() - start - milliseconds(10) * u32::from(bytes[0])));
        }
    }
    while let Some((_, event)) = fabric.next(start + 60 * SECOND) {
        let FabricEvent::Datagram { bytes, .. } = event else { panic!("{event:?}") };
        arrived.push((bytes[0], fabric.now() - start - milliseconds(10) * u32::from(bytes[0])));
    }
    arrived
}

#[test]
fn a_link_loses_duplicates_and_reorders_at_the_configured_rates() {
    let lossy = arrivals(Link { loss: 0.3, ..Link::default() }, 250).len();
    assert!((150..200).contains(&lossy), "{lossy} of 250 arrived");
    let doubled = arrivals(Link { duplication: 0.2, ..Link::default() }, 250).len();
    assert!((280..320).contains(&doubled), "250 arrived {doubled} times");
    let reordered = arrivals(Link { reordering: 0.3, ..Link::default() }, 250);
    assert_eq!(reordered.len(), 250, "held up is not lost");
    let late = reordered.iter().filter(|(_, taken)| !taken.is_zero()).count();
    assert!((50..100).contains(&late), "{late} of 250 were held up");
    assert!(!reordered.is_sorted_by_key(|(number, _)| *number));
    assert!(reordered.iter().all(|(_, taken)| *taken <= milliseconds(50)));
}

#[test]
fn uniform_latency_is_drawn_anew_for_each_datagram_within_its_bounds() {
    let latency = Latency::Uniform(milliseconds(5), milliseconds(25));
    let arrived = arrivals(Link { latency, ..Link::default() }, 250);
    let bounds = milliseconds(5)..=milliseconds(25);
    assert!(arrived.iter().all(|(_, taken)| bounds.contains(taken)));
    let mean = arrived.iter().map(|(_, taken)| *taken).sum::<Duration>() / 250;
    assert!((milliseconds(13)..milliseconds(17)).contains(&mean), "{mean:?}");
}

#[test]
fn each_direction_of_each_pair_has_conditions_of_its_own() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 3);
    stream(&mut fabric, &ids);
    fabric.set_link(locations[0], locations[1], Link::with_latency(milliseconds(40)));
    let start = fabric.now();
    fabric.send_datagram(ids[0], &destination(1), b"there".to_vec()).unwrap();
    fabric.send_datagram(ids[1], &destination(0), b"back".to_vec()).unwrap();
    let back = fabric.next(start + SECOND);
    assert!(matches!(back, Some((id, FabricEvent::Datagram { .. })) if id == ids[0]), "{back:?}");
    assert_eq!(fabric.now(), start);
    let there = fabric.next(start + SECOND);
    assert!(matches!(there, Some((id, FabricEvent::Datagram { .. })) if id == ids[1]), "{there:?}");
    assert_eq!(fabric.now(), start + milliseconds(40));
}

#[test]
fn a_narrow_link_delays_datagrams_and_drops_those_beyond_a_tenth_of_a_second() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 2);
    stream(&mut fabric, &ids);
    fabric.set_link(locations[0], locations[1], Link { bandwidth: Some(10_000), ..Link::default() });
    let (start, mut refused) = (fabric.now(), 0);
    // Each takes ten milliseconds of the link.
    for number in 0..20u8 {
        let sent = fabric.send_datagram(ids[0], &destination(1), vec![number; 100]);
        refused += u8::from(sent == Err(DropReason::Congested));
    }
    let mut arrived = Vec::new();
    while let Some((_, FabricEvent::Datagram { bytes, .. })) = fabric.next(start + SECOND) {
        arrived.push((bytes[0], fabric.now() - start));
    }
    assert_eq!(arrived, (0..11).map(|n| (n, milliseconds(10) * (u32::from(n) + 1))).collect::<Vec<_>>());
    assert_eq!(refused, 9);
    assert_eq!(fabric.traffic().dropped[&DropReason::Congested], 9);
}

#[test]
fn a_rule_delays_a_datagram_and_a_frame_with_all_that_follows_it() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (_, ids) = endpoints(&mut fabric, 2);
    let (here, _) = stream(&mut fabric, &ids);
    fabric.add_rule(|message| match message.bytes {
        b"late" => Verdict::Delay(milliseconds(30)),
        _ => Verdict::Pass,
    });
    let start = fabric.now();
    fabric.send_datagram(ids[0], &destination(1), b"late".to_vec()).unwrap();
    fabric.send_datagram(ids[0], &destination(1), b"next".to_vec()).unwrap();
    for frame in [&b"first"[..], b"late", b"after"] {
        fabric.send_frame(ids[0], here, frame.to_vec());
    }
    let mut arrived = Vec::new();
    while let Some((_, event)) = fabric.next(start + SECOND) {
        let (kind, bytes) = match event {
            FabricEvent::Datagram { bytes, .. } => ("datagram", bytes),
            FabricEvent::Frame { bytes, .. } => ("frame", bytes),
            other => panic!("{other:?}"),
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        arrived.push((kind, text, (fabric.now() - start).as_millis()));
    }
    let expected = [
        ("datagram", "next", 0),
        ("frame", "first", 0),
        ("datagram", "late", 30),
        ("frame", "late", 30),
        ("frame", "after", 30),
    ];
    let arrived: Vec<_> = arrived.iter().map(|(kind, text, at)| (*kind, text.as_str(), *at)).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn a_stream_that_breaks_loses_frames_in_flight_and_notifies_both_ends() {
    let mut fabric =
        Fabric::new(FabricConfig { link: Link::with_latency(milliseconds(10)), ..FabricConfig::default() });
    let (locations, ids) = endpoints(&mut fabric, 2);
    let (here, there) = stream(&mut fabric, &ids);
    fabric.send_frame(ids[0], here, b"arrives".to_vec());
    let first = fabric.next(fabric.now() + SECOND);
    assert!(matches!(first, Some((_, FabricEvent::Frame { .. }))), "{first:?}");
    fabric.send_frame(ids[0], here, b"is lost".to_vec());
    assert_eq!(fabric.break_streams_between(locations[1], locations[0]), 1);
    let mut events = Vec::new();
    while let Some(event) = fabric.next(fabric.now() + SECOND) {
        events.push(event);
    }
    assert_eq!(
        events,
        [
            (ids[0], FabricEvent::StreamClosed { stream: here, clean: false }),
            (ids[1], FabricEvent::StreamClosed { stream: there, clean: false }),
        ]
    );
    assert!(!fabric.has_capacity(ids[0], here));
}

#[test]
fn a_link_with_stream_breaks_breaks_some_streams_between_frames() {
    let mut fabric = Fabric::new(FabricConfig {
        link: Link { stream_breaks: 0.1, ..Link::default() },
        frames_in_flight: 1_000,
        ..FabricConfig::default()
    });
    let (_, ids) = endpoints(&mut fabric, 2);
    let (here, _) = stream(&mut fabric, &ids);
    let mut sent = 0;
    while fabric.has_capacity(ids[0], here) && sent < 500 {
        fabric.send_frame(ids[0], here, vec![0; 10]);
        sent += 1;
    }
    assert!((2..100).contains(&sent), "it broke at frame {sent}");
    assert_eq!(fabric.traffic().broken_streams, 1);
}
