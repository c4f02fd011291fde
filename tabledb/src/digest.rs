//! Digests that are the same on every machine: for comparisons, not for secrets.

/// Scatters the bits of a number (the finalizer of SplitMix64, Steele et al. 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A digest of bytes that is the same on every machine (FNV-1a, scattered): for fingerprints, not for
/// secrets.
pub(crate) fn digest_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// A digest of a live record, the same on every machine. It processes sixteen bytes per step, since each
/// write pays for it once.
pub(crate) fn record_digest(time: u64, table: &str, key: &str, value: &[u8]) -> u32 {
    // A product of 128 bits, folded (the step of wyhash, Wang 2019). Neither factor alone can cancel the
    // other.
    fn fold(digest: u64, low: u64, high: u64) -> u64 {
        let product = u128::from(digest ^ low) * u128::from(high ^ 0x9e37_79b9_7f4a_7c15);
        (product >> 64) as u64 ^ product as u64 ^ low.rotate_left(29) ^ high.rotate_left(41)
    }
    let mut digest = mix(time);
    for part in [table.as_bytes(), key.as_bytes(), value] {
        let (pairs, left) = part.as_chunks::<16>();
        for pair in pairs {
            let pair = u128::from_le_bytes(*pair);
            digest = fold(digest, pair as u64, (pair >> 64) as u64);
        }
        // The remainder, and the length of the part: equal bytes divided differently give another digest.
        let (first, last) = match left.first_chunk::<8>() {
            Some(first) if left.len() > 8 => (u64::from_le_bytes(*first), last_word(left)),
            _ => (0, last_word(left)),
        };
        digest = fold(digest.rotate_left(23) ^ part.len() as u64, first, last);
    }
    (mix(digest) >> 32) as u32
}

/// The last eight bytes, or all of fewer, without a copy of variable length.
fn last_word(bytes: &[u8]) -> u64 {
    match (bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(last), _, _) => u64::from_le_bytes(*last),
        (None, Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last))
        }
        _ => bytes.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_digest_of_a_record_depends_on_all_of_its_content() {
        let all = [
            record_digest(1, "table", "key", b"value"),
            record_digest(2, "table", "key", b"value"),
            record_digest(1, "tablek", "ey", b"value"),
            record_digest(1, "tabl", "ekey", b"value"),
            record_digest(1, "table", "keyv", b"alue"),
            record_digest(1, "table", "key", b"value\0"),
            record_digest(1, "table", "key", b""),
            record_digest(1, "table", "key", &[0; 8]),
            record_digest(1, "table", "key", &[0; 16]),
            record_digest(1, "table", "key", b"a value of more than eight bytes"),
            record_digest(1, "table", "key", b"A value of more than eight bytes"),
            record_digest(1, "table", "key", b"a value of more than eight byteS"),
            record_digest(1, "table", "key", b"\0"),
            record_digest(1, "table", "key", b"ab"),
            record_digest(1, "table", "key", b"ba"),
            record_digest(1, "table", "key", b"abcdefg"),
            record_digest(1, "table", "key", b"abcdeFg"),
            record_digest(1, "table", "key", b"aBcdefg"),
        ];
        assert_eq!(BTreeSet::from(all).len(), all.len());
    }
}
