//! The definition of Q4_1.

use realm_gguf::TensorType;

use super::Q4_1;
use crate::block32::{Block, Block32, f16_at, nibbles};

impl Block32 for Q4_1 {
    const TY: TensorType = TensorType::Q4_1;
    const OFFSET: u8 = 0;
    const HAS_MIN: bool = true;

    fn unpack(bytes: &[u8], _part: usize) -> Block {
        Block { u: nibbles(&bytes[4..]), d: f16_at(bytes, 0), m: f16_at(bytes, 2) }
    }
}
