//! Streams: their order, their halves, their limits, and how they break.

use super::*;

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
