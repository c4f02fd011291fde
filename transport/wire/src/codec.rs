//! Encoding and decoding: the only module that uses bincode.
//!
//! bincode is pinned to 2.0.1 and no longer maintained (RUSTSEC-2025-0141). Everything else calls
//! [`encode`] and [`decode`], so that it can be replaced in one place. Integers are variable-length,
//! little-endian. The format is part of the protocol version that peers negotiate in their handshake.

use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use serde::{Deserialize, Serialize, Serializer};

/// The largest message that is decoded, in bytes: 4 MiB.
///
/// It also bounds the largest value of a table, which must fit into a message with its key and version.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Why bytes do not decode as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not a valid encoding of the type.
    #[error("{found} bytes are not a {wanted}: {reason}")]
    Malformed {
        /// The number of bytes.
        found: usize,
        /// The expected type.
        wanted: &'static str,
        /// The error of the decoder.
        reason: String,
    },
    /// Bytes are left over after the value.
    #[error("{trailing} bytes follow the end of a {wanted}")]
    TrailingBytes {
        /// The number of bytes left over.
        trailing: usize,
        /// The expected type.
        wanted: &'static str,
    },
    /// There are more bytes than a message may have.
    #[error("a {wanted} of {found} bytes is too long; at most {MAX_MESSAGE_BYTES} bytes are allowed")]
    TooLong {
        /// The number of bytes.
        found: usize,
        /// The expected type.
        wanted: &'static str,
    },
}

/// Encodes `value`.
///
/// # Panics
/// Never for the messages of this workspace: they are plain structs, enums, sequences and maps of known
/// length, for which bincode has no error.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the encoding of `value` to `bytes`. Like [`encode`], it never panics for the messages of this
/// workspace.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, bytes, config::standard())
        .expect("writing a plain value to memory cannot fail");
}

/// Writes a byte string at once: by itself, serde writes it byte by byte. For a field's `serialize_with`; the
/// encoding is the same.
pub fn serialize_bytes<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Decodes a value, which must use up all of `bytes`. Texts and byte strings may borrow from `bytes`.
///
/// A declared length can make the decoder allocate memory before it turns out that bytes are missing.
/// That is bounded: for a text or byte string by the limit of its size class, at most 32 times the
/// received bytes (64 KiB for small ones), and for each sequence that is being read by 1 MiB (serde's
/// own limit). Borrowed fields allocate nothing. No message of this workspace nests sequences more than
/// three deep or contains itself.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    // bincode charges eight bytes for an integer that took one on the wire, so the limit is larger than
    // the message.
    match bytes.len() {
        0..=0x800 => decode_within(bytes, config::standard().with_limit::<0x1_0000>()),
        0x801..=0x2_0000 => decode_within(bytes, config::standard().with_limit::<0x20_0000>()),
        0x2_0001..=MAX_MESSAGE_BYTES => decode_within(bytes, config::standard().with_limit::<0x400_0000>()),
        found => Err(DecodeError::TooLong { found, wanted: short_type_name::<T>() }),
    }
}

fn decode_within<'a, T: Deserialize<'a>, const LIMIT: usize>(
    bytes: &'a [u8],
    config: Configuration<LittleEndian, Varint, Limit<LIMIT>>,
) -> Result<T, DecodeError> {
    let wanted = short_type_name::<T>();
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, config)
        .map_err(|error| DecodeError::Malformed { found: bytes.len(), wanted, reason: error.to_string() })?;
    match bytes.len() - used {
        0 => Ok(value),
        trailing => Err(DecodeError::TrailingBytes { trailing, wanted }),
    }
}

/// `Gossip` for `tabledb::message::Gossip<'_>`, for readable errors.
fn short_type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample<'a> {
        text: &'a str,
        bytes: &'a [u8],
        numbers: Vec<u64>,
        list: Vec<String>,
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            text in ".{0,300}",
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
            numbers in proptest::collection::vec(0u64..3, 0..5000),
            list in proptest::collection::vec(".{0,20}", 0..50),
        ) {
            let sample = Sample { text: &text, bytes: &bytes, numbers, list };
            let encoded = encode(&sample);
            prop_assert_eq!(decode::<Sample<'_>>(&encoded), Ok(sample));
        }

        #[test]
        fn a_byte_string_is_encoded_alike_at_once_and_byte_by_byte(
            bytes in proptest::collection::vec(any::<u8>(), 0..700)
        ) {
            #[derive(Serialize)]
            struct AtOnce<'a>(#[serde(serialize_with = "serialize_bytes")] &'a [u8]);
            prop_assert_eq!(encode(&AtOnce(&bytes)), encode(&bytes));
        }

        #[test]
        fn arbitrary_bytes_are_an_error_or_a_value_but_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000)
        ) {
            let _ = decode::<Sample<'_>>(&bytes);
        }
    }

    #[test]
    fn a_truncated_value_is_malformed_and_a_longer_one_has_trailing_bytes() {
        let sample = Sample { text: "abc", bytes: b"xyz", numbers: vec![1, 2], list: vec!["q".into()] };
        let mut bytes = encode(&sample);
        for end in 0..bytes.len() {
            assert!(
                matches!(decode::<Sample<'_>>(&bytes[..end]), Err(DecodeError::Malformed { .. })),
                "{end}"
            );
        }
        bytes.push(0);
        assert_eq!(
            decode::<Sample<'_>>(&bytes),
            Err(DecodeError::TrailingBytes { trailing: 1, wanted: "Sample" })
        );
    }

    #[test]
    fn a_declared_length_beyond_the_bytes_is_refused() {
        // A text that claims 2^60 bytes: variable-length marker 253, then eight bytes.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<&str>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
    }

    #[test]
    fn a_message_beyond_the_bound_is_refused() {
        let bytes = vec![0; MAX_MESSAGE_BYTES + 1];
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(DecodeError::TooLong { .. })));
    }

    #[test]
    fn the_largest_messages_of_small_integers_are_decoded() {
        let numbers = vec![1u8; MAX_MESSAGE_BYTES - 8].into_iter().map(u64::from).collect::<Vec<_>>();
        assert_eq!(decode::<Vec<u64>>(&encode(&numbers)), Ok(numbers));
    }
}
