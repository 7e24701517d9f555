//! The definition of Q4_0.

use realm_gguf::TensorType;

use super::Q4_0;
use crate::block32::{Block, Block32, f16_at, nibbles};

impl Block32 for Q4_0 {
    const TY: TensorType = TensorType::Q4_0;
    const OFFSET: u8 = 8;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8], _part: usize) -> Block {
        Block { u: nibbles(&bytes[2..]), d: f16_at(bytes, 0), m: 0.0 }
    }
}
