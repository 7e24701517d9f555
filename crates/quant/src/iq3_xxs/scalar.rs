//! The definition of IQ3_XXS.

use realm_gguf::TensorType;

use super::IQ3XXS;
use super::grid::{GRID, NUMBERS, VALUES};
use crate::block256::LEN;
use crate::codebook::{Codebook, EIGHTS, Parts, join, signs_and_scales};
use crate::simd::Table;

impl Codebook for IQ3XXS {
    const TY: TensorType = TensorType::IQ3_XXS;
    const OFFSET: u8 = 64;
    const FACTOR: f32 = 1.0 / 4.0;
    const SHIFTED: bool = false;
    const SCALE_LEN: usize = 32;
    type Entry = [u8; 4];
    type Numbers = Table<4>;
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
        let bytes = bytes.first_chunk::<98>().expect("a block is not shorter");
        let mut words = [0; EIGHTS / 4];
        for (word, bytes) in words.iter_mut().zip(bytes[66..].as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let (signs, scales) = signs_and_scales(words);
        let indices = join(&bytes[2..66], [0; LEN / 16]);
        Parts { indices, signs, scales, d: u16::from_le_bytes([bytes[0], bytes[1]]) }
    }
}
