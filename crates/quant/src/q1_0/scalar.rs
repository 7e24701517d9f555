//! The definition of Q1_0.

use realm_gguf::TensorType;

use super::Q1_0;
use crate::block32::{Block, Block32, f16_at, u32_at};

impl Block32 for Q1_0 {
    const TY: TensorType = TensorType::Q1_0;
    const OFFSET: u8 = 1;
    const HAS_MIN: bool = false;
    const PARTS: usize = 4;

    fn unpack(bytes: &[u8], part: usize) -> Block {
        let bits = u32_at(bytes, 2 + 4 * part);
        let u = std::array::from_fn(|i| (bits >> i & 1) as u8 * 2);
        Block { u, d: f16_at(bytes, 0), m: 0.0 }
    }
}
