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
#[cfg(target_feature = "simd128")]
mod wide;

use realm_gguf::TensorType;

use crate::cpu::InstructionSet;
use crate::kernel::{Kernel, Problem};
use crate::simd::{for_each_lean, for_each_simd};
use crate::{ActivationForm, Format, Group};

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
    Format::new(F::TY, ActivationForm::Q8Block32, kernels)
}

/// The kernels of `F` for interleaved rows, fastest first.
pub(crate) const fn packed_kernels<F: rows::Rows32>() -> [Kernel; InstructionSet::COUNT - 1] {
    for_each_simd!(S<true> => crate::rows::packed_kernel::<S, rows::FormatRows<F>>(F::TY))
}

/// The kernels of `F`, fastest first; the last one is the definition.
pub(crate) const fn kernels<F: rows::Rows32>() -> [Kernel; InstructionSet::LEAN_COUNT] {
    for_each_lean!(
        S => crate::rows::kernel::<S, rows::FormatRows<F>>(F::TY),
        Kernel::new(InstructionSet::Scalar, F::TY, matmul::<F>)
    )
}

/// [`kernels`] with one for WebAssembly too, for a hot format that has no
/// [`packed_kernels`].
pub(crate) const fn kernels_everywhere<F: rows::Rows32>() -> [Kernel; InstructionSet::COUNT] {
    for_each_simd!(
        S<false> => crate::rows::kernel::<S, rows::FormatRows<F>>(F::TY),
        Kernel::new(InstructionSet::Scalar, F::TY, matmul::<F>)
    )
}

/// A definition as values: what follows from it slowly is compiled once for all formats.
pub(crate) struct Definition {
    unpack: fn(&[u8], usize) -> Block,
    ty: TensorType,
    parts: usize,
    offset: u8,
    has_min: bool,
}

impl Definition {
    /// That of `F`.
    pub(crate) const fn of<F: Block32>() -> Self {
        Self {
            unpack: F::unpack,
            ty: F::TY,
            parts: F::PARTS,
            offset: F::OFFSET,
            has_min: F::HAS_MIN,
        }
    }

    /// Whole blocks to values; lengths are checked by the caller.
    #[inline(never)]
    pub(crate) fn dequantize(&self, bytes: &[u8], out: &mut [f32]) {
        let offset = i16::from(self.offset);
        for (block, out) in self.blocks(bytes).zip(out.as_chunks_mut::<LEN>().0) {
            for (out, u) in out.iter_mut().zip(block.u) {
                *out = f32::from(i16::from(u) - offset) * block.d;
                // Adding a zero minimum would turn -0 into 0.
                if self.has_min {
                    *out += block.m;
                }
            }
        }
    }

    /// Does what [`unpack`](crate::unpack()) says.
    #[inline(never)]
    pub(crate) fn unpack(&self, bytes: &[u8], out: &mut [Group]) {
        for (block, group) in self.blocks(bytes).zip(out) {
            *group = Group {
                quants: block.u.map(|u| u.wrapping_sub(self.offset) as i8),
                scales: [1; 2],
                mins: [u8::from(self.has_min); 2],
                d: [block.d; 2],
                dmin: -block.m,
            };
        }
    }

    fn blocks(&self, bytes: &[u8]) -> impl Iterator<Item = Block> {
        let blocks = bytes.chunks_exact(self.ty.block_bytes());
        blocks.flat_map(move |bytes| (0..self.parts).map(move |part| (self.unpack)(bytes, part)))
    }

    #[inline(never)]
    fn matmul(&self, mut problem: Problem<'_>) {
        let x = problem.x;
        let blocks = problem.cols / LEN;
        let (quants, _) = x.quants().as_chunks::<LEN>();
        for r in 0..problem.n_rows {
            let row = &problem.weights[r * problem.row_bytes..][..problem.row_bytes];
            for t in 0..x.rows() {
                problem.out.token(t)[r] = 0.0;
            }
            for b in 0..blocks {
                let bytes = &row[b / self.parts * problem.block_bytes..][..problem.block_bytes];
                let block = (self.unpack)(bytes, b % self.parts);
                for t in 0..x.rows() {
                    let at = t * blocks + b;
                    let out = &mut problem.out.token(t)[r];
                    *out = self.add_block(*out, &block, &quants[at], x.scales()[at], x.sums()[at]);
                }
            }
        }
    }

    #[inline(always)]
    fn add_block(&self, acc: f32, w: &Block, x: &[i8; LEN], d_x: f32, sum_x: i32) -> f32 {
        let products = w.u.iter().zip(x).map(|(u, q)| i32::from(*u) * i32::from(*q));
        let dot = products.sum::<i32>() - i32::from(self.offset) * sum_x;
        if self.has_min {
            acc + (dot as f32 * w.d + sum_x as f32 * w.m) * d_x
        } else {
            acc + dot as f32 * (w.d * d_x)
        }
    }
}

fn matmul<F: Block32>(problem: Problem<'_>) {
    const { &Definition::of::<F>() }.matmul(problem);
}
