//! The bytes of a fuzzer, read as decisions.

/// What is left of them. A read past the end yields zeros, so that a truncated input is valid too.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `bound`, which is at most 65,536.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        match bound {
            0 | 1 => 0,
            2..=256 => usize::from(self.byte()) % bound,
            _ => (usize::from(self.byte()) << 8 | usize::from(self.byte())) % bound,
        }
    }

    /// A number of any size; small ones are as likely as large ones.
    pub(crate) fn number(&mut self) -> u64 {
        let size = self.below(9);
        (0..size).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Some bytes, with their length before them.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            255 => self.below(4096),
            short => usize::from(short),
        };
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// All the rest.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// `bytes` with one to four changes.
    pub(crate) fn change(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().clamp(1, 65_536));
            match self.byte() % 6 {
                0 if at < bytes.len() => bytes[at] = self.byte(),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.insert(at.min(bytes.len()), self.byte()),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                4 => bytes.truncate(at),
                // An integer of the wire format that announces eight bytes, and as many as it may be.
                _ => {
                    let end = (at + 1).min(bytes.len());
                    let number = [&[253][..], &self.number().to_le_bytes()].concat();
                    bytes.splice(at.min(end)..end, number);
                }
            }
        }
        bytes
    }
}
