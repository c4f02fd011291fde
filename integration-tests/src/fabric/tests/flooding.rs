//! The fabric under a protocol of its own: flooding, simple enough to predict the results by hand.

use super::*;

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
