//! The definition of Q4_K.

use realm_gguf::TensorType;

use super::Q4K;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, scales_and_mins};

impl Block256 for Q4K {
    const TY: TensorType = TensorType::Q4_K;
    const OFFSET: u8 = 0;
    const HAS_MIN: bool = true;

    fn unpack(bytes: &[u8]) -> Block {
        let (scales, mins) = scales_and_mins(&bytes[4..]);
        Block {
            u: std::array::from_fn(|i| bytes[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15),
            scales,
            mins,
            d: f16_at(bytes, 0),
            dmin: f16_at(bytes, 2),
        }
    }
}
