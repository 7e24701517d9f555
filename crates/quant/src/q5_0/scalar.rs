//! The definition of Q5_0.

use realm_gguf::TensorType;

use super::Q5_0;
use crate::block32::{Block, Block32, add_fifth_bits, f16_at, nibbles, u32_at};

impl Block32 for Q5_0 {
    const TY: TensorType = TensorType::Q5_0;
    const OFFSET: u8 = 16;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8], _part: usize) -> Block {
        let mut u = nibbles(&bytes[6..]);
        add_fifth_bits(&mut u, u32_at(bytes, 2));
        Block { u, d: f16_at(bytes, 0), m: 0.0 }
    }
}
