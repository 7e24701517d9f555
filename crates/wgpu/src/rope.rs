//! Sines and cosines for the rotation, exact at every position.
//!
//! Drivers may compute sines with an error of 2^-11, and in f32 the angle itself
//! is inexact at large positions. So the angles come from a table made in f64: a
//! position is three bytes, and the angle of their sum follows from three entries
//! by the addition theorems. 768 entries of a pair serve all positions below 2^24.

use realm_ir::RopeSpec;

/// Positions the table reaches.
pub(crate) const MAX_POSITIONS: u32 = 1 << 24;

/// `[3 * 256, n_pairs]` pairs `(cos, sin)`: of positions `b`, `256 b` and `65536 b`
/// for `b` in `0..256`. The magnitude is a factor of the first 256.
pub(crate) fn angles(rope: &RopeSpec) -> Vec<[f32; 2]> {
    let mut table = Vec::with_capacity(3 * 256 * rope.inverse_frequencies.len());
    for (step, magnitude) in [(1, rope.magnitude), (256, 1.0), (65_536, 1.0)] {
        for byte in 0..256 {
            for frequency in rope.inverse_frequencies.iter() {
                let angle = f64::from(byte * step) * f64::from(*frequency);
                let value = |x: f64| (x * f64::from(magnitude)) as f32;
                table.push([value(angle.cos()), value(angle.sin())]);
            }
        }
    }
    table
}
