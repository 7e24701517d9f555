//! The definition of IQ3_S.

use realm_gguf::TensorType;

use super::IQ3S;
use super::grid::GRID;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS, LEN};
use crate::codebook::{Signs, join};

impl Block256 for IQ3S {
    const TY: TensorType = TensorType::IQ3_S;
    const OFFSET: u8 = 16;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let bytes = bytes.first_chunk::<110>().expect("a block is not shorter");
        let entry = |j: usize| {
            let high = usize::from(bytes[66 + j / 8] >> (j % 8) & 1);
            GRID[usize::from(bytes[2 + j]) | high << 8]
        };
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let magnitudes = join(entry(2 * i), entry(2 * i + 1));
            *u = Signs::new(bytes[74 + i]).apply(Self::OFFSET, magnitudes);
        }
        let scale = |j: usize| (bytes[106 + j / 4] >> (4 * (j / 2 % 2)) & 15) as i8 * 2 + 1;
        Block {
            u,
            scales: std::array::from_fn(scale),
            mins: [0; GROUPS],
            d: f16_at(bytes, 0),
            dmin: 0.0,
        }
    }
}
