//! The definition of Q8_0.

use realm_gguf::TensorType;

use super::Q8_0;
use crate::block32::{Block, Block32, f16_at};

impl Block32 for Q8_0 {
    const TY: TensorType = TensorType::Q8_0;
    const OFFSET: u8 = 128;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8], _part: usize) -> Block {
        let u = std::array::from_fn(|i| bytes[2 + i] ^ 0x80);
        Block { u, d: f16_at(bytes, 0), m: 0.0 }
    }
}
