//! Formats whose blocks hold 32 values: `w[i] = d * (u[i] - OFFSET) + m`.
//!
//! The dot product of one block with int8 activations `d_x * q[i]` is
//!
//! ```text
//! d_w * d_x * sum((u[i] - OFFSET) * q[i])  +  m * d_x * sum(q[i])
//! ```
//!
//! with both sums exact in i32. Blocks are added one after another in f32.

pub(crate) mod rows;

use realm_gguf::TensorType;

use crate::cpu::Level;
use crate::kernel::{Kernel, Problem};
use crate::simd::for_each_simd;
use crate::{ActivationForm, Format};

/// Values per block.
pub(crate) const LEN: usize = 32;

/// One block, unpacked.
pub(crate) struct Block {
    /// Values before scale and offset.
    pub u: [u8; LEN],
    /// Scale.
    pub d: f32,
    /// Minimum, the value added to all; 0 in formats without.
    pub m: f32,
}

/// The definition of one format.
pub(crate) trait Block32 {
    const TY: TensorType;
    /// What is subtracted from every `u`.
    const OFFSET: u8;
    /// Whether blocks have a minimum.
    const HAS_MIN: bool;
    /// Parts of 32 values in one block of the format, each unpacked as a block.
    const PARTS: usize = 1;

    /// Unpacks one part of a block, `TY.block_bytes()` long.
    fn unpack(bytes: &[u8], part: usize) -> Block;
}

/// The two nibbles of each byte: the low ones are values 0..16, the high ones 16..32.
pub(crate) fn nibbles(bytes: &[u8]) -> [u8; LEN] {
    let mut u = [0; LEN];
    for (i, byte) in bytes[..16].iter().enumerate() {
        u[i] = byte & 15;
        u[i + 16] = byte >> 4;
    }
    u
}

/// Sets bit 4 of each value to its bit in `bits`.
pub(crate) fn add_fifth_bits(u: &mut [u8; LEN], bits: u32) {
    for (i, u) in u.iter_mut().enumerate() {
        *u |= ((bits >> i & 1) as u8) << 4;
    }
}

/// The two bytes at `at` as an f16.
pub(crate) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// The four bytes at `at` as a u32.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The format entry of `F`.
pub(crate) const fn format<F: Block32>(kernels: &'static [Kernel]) -> Format {
    Format::new(F::TY, ActivationForm::Q8Block32, dequantize::<F>, kernels)
}

/// The kernels of `F` for interleaved rows, fastest first.
pub(crate) const fn packed_kernels<F: rows::Rows32>() -> [Kernel; Level::COUNT - 1] {
    for_each_simd!(S<true> => crate::rows::packed_kernel::<S, rows::Family<F>>(F::TY, true))
}

/// [`kernels`] of a format that has [`packed_kernels`] as well.
pub(crate) const fn kernels_beside_packed<F: rows::Rows32>() -> [Kernel; Level::COUNT_BESIDE_PACKED]
{
    #[cfg(target_family = "wasm")]
    return [Kernel::new(Level::Scalar, F::TY, matmul::<F>)];
    #[cfg(not(target_family = "wasm"))]
    kernels::<F>()
}

/// The kernels of `F`, fastest first; the last one is the definition.
pub(crate) const fn kernels<F: rows::Rows32>() -> [Kernel; Level::COUNT] {
    for_each_simd!(
        S<false> => crate::rows::kernel::<S, rows::Family<F>>(F::TY),
        Kernel::new(Level::Scalar, F::TY, matmul::<F>)
    )
}

fn dequantize<F: Block32>(bytes: &[u8], out: &mut [f32]) {
    let (out, _) = out.as_chunks_mut::<LEN>();
    let blocks = bytes.chunks_exact(F::TY.block_bytes());
    let parts = blocks.flat_map(|bytes| (0..F::PARTS).map(move |part| F::unpack(bytes, part)));
    for (block, out) in parts.zip(out) {
        for (out, u) in out.iter_mut().zip(block.u) {
            *out = f32::from(i16::from(u) - i16::from(F::OFFSET)) * block.d;
            // Adding a zero minimum would turn -0 into 0.
            if F::HAS_MIN {
                *out += block.m;
            }
        }
    }
}

fn matmul<F: Block32>(mut problem: Problem<'_>) {
    let x = problem.x;
    let blocks = problem.cols / LEN;
    let (quants, _) = x.quants().as_chunks::<LEN>();
    for r in 0..problem.n_rows {
        let row = &problem.weights[r * problem.row_bytes..][..problem.row_bytes];
        for t in 0..x.rows() {
            problem.out.token(t)[r] = 0.0;
        }
        for b in 0..blocks {
            let bytes = &row[b / F::PARTS * problem.block_bytes..][..problem.block_bytes];
            let block = F::unpack(bytes, b % F::PARTS);
            for t in 0..x.rows() {
                let at = t * blocks + b;
                let out = &mut problem.out.token(t)[r];
                *out = add_block::<F>(*out, &block, &quants[at], x.scales()[at], x.sums()[at]);
            }
        }
    }
}

fn add_block<F: Block32>(acc: f32, w: &Block, x: &[i8; LEN], d_x: f32, sum_x: i32) -> f32 {
    let products = w.u.iter().zip(x).map(|(u, q)| i32::from(*u) * i32::from(*q));
    let dot = products.sum::<i32>() - i32::from(F::OFFSET) * sum_x;
    if F::HAS_MIN {
        acc + (dot as f32 * w.d + sum_x as f32 * w.m) * d_x
    } else {
        acc + dot as f32 * (w.d * d_x)
    }
}
