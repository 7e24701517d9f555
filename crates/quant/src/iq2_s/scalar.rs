//! The definition of IQ2_S.

use realm_gguf::TensorType;

use super::IQ2S;
use super::grid::{GRID, NUMBERS, VALUES};
use crate::codebook::{Codebook, EIGHTS, Parts, join, odd_scales};
use crate::simd::Table;

impl Codebook for IQ2S {
    const TY: TensorType = TensorType::IQ2_S;
    const OFFSET: u8 = 64;
    const FACTOR: f32 = 1.0 / 8.0;
    const SHIFTED: bool = false;
    const SCALE_LEN: usize = 16;
    type Entry = [u8; 8];
    type Numbers = Table<16>;
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
        let bytes = bytes.first_chunk::<82>().expect("a block is not shorter");
        let mut high = [0; EIGHTS / 4];
        for (high, byte) in high.iter_mut().zip(&bytes[66..74]) {
            let bits = u64::from(*byte);
            *high = (bits << 8 | bits << 22 | bits << 36 | bits << 50) & 0x0300_0300_0300_0300;
        }
        let mut signs = [0; EIGHTS];
        signs.copy_from_slice(&bytes[34..66]);
        Parts {
            indices: join(&bytes[2..34], high),
            signs,
            scales: odd_scales(&bytes[74..]),
            d: u16::from_le_bytes([bytes[0], bytes[1]]),
        }
    }
}
