//! The definition of Q5_1.

use realm_gguf::TensorType;

use super::Q5_1;
use crate::block32::{Block, Block32, add_fifth_bits, f16_at, nibbles, u32_at};

impl Block32 for Q5_1 {
    const TY: TensorType = TensorType::Q5_1;
    const OFFSET: u8 = 0;
    const HAS_MIN: bool = true;

    fn unpack(bytes: &[u8], _part: usize) -> Block {
        let mut u = nibbles(&bytes[8..]);
        add_fifth_bits(&mut u, u32_at(bytes, 4));
        Block { u, d: f16_at(bytes, 0), m: f16_at(bytes, 2) }
    }
}
