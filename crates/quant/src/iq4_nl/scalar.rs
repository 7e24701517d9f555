//! The definition of IQ4_NL.

use realm_gguf::TensorType;

use super::{IQ4NL, LEVELS};
use crate::block32::{Block, Block32, f16_at, nibbles};

impl Block32 for IQ4NL {
    const TY: TensorType = TensorType::IQ4_NL;
    const OFFSET: u8 = super::OFFSET;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8], _part: usize) -> Block {
        let u = nibbles(&bytes[2..]).map(|n| LEVELS[usize::from(n)]);
        Block { u, d: f16_at(bytes, 0), m: 0.0 }
    }
}
