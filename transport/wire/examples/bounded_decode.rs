//! Messages are decoded within a bound in bytes: `cargo run -p networkdb-wire --example bounded_decode`.

use networkdb_wire::codec::{self, DecodeError, MAX_MESSAGE_BYTES};
use networkdb_wire::{NodeId, NodeName};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An instance of a node: its name, and a generation that grows with each start.
    let instance = NodeId::new(NodeName::new("proxy-1")?, 7);
    let mut bytes = codec::encode(&instance);
    println!("{instance} takes {} bytes", bytes.len());
    assert_eq!(codec::decode::<NodeId>(&bytes)?, instance);

    // What a peer may send instead: each is an error, and allocates no more than the bound.
    bytes.push(0);
    println!("{}", codec::decode::<NodeId>(&bytes).expect_err("a byte is left over"));
    println!("{}", codec::decode::<NodeId>(&bytes[..3]).expect_err("the name is cut off"));
    let too_long = codec::decode::<Vec<u8>>(&vec![0; MAX_MESSAGE_BYTES + 1]);
    assert!(matches!(too_long, Err(DecodeError::TooLong { .. })));
    println!("{}", too_long.expect_err("it is too long"));
    Ok(())
}
