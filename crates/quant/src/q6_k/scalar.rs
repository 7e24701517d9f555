//! The definition of Q6_K.

use realm_gguf::TensorType;

use super::Q6K;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS};

impl Block256 for Q6K {
    const TY: TensorType = TensorType::Q6_K;
    const OFFSET: u8 = 32;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let u = |i: usize| {
            let low = bytes[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
            let high = bytes[128 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            low | high << 4
        };
        Block {
            u: std::array::from_fn(u),
            scales: std::array::from_fn(|j| bytes[192 + j] as i8),
            mins: [0; GROUPS],
            d: f16_at(bytes, 208),
            dmin: 0.0,
        }
    }
}
