//! The definition of IQ2_XS.

use realm_gguf::TensorType;

use super::IQ2XS;
use super::grid::GRID;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS, LEN};
use crate::codebook::Signs;

impl Block256 for IQ2XS {
    const TY: TensorType = TensorType::IQ2_XS;
    const OFFSET: u8 = 64;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let bytes = bytes.first_chunk::<74>().expect("a block is not shorter");
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let word = u16::from_le_bytes([bytes[2 + 2 * i], bytes[3 + 2 * i]]);
            let signs = Signs::even(u32::from(word >> 9));
            *u = signs.apply(Self::OFFSET, GRID[usize::from(word & 511)]);
        }
        let scale = |j: usize| (bytes[66 + j / 2] >> (4 * (j % 2)) & 15) as i8 * 2 + 1;
        Block {
            u,
            scales: std::array::from_fn(scale),
            mins: [0; GROUPS],
            d: f16_at(bytes, 0) / 8.0,
            dmin: 0.0,
        }
    }
}
