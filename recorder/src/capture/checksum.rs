//! The checksum of IP, TCP and UDP (RFC 1071), in one pass over bytes where they lie.

/// Words added side by side; the compiler makes vector instructions of it.
const LANES: usize = 16;
const WORD: usize = 4;

/// A sum of 16-bit words that is not yet folded.
///
/// One's complement sums do not mind the order of the bytes as long as it is the same everywhere:
/// words are read as they lie, and the result is written as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds `bytes`; only the last addition may be of an odd number of them.
    ///
    /// The sum holds 4 GiB and more.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        let mut lanes = [0_u64; LANES];
        let mut blocks = bytes.chunks_exact(LANES * WORD);
        for block in &mut blocks {
            let (words, _) = block.as_chunks::<WORD>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (pairs, odd) = blocks.remainder().as_chunks::<2>();
        let tail: u64 = pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum();
        let last = odd.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
        Self(self.0 + lanes.iter().sum::<u64>() + tail + last)
    }

    /// Adds a number in network order.
    pub(super) fn add_u32(self, number: u32) -> Self {
        self.add(&number.to_be_bytes())
    }

    /// The checksum, as its two bytes stand in a header.
    pub(super) fn finish(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > u64::from(u16::MAX) {
            sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
        }
        (!u16::try_from(sum).expect("it was folded into 16 bits")).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use etherparse::checksum::Sum16BitWords;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_reference(
            bytes in proptest::collection::vec(any::<u8>(), 0..700),
            number in any::<u32>(),
        ) {
            let reference = Sum16BitWords::new().add_4bytes(number.to_be_bytes()).add_slice(&bytes);
            let ours = Sum::default().add_u32(number).add(&bytes).finish();
            prop_assert_eq!(ours, reference.ones_complement().to_ne_bytes());
        }
    }

    #[test]
    fn the_longest_payload_does_not_overflow() {
        let bytes = vec![0xff; 65_535];
        let reference = Sum16BitWords::new().add_slice(&bytes).ones_complement();
        assert_eq!(Sum::default().add(&bytes).finish(), reference.to_ne_bytes());
    }
}
