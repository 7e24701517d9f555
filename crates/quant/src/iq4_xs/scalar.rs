//! The definition of IQ4_XS.

use realm_gguf::TensorType;

use super::IQ4XS;
use crate::block32::{f16_at, u32_at};
use crate::block256::{Block, Block256, GROUPS};
use crate::iq4_nl;

impl Block256 for IQ4XS {
    const TY: TensorType = TensorType::IQ4_XS;
    const OFFSET: u8 = iq4_nl::OFFSET;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let u = |i: usize| {
            let n = bytes[8 + i / 32 * 16 + i % 16] >> (i / 16 % 2 * 4) & 15;
            iq4_nl::LEVELS[usize::from(n)]
        };
        let (low, high) = (u32_at(bytes, 4), u32_at(bytes, 0) >> 16);
        let scale = |group: usize| {
            let j = group / 2;
            ((low >> (4 * j) & 15) | (high >> (2 * j) & 3) << 4) as i8 - 32
        };
        Block {
            u: std::array::from_fn(u),
            scales: std::array::from_fn(scale),
            mins: [0; GROUPS],
            d: f16_at(bytes, 0),
            dmin: 0.0,
        }
    }
}
