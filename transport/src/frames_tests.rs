//! Reassembly of frames from chunks of any size, and the memory that a declared size may cost.

use proptest::prelude::*;

use super::*;

/// The bytes of a stream that carries `frames`.
fn encoded(frames: &[Vec<u8>]) -> Vec<u8> {
    let with_length = |frame: &Vec<u8>| [&(frame.len() as u32).to_le_bytes()[..], frame].concat();
    frames.iter().flat_map(with_length).collect()
}

/// All frames that are complete after the chunks.
fn assembled(
    assembly: &mut Assembly,
    pieces: impl Iterator<Item = Bytes>,
) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut frames = Vec::new();
    for piece in pieces {
        assembly.extend([piece].into_iter());
        while let Some(frame) = assembly.next()? {
            frames.push(frame.to_vec());
        }
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_are_reassembled_from_chunks_of_any_size(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..8),
        // Single bytes among others.
        cuts in prop_oneof![Just(vec![1]), proptest::collection::vec(1usize..1500, 1..20)],
        lost in 0usize..4,
    ) {
        let mut stream = encoded(&frames);
        stream.truncate(stream.len().saturating_sub(lost));
        let mut rest = Bytes::from(stream.clone());
        let mut cuts = cuts.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            (!rest.is_empty()).then(|| rest.split_to((*cuts.next().unwrap()).min(rest.len())))
        });
        let mut assembly = Assembly::new(3000);
        let found = assembled(&mut assembly, pieces).unwrap();
        let whole = encoded(&found).len();
        prop_assert_eq!(&found[..], &frames[..found.len()]);
        // The missing bytes are the ones that were cut off.
        if lost == 0 || stream.is_empty() {
            prop_assert_eq!(found.len(), if lost == 0 { frames.len() } else { 0 });
            prop_assert_eq!(assembly.missing(), 0);
        } else if whole < stream.len() {
            prop_assert!(assembly.missing() > 0);
        }
    }
}

#[test]
fn memory_follows_the_received_bytes_and_not_the_declared_size() {
    const DECLARED: usize = 4 << 20;
    let mut assembly = Assembly::new(DECLARED);
    let mut arrived = 0;
    assembly.extend([Bytes::copy_from_slice(&(DECLARED as u32).to_le_bytes())].into_iter());
    while arrived < DECLARED {
        assert_eq!(assembly.next(), Ok(None));
        let held = assembly.frame.as_ref().unwrap().bytes.capacity();
        assert!(held <= 2 * arrived + FIRST_RESERVE, "{held} bytes are held after {arrived}");
        let piece = Bytes::from(vec![7; 1200.min(DECLARED - arrived)]);
        arrived += piece.len();
        assembly.extend([piece].into_iter());
    }
    assert_eq!(assembly.next().unwrap().unwrap().len(), DECLARED);
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_follows() {
    let mut assembly = Assembly::new(100);
    assembly.extend([Bytes::copy_from_slice(&101u32.to_le_bytes())].into_iter());
    assert_eq!(assembly.next(), Err(FrameError::TooLarge { size: 101, limit: 100 }));
    let mut assembly = Assembly::new(100);
    assembly.extend([Bytes::copy_from_slice(&u32::MAX.to_le_bytes())].into_iter());
    assert!(matches!(assembly.next(), Err(FrameError::TooLarge { .. })));
}

#[test]
fn missing_bytes_are_counted_from_the_first_byte() {
    let mut assembly = Assembly::new(100);
    assert_eq!(assembly.missing(), 0);
    for (byte, missing) in [(10, 3), (0, 2), (0, 1)] {
        assembly.extend([Bytes::copy_from_slice(&[byte])].into_iter());
        assert_eq!(assembly.next(), Ok(None));
        assert_eq!(assembly.missing(), missing);
    }
    assembly.extend([Bytes::from_static(b"\0abc")].into_iter());
    assert_eq!(assembly.next(), Ok(None));
    assert_eq!(assembly.missing(), 7);
}
