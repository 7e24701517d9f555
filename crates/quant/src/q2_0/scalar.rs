//! The definition of Q2_0.

use realm_gguf::TensorType;

use super::Q2_0;
use crate::block32::{Block, Block32, f16_at};

impl Block32 for Q2_0 {
    const TY: TensorType = TensorType::Q2_0;
    const OFFSET: u8 = 1;
    const HAS_MIN: bool = false;
    const PARTS: usize = 2;

    fn unpack(bytes: &[u8], part: usize) -> Block {
        let u = std::array::from_fn(|i| bytes[2 + 8 * part + i / 4] >> (i % 4 * 2) & 3);
        Block { u, d: f16_at(bytes, 0), m: 0.0 }
    }
}
