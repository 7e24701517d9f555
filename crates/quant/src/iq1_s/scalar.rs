//! The definition of IQ1_S.

use realm_gguf::TensorType;

use super::IQ1S;
use super::grid::GRID;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS, LEN};

impl Block256 for IQ1S {
    const TY: TensorType = TensorType::IQ1_S;
    const OFFSET: u8 = 16;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let bytes = bytes.first_chunk::<50>().expect("a block is not shorter");
        let word = |run: usize| u16::from_le_bytes([bytes[34 + 2 * run], bytes[35 + 2 * run]]);
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let word = word(i / 4);
            let high = usize::from(word >> (3 * (i % 4)) & 7);
            let entry = GRID[usize::from(bytes[2 + i]) | high << 8];
            let delta = if word >> 15 == 1 { -1 } else { 1 };
            *u = entry.map(|v| v.wrapping_add_signed(delta));
        }
        Block {
            u,
            scales: std::array::from_fn(|j| (word(j / 2) >> 12 & 7) as i8 * 2 + 1),
            mins: [0; GROUPS],
            d: f16_at(bytes, 0) / 8.0,
            dmin: 0.0,
        }
    }
}
