//! Scenarios for the table of one node, and the property that the tables of two nodes agree.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn instance(text: &str, id: u8) -> Instance {
    Instance { name: name(text), id: InstanceId::numbered(id) }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::new([10, 0, 0, 1].into(), port)
}

fn route(id: u64, instance: Instance, dialled: bool, port: u16) -> Route {
    Route { id: LinkId(id), instance, dialled, address: address(port) }
}

fn to(text: &str, port: u16) -> Destination {
    Destination { name: Some(name(text)), address: address(port) }
}

fn seed(port: u16) -> Destination {
    Destination { name: None, address: address(port) }
}

fn ids(ids: &[u64]) -> Vec<LinkId> {
    ids.iter().copied().map(LinkId).collect()
}

#[test]
fn an_address_leads_to_its_peer_and_to_no_other_name() {
    let mut routes = Routes::new(instance("me", 0));
    assert_eq!(routes.add(route(1, instance("b", 1), true, 1)), Added::default());
    assert_eq!(routes.find(&to("b", 1)), Some(LinkId(1)));
    assert_eq!(routes.find(&seed(1)), Some(LinkId(1)));
    assert_eq!(routes.find(&to("c", 1)), None);
    assert_eq!(routes.find(&to("b", 2)), None);
    assert_eq!(routes.remove(LinkId(1)), Removed::Lost);
    assert_eq!(routes.remove(LinkId(1)), Removed::Unknown);
    assert_eq!((routes.find(&seed(1)), routes.len(), routes.count_at_host(address(1).ip())), (None, 0, 0));
}

#[test]
fn a_second_node_with_the_same_name_elsewhere_changes_nothing_for_the_first() {
    let mut routes = Routes::new(instance("me", 0));
    routes.add(route(1, instance("b", 1), false, 1));
    assert_eq!(routes.add(route(2, instance("b", 2), false, 2)), Added::default());
    assert_eq!((routes.find(&to("b", 1)), routes.find(&to("b", 2))), (Some(LinkId(1)), Some(LinkId(2))));
    assert_eq!(routes.links_with(&name("b"), None), ids(&[1, 2]));
    assert_eq!(routes.links_with(&name("b"), Some(address(2))), ids(&[2]));
    assert_eq!(routes.remove(LinkId(2)), Removed::Lost);
    assert_eq!(routes.find(&to("b", 1)), Some(LinkId(1)));
}

#[test]
fn a_new_instance_at_the_same_address_replaces_the_old_one() {
    for dialled in [true, false] {
        let mut routes = Routes::new(instance("me", 0));
        routes.add(route(1, instance("b", 1), !dialled, 1));
        let added = routes.add(route(2, instance("b", 2), dialled, 1));
        assert_eq!(added, Added { replaced: vec![], stale: ids(&[1]) });
        assert_eq!(routes.find(&to("b", 1)), Some(LinkId(2)));
        assert_eq!(routes.find(&seed(1)), Some(LinkId(2)));
        // The end of the old one is not reported as a loss.
        assert_eq!(routes.remove(LinkId(1)), Removed::Replaced);
        assert_eq!(routes.find(&to("b", 1)), Some(LinkId(2)));
    }
}

#[test]
fn another_node_at_the_address_replaces_it_too() {
    let mut routes = Routes::new(instance("me", 0));
    routes.add(route(1, instance("b", 1), true, 1));
    assert_eq!(routes.add(route(2, instance("c", 2), false, 1)).stale, ids(&[1]));
    assert_eq!((routes.find(&to("b", 1)), routes.find(&seed(1))), (None, Some(LinkId(2))));
}

#[test]
fn of_two_simultaneous_connections_the_one_dialled_by_the_smaller_name_is_kept() {
    for (me, keeps_dialled) in [("a", true), ("c", false)] {
        for first_dialled in [true, false] {
            let mut routes = Routes::new(instance(me, 0));
            routes.add(route(1, instance("b", 1), first_dialled, 1));
            let added = routes.add(route(2, instance("b", 1), !first_dialled, 1));
            let (kept, replaced) = if first_dialled == keeps_dialled { (1, 2) } else { (2, 1) };
            assert_eq!(added, Added { replaced: ids(&[replaced]), stale: vec![] });
            assert_eq!(routes.find(&to("b", 1)), Some(LinkId(kept)));
            assert_eq!(routes.remove(LinkId(kept)), Removed::Succeeded(LinkId(replaced)));
            assert_eq!(routes.find(&to("b", 1)), Some(LinkId(replaced)));
            assert_eq!(routes.remove(LinkId(replaced)), Removed::Lost);
        }
    }
}

