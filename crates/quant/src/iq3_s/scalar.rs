//! The definition of IQ3_S.

use realm_gguf::TensorType;

use super::IQ3S;
use super::grid::{GRID, NUMBERS, VALUES};
use crate::block256::{GROUPS, LEN};
use crate::codebook::{Codebook, EIGHTS, Parts, join};
use crate::simd::Table;

impl Codebook for IQ3S {
    const TY: TensorType = TensorType::IQ3_S;
    const OFFSET: u8 = 16;
    const FACTOR: f32 = 1.0;
    const SHIFTED: bool = false;
    const SCALE_LEN: usize = 32;
    type Entry = [u8; 4];
    type Numbers = Table<8>;
    const VALUES: &'static [u8] = VALUES;

    #[inline(always)]
    fn grid() -> &'static [Self::Entry] {
        &GRID[..]
    }

    #[inline(always)]
    fn numbers() -> &'static Self::Numbers {
        &NUMBERS
    }

    #[inline(always)]
    fn parts(bytes: &[u8]) -> Parts<Self::Entry> {
        let bytes = bytes.first_chunk::<110>().expect("a block is not shorter");
        const NINTH_BITS: u64 = 0x0100_0100_0100_0100;
        let mut high = [0; LEN / 16];
        for (high, byte) in high.as_chunks_mut::<2>().0.iter_mut().zip(&bytes[66..74]) {
            let bits = u64::from(*byte);
            let fours = [bits << 8 | bits << 23, bits << 4 | bits << 19];
            *high = [
                (fours[0] | bits << 38 | bits << 53) & NINTH_BITS,
                (fours[1] | bits << 34 | bits << 49) & NINTH_BITS,
            ];
        }
        let mut signs = [0; EIGHTS];
        signs.copy_from_slice(&bytes[74..106]);
        let mut scales = [0; GROUPS];
        for (scales, byte) in scales.as_chunks_mut::<4>().0.iter_mut().zip(&bytes[106..]) {
            let (low, high) = (i16::from(*byte << 1 & 30 | 1), i16::from(*byte >> 3 & 30 | 1));
            *scales = [low, low, high, high];
        }
        Parts {
            indices: join(&bytes[2..66], high),
            signs,
            scales,
            d: u16::from_le_bytes([bytes[0], bytes[1]]),
        }
    }
}
