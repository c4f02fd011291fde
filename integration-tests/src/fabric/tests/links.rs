//! Links: latency, loss, duplication, reordering, bandwidth, and rules that delay.

use super::*;

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
