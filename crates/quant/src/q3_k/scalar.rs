//! The definition of Q3_K.

use realm_gguf::TensorType;

use super::Q3K;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS};

impl Block256 for Q3K {
    const TY: TensorType = TensorType::Q3_K;
    const OFFSET: u8 = 4;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let u = |i: usize| {
            let low = bytes[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            low | (bytes[i % 32] >> (i / 32) & 1) << 2
        };
        let scale = |j: usize| {
            let low = bytes[96 + j % 8] >> (j / 8 * 4) & 15;
            let high = bytes[104 + j % 4] >> (j / 4 * 2) & 3;
            (low | high << 4) as i8 - 32
        };
        Block {
            u: std::array::from_fn(u),
            scales: std::array::from_fn(scale),
            mins: [0; GROUPS],
            d: f16_at(bytes, 108),
            dmin: 0.0,
        }
    }
}
