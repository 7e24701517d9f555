//! The definition of IQ2_XS.

use realm_gguf::TensorType;

use super::IQ2XS;
use super::grid::{GRID, NUMBERS, VALUES};
use crate::codebook::{Codebook, EIGHTS, Parts, make_even, odd_scales};
use crate::simd::Table;

impl Codebook for IQ2XS {
    const TY: TensorType = TensorType::IQ2_XS;
    const OFFSET: u8 = 64;
    const FACTOR: f32 = 1.0 / 8.0;
    const SHIFTED: bool = false;
    const SCALE_LEN: usize = 16;
    type Entry = [u8; 8];
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
        let bytes = bytes.first_chunk::<74>().expect("a block is not shorter");
        let (mut indices, mut signs) = ([0; EIGHTS], [0; EIGHTS]);
        for (i, word) in bytes[2..66].as_chunks().0.iter().enumerate() {
            // The bits that are not of the index are ignored.
            indices[i] = u16::from_le_bytes(*word);
            signs[i] = word[1] >> 1;
        }
        make_even(&mut signs);
        let scales = odd_scales(&bytes[66..]);
        Parts { indices, signs, scales, d: u16::from_le_bytes([bytes[0], bytes[1]]) }
    }
}
