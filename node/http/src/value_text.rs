//! Values as text: standard base64, as the diagnostic endpoints and the JSON of `/v1` use it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Padding is required, and superfluous bits in the last symbol are ignored, as in the original's decoder.
const STANDARD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Text that is not base64. The message is the original's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data at input byte {0}")]
pub struct IllegalBase64(pub usize);

/// The standard base64 of `bytes`, with padding.
pub fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes standard base64. Line ends within it are ignored.
pub fn from_base64(text: &[u8]) -> Result<Vec<u8>, IllegalBase64> {
    let symbols = text.iter().copied().filter(|byte| !is_line_end(*byte)).collect::<Vec<_>>();
    STANDARD.decode(symbols).map_err(|_| IllegalBase64(first_illegal_byte(text)))
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

/// The position that the original's decoder reports, because people compare the messages: of an illegal byte;
/// of the group of four with a missing symbol; of the first `=` if the second one is missing.
fn first_illegal_byte(text: &[u8]) -> usize {
    let mut in_group = 0;
    let mut symbols = text.iter().copied().enumerate().filter(|(_, byte)| !is_line_end(*byte));
    while let Some((at, byte)) = symbols.next() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => in_group = (in_group + 1) % 4,
            b'=' if in_group == 2 => {
                return match symbols.next() {
                    None => text.len(),
                    Some((second, b'=')) => symbols.next().map_or(second + 1, |(garbage, _)| garbage),
                    Some((other, _)) => other - 1,
                };
            }
            b'=' if in_group == 3 => return symbols.next().map_or(at + 1, |(garbage, _)| garbage),
            _ => return at,
        }
    }
    text.len() - in_group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_reverses_encoding() {
        for bytes in [&b""[..], b"v", b"hello", &[0, 255, 254, 62, 63]] {
            assert_eq!(from_base64(to_base64(bytes).as_bytes()), Ok(bytes.to_vec()));
        }
        assert_eq!(to_base64(b"hello"), "aGVsbG8=");
    }

    #[test]
    fn line_ends_and_superfluous_bits_do_no_harm() {
        assert_eq!(from_base64(b"aGVs\r\nbG8=\n"), Ok(b"hello".to_vec()));
        assert_eq!(from_base64(b"dh=="), Ok(b"v".to_vec()));
    }

    #[test]
    fn the_position_of_the_first_illegal_byte_is_the_originals() {
        for (text, position) in [
            ("v", 0),        // one symbol of a group
            ("abc", 0),      // no padding
            ("aGVsbG8", 4),  // no padding in the second group
            ("aGVs!G8=", 4), // foreign
            ("ab c", 2),     // a plus sign that the query turned into a blank
            ("=abc", 0),
            ("a===", 1),
            ("ab=", 3),    // the second one is missing at the end
            ("ab=c", 2),   // the second one is something else
            ("ab==cd", 4), // more after the end
            ("abc=d", 4),
            ("żab=", 0),
        ] {
            assert_eq!(from_base64(text.as_bytes()), Err(IllegalBase64(position)), "{text}");
        }
        assert_eq!(from_base64(b"v").unwrap_err().to_string(), "illegal base64 data at input byte 0");
    }
}
