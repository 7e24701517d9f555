//! The definition of IQ1_S.

use realm_gguf::TensorType;

use super::IQ1S;
use super::grid::{GRID, NUMBERS, VALUES};
use crate::codebook::{Codebook, Parts, join};
use crate::simd::Table;

impl Codebook for IQ1S {
    const TY: TensorType = TensorType::IQ1_S;
    const OFFSET: u8 = 16;
    const FACTOR: f32 = 1.0 / 8.0;
    const SHIFTED: bool = true;
    const SCALE_LEN: usize = 32;
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
        let bytes = bytes.first_chunk::<50>().expect("a block is not shorter");
        let (words, _) = bytes[34..].as_chunks::<2>();
        let (mut high, mut signs, mut scales) = ([0; 8], [0u32; 8], [0u32; 8]);
        for (i, word) in words.iter().map(|word| u16::from_le_bytes(*word)).enumerate() {
            let bits = u64::from(word);
            let (low, up) = ((bits & 7) << 8 | (bits & 0x38) << 21, (bits & 0x1c0) << 34);
            high[i] = low | up | (bits & 0xe00) << 47;
            signs[i] = (i32::from(word as i16) >> 31) as u32;
            scales[i] = 0x0001_0001 * u32::from(word >> 11 & 14 | 1);
        }
        Parts {
            indices: join(&bytes[2..34], high),
            signs: bytemuck::cast(signs),
            scales: bytemuck::cast(scales),
            d: u16::from_le_bytes([bytes[0], bytes[1]]),
        }
    }
}
