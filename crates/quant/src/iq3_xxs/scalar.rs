//! The definition of IQ3_XXS.

use realm_gguf::TensorType;

use super::IQ3XXS;
use super::grid::GRID;
use crate::block32::{f16_at, u32_at};
use crate::block256::{Block, Block256, GROUPS, LEN};
use crate::codebook::{Signs, join};

impl Block256 for IQ3XXS {
    const TY: TensorType = TensorType::IQ3_XXS;
    const OFFSET: u8 = 64;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let bytes = bytes.first_chunk::<98>().expect("a block is not shorter");
        let signs_and_scale = |run: usize| u32_at(bytes, 66 + 4 * run);
        let entry = |j: usize| GRID[usize::from(bytes[2 + j])];
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let signs = Signs::even(signs_and_scale(i / 4) >> (7 * (i % 4)));
            *u = signs.apply(Self::OFFSET, join(entry(2 * i), entry(2 * i + 1)));
        }
        Block {
            u,
            scales: std::array::from_fn(|j| (signs_and_scale(j / 2) >> 28) as i8 * 2 + 1),
            mins: [0; GROUPS],
            d: f16_at(bytes, 0) / 4.0,
            dmin: 0.0,
        }
    }
}
