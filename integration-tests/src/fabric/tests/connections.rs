//! Connections: how they are dialled, used and lost.

use super::*;

#[test]
fn no_traffic_for_the_idle_timeout_loses_the_connection_and_its_streams_at_both_ends() {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 2);
    let (here, there) = stream(&mut fabric, &ids);
    fabric.cut([(locations[0], locations[1])]);
    let start = fabric.now();
    let mut events = Vec::new();
    while let Some(event) = fabric.next(start + 600 * SECOND) {
        assert_eq!(fabric.now(), start + 300 * SECOND);
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

/// Two processes that have a connection, between which nothing passes any more.
fn connected_and_cut() -> (Fabric, Vec<EndpointId>) {
    let mut fabric = Fabric::new(FabricConfig::default());
    let (locations, ids) = endpoints(&mut fabric, 2);
    fabric.send_datagram(ids[0], &destination(1), b"dials".to_vec()).unwrap();
    assert!(matches!(fabric.next(SECOND), Some((_, FabricEvent::Datagram { .. }))));
    fabric.cut([(locations[0], locations[1])]);
    (fabric, ids)
}

#[test]
fn unanswered_packets_lose_the_connection_to_their_sender_and_to_the_other_end_when_it_sends() {
    let (mut fabric, ids) = connected_and_cut();
    let start = fabric.now();
    fabric.send_datagram(ids[0], &destination(1), b"unanswered".to_vec()).unwrap();
    let lost = |at: usize| Some((ids[at], FabricEvent::ConnectionLost { peer: ids[1 - at] }));
    assert_eq!(fabric.next(start + 60 * SECOND), lost(0));
    assert_eq!(fabric.now(), start + 10 * SECOND);
    assert_eq!(fabric.next(start + 60 * SECOND), None, "the other end has sent nothing");
    fabric.mend_all();
    fabric.send_datagram(ids[1], &destination(0), b"lost, and answered by a reset".to_vec()).unwrap();
    assert_eq!(fabric.next(start + 120 * SECOND), lost(1));
    assert_eq!(fabric.now(), start + 60 * SECOND);
}

#[test]
fn an_answer_in_time_keeps_the_connection_until_packets_are_unanswered_again() {
    let (mut fabric, ids) = connected_and_cut();
    let locations = [fabric.location(ids[0]), fabric.location(ids[1])];
    let start = fabric.now();
    fabric.send_datagram(ids[0], &destination(1), b"lost".to_vec()).unwrap();
    assert_eq!(fabric.next(start + 9 * SECOND), None);
    fabric.mend_all();
    assert_eq!(fabric.next(start + 60 * SECOND), None);
    assert!(fabric.connected_since(ids[0], ids[1]).is_some());
    fabric.cut([(locations[0], locations[1])]);
    fabric.send_datagram(ids[0], &destination(1), b"lost again".to_vec()).unwrap();
    let lost = Some((ids[0], FabricEvent::ConnectionLost { peer: ids[1] }));
    assert_eq!(fabric.next(start + 120 * SECOND), lost);
    assert_eq!(fabric.now(), start + 70 * SECOND);
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
