//! Updates that peers forge in the name of the node, and questions of strangers.

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

#[test]
#[expect(clippy::disallowed_methods, reason = "only a starting point")]
fn a_node_that_is_no_member_gets_no_answer() {
    let (now, wall) = (Instant::now(), Duration::from_secs(1_000_000));
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let id = NodeId::new(NodeName::new("a").unwrap(), 1);
    let mut machine = compose(MachineSettings::new(id, address, now, wall, 1)).unwrap();
    let stranger = NodeName::new("stranger").unwrap();
    let stream = machine.handle_stream_opened(&stranger, address, now);
    let (of_a_member, member) = (0u32, "a");
    let question = codec::encode(&(FOR_INQUIRIES, of_a_member, member));
    let refused = machine.handle_frame(stream, &question, now);
    assert_eq!(refused, Err(MachineError::Inquiry(crate::InquiryFrameError::NotMember)));
    assert_eq!((machine.inquiry_statistics().refused_not_member, machine.stream_count()), (1, 0));
}
