//! Updates that peers forge in the name of the node.

use wire::{NodeId, codec};

use super::*;
use crate::compose::{MachineSettings, compose};

#[test]
#[expect(clippy::disallowed_methods, reason = "only a starting point")]
fn forged_updates_raise_the_generation_at_most_once_a_second() {
    let (now, name) = (Instant::now(), NodeName::new("a").unwrap());
    let id = NodeId::new(name.clone(), 1);
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let wall = Duration::from_secs(1_000_000);
    let mut machine = compose(MachineSettings::new(id, address, now, wall, 1)).unwrap();
    let forger = NodeName::new("b").unwrap();
    machine.driver.replica().handle_owner_alive(&NodeId::new(forger.clone(), 1), now);
    // An attachment list in its name, with a version that it never issued, for its current instance.
    let mut forge = |now: Instant| {
        let id = machine.membership().me().record.id.clone();
        let attachments = vec![(id, u64::MAX, Vec::<(String, u64)>::new())];
        let (of_attachments, watermarks, relay) = (1u32, Vec::<(NodeId, u64)>::new(), false);
        let bytes = codec::encode(&(FOR_TABLES, of_attachments, attachments, watermarks, relay));
        machine.handle_datagram(&forger, address, &bytes, now).unwrap();
        machine.membership().me().record.id.generation
    };
    let second = forge(now);
    assert!(second > 1);
    for millisecond in 0..1000 {
        assert_eq!(forge(now + Duration::from_millis(millisecond)), second);
    }
    assert!(forge(now + RENEW_INTERVAL) > second);
}
