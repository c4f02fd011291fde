//! What is written: keys of 10 bytes and values of 100 bytes.

/// The bytes of such an entry in a frame: key, value, numbers.
pub(crate) const BYTES_AN_ENTRY: usize = 122;

const VALUE_BYTES: usize = 100;

pub(crate) fn key(number: usize) -> String {
    format!("k{number:09}")
}

/// Random values, because chitchat compresses what it sends. There are more of them than fit into one of its
/// datagrams, so that none holds a value twice.
pub(crate) struct Values(Vec<String>);

impl Values {
    pub(crate) fn new() -> Self {
        let mut state = 0_u64;
        let mut letter = || {
            // SplitMix64: quick, and the same in every run.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            char::from(b'0' + ((mixed ^ (mixed >> 31)) % 64) as u8)
        };
        Self((0..4096).map(|_| (0..VALUE_BYTES).map(|_| letter()).collect()).collect())
    }

    pub(crate) fn of(&self, number: usize) -> &str {
        &self.0[number % self.0.len()]
    }
}
