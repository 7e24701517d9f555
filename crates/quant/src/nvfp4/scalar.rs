//! The definition of NVFP4.

use super::{GROUP_LEN, LEN, PART_BYTES, PARTS, TY, VALUES_AT};
use crate::Group;
use crate::kernel::Problem;
use crate::mxfp4::{LEVELS, OFFSET};

/// 32 values with two scales.
struct Part {
    /// Values before the scales.
    values: [i8; LEN],
    scales: [f32; LEN / GROUP_LEN],
}

fn unpack(bytes: &[u8], part: usize) -> Part {
    let nibbles = &bytes[VALUES_AT + PART_BYTES * part..][..PART_BYTES];
    let value = |i: usize| {
        let nibble = nibbles[i / GROUP_LEN * 8 + i % 8] >> (i / 8 % 2 * 4) & 15;
        LEVELS[usize::from(nibble)] as i8 - OFFSET as i8
    };
    let scale = |group: usize| half_of_ue4m3(bytes[LEN / GROUP_LEN * part + group]);
    Part { values: std::array::from_fn(value), scales: std::array::from_fn(scale) }
}

/// The scale that a byte stands for.
fn half_of_ue4m3(byte: u8) -> f32 {
    if byte == 0x7f {
        return 0.0;
    }
    // Exponent and mantissa at their places in an f32; the product corrects the bias.
    f32::from_bits(u32::from(byte & 0x7f) << 20) * super::UNBIAS
}

pub(crate) fn dequantize(bytes: &[u8], out: &mut [f32]) {
    let (out, _) = out.as_chunks_mut::<LEN>();
    let blocks = bytes.chunks_exact(TY.block_bytes());
    let parts = blocks.flat_map(|bytes| (0..PARTS).map(move |part| unpack(bytes, part)));
    for (part, out) in parts.zip(out) {
        for (i, out) in out.iter_mut().enumerate() {
            *out = f32::from(part.values[i]) * part.scales[i / GROUP_LEN];
        }
    }
}

pub(crate) fn unpack_groups(bytes: &[u8], out: &mut [Group]) {
    let blocks = bytes.chunks_exact(TY.block_bytes());
    let parts = blocks.flat_map(|bytes| (0..PARTS).map(move |part| unpack(bytes, part)));
    for (part, group) in parts.zip(out) {
        let Part { values: quants, scales: d } = part;
        *group = Group { quants, scales: [1; 2], mins: [0; 2], d, dmin: 0.0 };
    }
}

pub(super) fn matmul(mut problem: Problem<'_>) {
    let x = problem.x;
    let n_parts = problem.cols / LEN;
    let (quants, _) = x.quants().as_chunks::<LEN>();
    for r in 0..problem.n_rows {
        let row = &problem.weights[r * problem.row_bytes..][..problem.row_bytes];
        for t in 0..x.rows() {
            problem.out.token(t)[r] = 0.0;
        }
        for b in 0..n_parts {
            let bytes = &row[b / PARTS * problem.block_bytes..][..problem.block_bytes];
            let part = unpack(bytes, b % PARTS);
            for t in 0..x.rows() {
                let at = t * n_parts + b;
                problem.out.token(t)[r] += dot(&part, &quants[at]) * x.scales()[at];
            }
        }
    }
}

fn dot(w: &Part, x: &[i8; LEN]) -> f32 {
    let products = |group: usize| {
        let values = w.values[group * GROUP_LEN..].iter().zip(&x[group * GROUP_LEN..]);
        let sum: i32 = values.take(GROUP_LEN).map(|(w, q)| i32::from(*w) * i32::from(*q)).sum();
        sum as f32 * w.scales[group]
    };
    products(0) + products(1)
}
