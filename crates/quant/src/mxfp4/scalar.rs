//! The definition of MXFP4.

use realm_gguf::TensorType;

use super::{LEVELS, MxFp4};
use crate::block32::{Block, Block32, nibbles};

impl Block32 for MxFp4 {
    const TY: TensorType = TensorType::MXFP4;
    const OFFSET: u8 = super::OFFSET;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8], _part: usize) -> Block {
        let u = nibbles(&bytes[1..]).map(|n| LEVELS[usize::from(n)]);
        Block { u, d: half_of_e8m0(bytes[0]), m: 0.0 }
    }
}

/// `2^(e - 128)`, as a product of two powers that are both normal numbers.
fn half_of_e8m0(e: u8) -> f32 {
    let power = |half: u8| f32::from_bits((u32::from(half) + 63) << 23);
    power(e / 2) * power(e - e / 2)
}
