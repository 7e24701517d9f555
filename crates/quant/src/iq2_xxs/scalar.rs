//! The definition of IQ2_XXS.

use realm_gguf::TensorType;

use super::IQ2XXS;
use super::grid::{GRID, NUMBERS, VALUES};
use crate::codebook::{Codebook, EIGHTS, Parts, signs_and_scales};
use crate::simd::Table;

impl Codebook for IQ2XXS {
    const TY: TensorType = TensorType::IQ2_XXS;
    const OFFSET: u8 = 64;
    const FACTOR: f32 = 1.0 / 8.0;
    const SHIFTED: bool = false;
    const SCALE_LEN: usize = 32;
    type Entry = [u8; 8];
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
        let bytes = bytes.first_chunk::<66>().expect("a block is not shorter");
        let (mut indices, mut words) = ([0; EIGHTS], [0; EIGHTS / 4]);
        let runs = bytes[2..].as_chunks::<8>().0;
        for ((four, word), run) in
            indices.as_chunks_mut::<4>().0.iter_mut().zip(&mut words).zip(runs)
        {
            four.iter_mut().zip(run).for_each(|(index, byte)| *index = u16::from(*byte));
            *word = (u64::from_le_bytes(*run) >> 32) as u32;
        }
        let (signs, scales) = signs_and_scales(words);
        Parts { indices, signs, scales, d: u16::from_le_bytes([bytes[0], bytes[1]]) }
    }
}
