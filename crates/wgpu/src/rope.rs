//! Sines and cosines for the rotation, exact at every position.
//!
//! Drivers may compute sines with an error of 2^-11, and in f32 the angle itself
//! is inexact at large positions. So the angles come from a table made in f64: a
//! position is four bytes, and the angle of their sum follows from four entries
//! by the addition theorems. 1024 entries of a pair serve all positions.

use realm_ir::RopeSpec;

/// Entries of a pair: of each value of four bytes one.
const ENTRIES: usize = 4 * 256;

/// Bytes of a table.
pub(crate) fn n_bytes(rope: &RopeSpec) -> usize {
    ENTRIES * rope.inverse_frequencies.len() * size_of::<[f32; 2]>()
}

/// `[4 * 256, n_pairs]` pairs `(cos, sin)`: of positions `b`, `2^8 b`, `2^16 b` and
/// `2^24 b` for `b` in `0..256`. The magnitude is a factor of the first 256.
pub(crate) fn angles(rope: &RopeSpec) -> Vec<[f32; 2]> {
    let mut table = Vec::with_capacity(ENTRIES * rope.inverse_frequencies.len());
    for byte in 0..4 {
        let magnitude = if byte == 0 { f64::from(rope.magnitude) } else { 1.0 };
        for value in 0..256u32 {
            for frequency in rope.inverse_frequencies.iter() {
                let angle = f64::from(value << (8 * byte)) * f64::from(*frequency);
                table.push([angle.cos(), angle.sin()].map(|x| (x * magnitude) as f32));
            }
        }
    }
    table
}