#[test]
fn one_process_under_two_addresses_is_one_peer() {
    // A host with two addresses dials from the one and is dialled at the other.
    let mut routes = Routes::new(instance("me", 0));
    routes.add(route(1, instance("z", 1), false, 1));
    assert_eq!(routes.add(route(2, instance("z", 1), true, 2)).replaced, ids(&[1]));
    for port in [1, 2] {
        assert_eq!(routes.find(&to("z", port)), Some(LinkId(2)), "{port}");
    }
    assert_eq!(routes.remove(LinkId(2)), Removed::Succeeded(LinkId(1)));
    assert_eq!(routes.find(&to("z", 2)), Some(LinkId(1)));
}

#[test]
fn a_retired_connection_carries_nothing_new_and_its_end_is_not_reported() {
    let mut routes = Routes::new(instance("me", 0));
    routes.add(route(1, instance("b", 1), true, 1));
    assert_eq!(routes.retire(LinkId(1)), Removed::Lost);
    assert_eq!((routes.find(&to("b", 1)), routes.is_current(LinkId(1)), routes.len()), (None, false, 1));
    // A new one replaces it, whichever side dialled.
    assert_eq!(routes.add(route(2, instance("b", 1), false, 1)), Added::default());
    assert_eq!(routes.find(&to("b", 1)), Some(LinkId(2)));
    assert_eq!(routes.remove(LinkId(1)), Removed::Replaced);
    assert!(routes.is_current(LinkId(2)));
}

#[test]
fn a_peer_that_keeps_dialling_has_a_bounded_number_of_connections() {
    let mut routes = Routes::new(instance("me", 0));
    for id in 0..100 {
        for stale in routes.add(route(id, instance("b", 1), false, 1)).stale {
            routes.remove(stale);
        }
    }
    assert_eq!((routes.len(), routes.find(&seed(1))), (1 + MAX_REPLACED, Some(LinkId(99))));
    for id in 100..200 {
        routes.add(route(id, instance("b", 1), false, id as u16));
    }
    assert_eq!(routes.by_address.len(), MAX_ADDRESSES);
}

proptest! {
    /// Two nodes dial each other any number of times, and add the connections in any order. After each
    /// side has closed the replaced ones that it dialled, one connection remains, current on both sides.
    /// At no time was there none.
    #[test]
    fn two_tables_converge_on_the_same_connection(
        dialled_by_a in proptest::collection::vec(any::<bool>(), 1..=4),
        orders in any::<(u64, u64)>(),
        names in prop_oneof![Just(("a", "b")), Just(("b", "a")), Just(("a", "a"))],
    ) {
        let (a, b) = (instance(names.0, 1), instance(names.1, 2));
        let mut tables = [Routes::new(a.clone()), Routes::new(b.clone())];
        let count = dialled_by_a.len() as u64;
        let dialled = |side: usize, id: u64| dialled_by_a[id as usize] == (side == 0);
        for (side, (peer, seed)) in [(&b, orders.0), (&a, orders.1)].into_iter().enumerate() {
            for id in shuffled(count, seed) {
                tables[side].add(route(id, peer.clone(), dialled(side, id), 1 - side as u16));
            }
        }
        loop {
            let closable = (0..2).find_map(|side| {
                let links = tables[side].by_instance.values().next()?;
                links.replaced.iter().copied().find(|id| dialled(side, id.0))
            });
            let Some(id) = closable else { break };
            for table in &mut tables {
                prop_assert_ne!(table.remove(id), Removed::Lost);
            }
        }
        prop_assert_eq!(tables[0].len(), 1);
        let left = *tables[0].routes.keys().next().unwrap();
        prop_assert!(tables.iter().all(|table| table.is_current(left)));
    }
}

fn shuffled(count: u64, mut seed: u64) -> Vec<u64> {
    let mut left: Vec<_> = (0..count).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        order.push(left.remove((seed % left.len() as u64) as usize));
        seed /= 7;
    }
    order
}
