//! The definition of IQ2_S.

use realm_gguf::TensorType;

use super::IQ2S;
use super::grid::GRID;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS, LEN};
use crate::codebook::Signs;

impl Block256 for IQ2S {
    const TY: TensorType = TensorType::IQ2_S;
    const OFFSET: u8 = 64;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let bytes = bytes.first_chunk::<82>().expect("a block is not shorter");
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = usize::from(bytes[66 + i / 4] >> (2 * (i % 4)) & 3);
            let index = usize::from(bytes[2 + i]) | high << 8;
            *u = Signs::new(bytes[34 + i]).apply(Self::OFFSET, GRID[index]);
        }
        let scale = |j: usize| (bytes[74 + j / 2] >> (4 * (j % 2)) & 15) as i8 * 2 + 1;
        Block {
            u,
            scales: std::array::from_fn(scale),
            mins: [0; GROUPS],
            d: f16_at(bytes, 0) / 8.0,
            dmin: 0.0,
        }
    }
}
