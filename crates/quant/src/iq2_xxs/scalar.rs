//! The definition of IQ2_XXS.

use realm_gguf::TensorType;

use super::IQ2XXS;
use super::grid::GRID;
use crate::block32::{f16_at, u32_at};
use crate::block256::{Block, Block256, GROUPS, LEN};
use crate::codebook::Signs;

impl Block256 for IQ2XXS {
    const TY: TensorType = TensorType::IQ2_XXS;
    const OFFSET: u8 = 64;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let bytes = bytes.first_chunk::<66>().expect("a block is not shorter");
        let signs_and_scale = |run: usize| u32_at(bytes, 2 + 8 * run + 4);
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let magnitudes = GRID[usize::from(bytes[2 + i / 4 * 8 + i % 4])];
            let signs = Signs::even(signs_and_scale(i / 4) >> (7 * (i % 4)));
            *u = signs.apply(Self::OFFSET, magnitudes);
        }
        Block {
            u,
            scales: std::array::from_fn(|j| (signs_and_scale(j / 2) >> 28) as i8 * 2 + 1),
            mins: [0; GROUPS],
            d: f16_at(bytes, 0) / 8.0,
            dmin: 0.0,
        }
    }
}
