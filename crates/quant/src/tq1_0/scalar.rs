//! The definition of TQ1_0.

use realm_gguf::TensorType;

use super::TQ1_0;
use crate::block32::f16_at;
use crate::block256::{Block, Block256, GROUPS};

/// First byte, number of bytes, first value of each run.
const RUNS: [(usize, usize, usize); 3] = [(0, 32, 0), (32, 16, 160), (48, 4, 240)];

impl Block256 for TQ1_0 {
    const TY: TensorType = TensorType::TQ1_0;
    const OFFSET: u8 = 1;
    const HAS_MIN: bool = false;

    fn unpack(bytes: &[u8]) -> Block {
        let digit = |i: usize| {
            let run = RUNS.iter().rev().find(|(_, _, first)| i >= *first);
            let (at, len, first) = run.expect("the first run starts at 0");
            let place = (i - first) / len;
            let rest = bytes[at + (i - first) % len].wrapping_mul(3u8.pow(place as u32));
            ((u16::from(rest) * 3) >> 8) as u8
        };
        Block {
            u: std::array::from_fn(digit),
            scales: [1; GROUPS],
            mins: [0; GROUPS],
            d: f16_at(bytes, 52),
            dmin: 0.0,
        }
    }
}
