//! The definition of IQ1_M.

use realm_gguf::TensorType;

use super::IQ1M;
use crate::block256::GROUPS;
use crate::codebook::{Codebook, EIGHTS, Parts, join};
use crate::iq1_s::grid::{GRID, NUMBERS, VALUES};
use crate::simd::Table;

impl Codebook for IQ1M {
    const TY: TensorType = TensorType::IQ1_M;
    const OFFSET: u8 = 16;
    const FACTOR: f32 = 1.0 / 8.0;
    const SHIFTED: bool = true;
    const SCALE_LEN: usize = 16;
    type Entry = [u8; 8];
    type Numbers = Table<32>;
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
        let bytes = bytes.first_chunk::<56>().expect("a block is not shorter");
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes[48..].as_chunks().0) {
            *word = u16::from_le_bytes(*bytes);
        }
        let (mut high, mut signs) = ([0; EIGHTS / 4], [0u32; EIGHTS / 4]);
        for (i, nibbles) in bytes[32..48].as_chunks().0.iter().enumerate() {
            let bits = u64::from(u16::from_le_bytes(*nibbles));
            let (low, up) = ((bits & 7) << 8 | (bits & 0x70) << 20, (bits & 0x700) << 32);
            high[i] = low | up | (bits & 0x7000) << 44;
            let negative = bits as u32;
            let (low, up) = (negative >> 3 & 1 | negative << 1 & 0x100, negative << 5 & 0x1_0000);
            signs[i] = 0xff * (low | up | negative << 9 & 0x100_0000);
        }
        let mut scales = [0; GROUPS];
        for (scales, word) in scales.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            let word = word as i16;
            *scales =
                [word << 1 & 14 | 1, word >> 2 & 14 | 1, word >> 5 & 14 | 1, word >> 8 & 14 | 1];
        }
        Parts {
            indices: join(&bytes[..32], high),
            signs: bytemuck::cast(signs),
            scales,
            d: words[0] >> 12 | words[1] >> 12 << 4 | words[2] >> 12 << 8 | words[3] >> 12 << 12,
        }
    }
}
