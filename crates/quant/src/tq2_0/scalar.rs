//! The definition of TQ2_0.

use realm_gguf::TensorType;

use super::TQ2_0;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS};

impl Block256 for TQ2_0 {
    const TY: TensorType = TensorType::TQ2_0;
    const OFFSET: u8 = 1;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        Block {
            u: std::array::from_fn(|i| bytes[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3),
            scales: [1; GROUPS],
            mins: [0; GROUPS],
            d: f16_at(bytes, 64),
            dmin: 0.0,
        }
    }
}
