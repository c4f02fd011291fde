//! The wire codec, on shapes like those of all messages: whatever decodes is encoded to the same value again, and no bytes
//! make it allocate more than the codec says.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use wire::codec::{decode, encode};
use wire::{NodeId, NodeName};

use crate::input::Input;
use crate::memory::Watch;

/// Everything that messages are made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape<'a> {
    Unit,
    Numbers { small: u8, middle: u32, large: u64, flag: bool },
    Borrowed(#[serde(borrow)] &'a str, #[serde(borrow)] &'a [u8]),
    Owned(String, Vec<u8>),
    Named(NodeId, Option<NodeName>, SocketAddr),
    Pairs(Vec<(u64, u64)>),
    Labels(BTreeMap<String, String>),
    Nested(#[serde(borrow)] Vec<Vec<&'a str>>),
}

macro_rules! again {
    ($kind:ty, $bytes:expr) => {
        if let Ok(value) = decode::<$kind>($bytes) {
            // A number may have been spelled longer than need be: the bytes may differ, the value may not.
            assert_eq!(decode::<$kind>(&encode(&value)).as_ref(), Ok(&value));
        }
    };
}

/// Decodes `bytes` as several types.
pub fn run(bytes: &[u8]) {
    // What the codec promises: its limit for inputs of this size, and 1 MiB for each of three sequences. The rest is for
    // what does decode: of a byte on the wire comes at most a shape in memory, thrice while a list grows.
    let shapes = bytes.len() * 3 * size_of::<Shape<'_>>();
    let watch = Watch::start((2 << 20) + (3 << 20) + shapes);
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let bytes = input.rest();
    match kind % 8 {
        0 => again!(Shape<'_>, bytes),
        1 => again!(Vec<Shape<'_>>, bytes),
        2 => again!(Vec<NodeId>, bytes),
        3 => again!(Vec<(String, u64)>, bytes),
        4 => again!(Vec<u64>, bytes),
        5 => again!(BTreeMap<NodeName, Vec<SocketAddr>>, bytes),
        6 => again!((u8, Option<&str>, i64, char), bytes),
        _ => again!(Vec<Option<Box<[u8]>>>, bytes),
    }
    drop(watch);
}
