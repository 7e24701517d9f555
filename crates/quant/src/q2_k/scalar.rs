//! The definition of Q2_K.

use realm_gguf::TensorType;

use super::Q2K;
use crate::block32::f16_at;
use crate::block256::{Block, Block256};

impl Block256 for Q2K {
    const TY: TensorType = TensorType::Q2_K;
    const OFFSET: u8 = 0;
    const HAS_MIN: bool = true;

    fn unpack(bytes: &[u8]) -> Block {
        Block {
            u: std::array::from_fn(|i| bytes[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3),
            scales: std::array::from_fn(|j| (bytes[j] & 15) as i8),
            mins: std::array::from_fn(|j| bytes[j] >> 4),
            d: f16_at(bytes, 80),
            dmin: f16_at(bytes, 82),
        }
    }
}
