//! The definition of IQ1_M.

use half::f16;
use realm_gguf::TensorType;

use super::IQ1M;
use crate::block256::{Block, Block256, GROUPS, LEN};
use crate::iq1_s::grid::GRID;

impl Block256 for IQ1M {
    const TY: TensorType = TensorType::IQ1_M;
    const OFFSET: u8 = 16;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let bytes = bytes.first_chunk::<56>().expect("a block is not shorter");
        let word = |i: usize| u16::from_le_bytes([bytes[48 + 2 * i], bytes[49 + 2 * i]]);
        let mut u = [0; LEN];
        for (i, u) in u.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let nibble = bytes[32 + i / 2] >> (4 * (i % 2)) & 15;
            let entry = GRID[usize::from(bytes[i]) | usize::from(nibble & 7) << 8];
            let delta = if nibble & 8 != 0 { -1 } else { 1 };
            *u = entry.map(|v| v.wrapping_add_signed(delta));
        }
        let d = (0..4).fold(0, |bits, i| bits | word(i) >> 12 << (4 * i));
        Block {
            u,
            scales: std::array::from_fn(|j| (word(j / 4) >> (3 * (j % 4)) & 7) as i8 * 2 + 1),
            mins: [0; GROUPS],
            d: f16::from_bits(d).to_f32() / 8.0,
            dmin: 0.0,
        }
    }
}
