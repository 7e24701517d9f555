//! Blocks of 256 values with one integer scale per 16 of them: the K-quants, and
//! formats that can be written like them.
//!
//! `w[i] = d * scale[i / 16] * (u[i] - OFFSET) - dmin * min[i / 16]`. Formats
//! that share a scale among 32 values repeat it here.
//!
//! The dot product of one block with int8 activations `d_x * q[i]` is
//!
//! ```text
//! d * d_x * sum over j of scale[j] * sum((u[i] - OFFSET) * q[i])
//!   - dmin * d_x * sum over j of min[j] * sum(q[i])
//! ```
//!
//! with all sums exact in i32. Blocks are added one after another in f32, the
//! term with the minimums after the other.

pub(crate) mod rows;

use realm_gguf::TensorType;

use crate::activations::SUMS_256;
use crate::cpu::InstructionSet;
use crate::kernel::{Kernel, Problem};
use crate::rows::RowFormat;
use crate::simd::{for_each_lean, for_each_simd};
use crate::{ActivationForm, Format, Group};

/// Values per block.
pub(crate) const LEN: usize = 256;
/// Groups of 16 values in a block.
pub(crate) const GROUPS: usize = 16;
const GROUP_LEN: usize = LEN / GROUPS;

/// One block, unpacked.
pub(crate) struct Block {
    /// Values before scale and offset.
    pub u: [u8; LEN],
    /// Integer scale of each group.
    pub scales: [i8; GROUPS],
    /// Integer minimum of each group; 0 in formats without.
    pub mins: [u8; GROUPS],
    /// Scale of the scales.
    pub d: f32,
    /// Scale of the minimums.
    pub dmin: f32,
}

/// The definition of one format.
pub(crate) trait Block256 {
    const TY: TensorType;
    /// What is subtracted from every `u`.
    const OFFSET: u8;
    /// Whether blocks have minimums.
    const HAS_MIN: bool;

    /// Unpacks a block, `TY.block_bytes()` long.
    fn unpack(bytes: &[u8]) -> Block;
}

/// The 6-bit scales and minimums of Q4_K and Q5_K: eight of each in 12 bytes,
/// repeated for the two groups they cover.
///
/// Source: `get_scale_min_k4` in ggml `src/ggml-quants.c`.
pub(crate) fn scales_and_mins(bytes: &[u8]) -> ([i8; GROUPS], [u8; GROUPS]) {
    let (mut scales, mut mins) = ([0; GROUPS], [0; GROUPS]);
    for j in 0..GROUPS {
        let i = j / 2;
        let (scale, min) = if i < 4 {
            (bytes[i] & 63, bytes[i + 4] & 63)
        } else {
            let (low, high) = (bytes[i + 4], [bytes[i - 4], bytes[i]]);
            ((low & 15) | (high[0] >> 6 << 4), (low >> 4) | (high[1] >> 6 << 4))
        };
        (scales[j], mins[j]) = (scale as i8, min);
    }
    (scales, mins)
}

/// The format entry of `F`.
pub(crate) const fn format<F: Block256>(kernels: &'static [Kernel]) -> Format {
    Format::new(F::TY, ActivationForm::Q8Block256, kernels)
}

/// The kernels of `F` for interleaved rows, fastest first.
pub(crate) const fn packed_kernels<F: rows::Rows256>() -> [Kernel; InstructionSet::COUNT - 1] {
    for_each_simd!(S<true> => crate::rows::packed_kernel::<S, rows::FormatRows<F>>(F::TY))
}

/// The kernels of `F`, fastest first; the last one is the definition.
pub(crate) const fn kernels<F: rows::Rows256>() -> [Kernel; InstructionSet::LEAN_COUNT] {
    kernels_by::<F, rows::FormatRows<F>>()
}

/// Like [`kernels`], with vectors as `R` says.
pub(crate) const fn kernels_by<F: Block256, R: RowFormat>() -> [Kernel; InstructionSet::LEAN_COUNT]
{
    for_each_lean!(
        S => crate::rows::kernel::<S, R>(F::TY),
        Kernel::new(InstructionSet::Scalar, F::TY, matmul::<F>)
    )
}

/// A definition as values: what follows from it slowly is compiled once for all formats.
pub(crate) struct Definition {
    unpack: fn(&[u8]) -> Block,
    ty: TensorType,
    offset: u8,
    has_min: bool,
}

impl Definition {
    /// That of `F`.
    pub(crate) const fn of<F: Block256>() -> Self {
        Self { unpack: F::unpack, ty: F::TY, offset: F::OFFSET, has_min: F::HAS_MIN }
    }

    /// Whole blocks to values; lengths are checked by the caller.
    #[inline(never)]
    pub(crate) fn dequantize(&self, bytes: &[u8], out: &mut [f32]) {
        for (block, out) in self.blocks(bytes).zip(out.as_chunks_mut::<LEN>().0) {
            for (i, out) in out.iter_mut().enumerate() {
                let j = i / GROUP_LEN;
                let q = f32::from(i16::from(block.u[i]) - i16::from(self.offset));
                *out = block.d * f32::from(block.scales[j]) * q;
                // Subtracting a zero minimum is not done: it is not there.
                if self.has_min {
                    *out -= block.dmin * f32::from(block.mins[j]);
                }
            }
        }
    }

    /// Does what [`unpack`](crate::unpack()) says.
    #[inline(never)]
    pub(crate) fn unpack(&self, bytes: &[u8], out: &mut [Group]) {
        for (block, groups) in self.blocks(bytes).zip(out.chunks_exact_mut(LEN / Group::LEN)) {
            let u = block.u.as_chunks::<{ Group::LEN }>().0;
            let (scales, mins) = (block.scales.as_chunks().0, block.mins.as_chunks().0);
            for (group, ((u, scales), mins)) in
                groups.iter_mut().zip(u.iter().zip(scales).zip(mins))
            {
                *group = Group {
                    quants: u.map(|u| u.wrapping_sub(self.offset) as i8),
                    scales: *scales,
                    mins: *mins,
                    d: [block.d; 2],
                    dmin: block.dmin,
                };
            }
        }
    }

    fn blocks(&self, bytes: &[u8]) -> impl Iterator<Item = Block> {
        bytes.chunks_exact(self.ty.block_bytes()).map(|bytes| (self.unpack)(bytes))
    }

    #[inline(never)]
    fn matmul(&self, mut problem: Problem<'_>) {
        let x = problem.x;
        let blocks = problem.cols / LEN;
        let (quants, _) = x.quants().as_chunks::<LEN>();
        let (sums, _) = x.sums().as_chunks::<SUMS_256>();
        for r in 0..problem.n_rows {
            let row = &problem.weights[r * problem.row_bytes..][..problem.row_bytes];
            for t in 0..x.rows() {
                problem.out.token(t)[r] = 0.0;
            }
            for (b, bytes) in row.chunks_exact(problem.block_bytes).enumerate() {
                let block = (self.unpack)(bytes);
                for t in 0..x.rows() {
                    let at = t * blocks + b;
                    let out = &mut problem.out.token(t)[r];
                    *out = self.add_block(*out, &block, &quants[at], x.scales()[at], &sums[at]);
                }
            }
        }
    }

    #[inline(always)]
    fn add_block(
        &self,
        acc: f32,
        w: &Block,
        x: &[i8; LEN],
        d_x: f32,
        sums: &[i32; SUMS_256],
    ) -> f32 {
        let (u, _) = w.u.as_chunks::<GROUP_LEN>();
        let (q, _) = x.as_chunks::<GROUP_LEN>();
        let (mut dot, mut min) = (0, 0);
        for j in 0..GROUPS {
            let products = u[j].iter().zip(&q[j]).map(|(u, q)| i32::from(*u) * i32::from(*q));
            let pair = sums[j / 2];
            let sum_x = i32::from(if j % 2 == 0 { pair as i16 } else { (pair >> 16) as i16 });
            dot +=
                i32::from(w.scales[j]) * (products.sum::<i32>() - i32::from(self.offset) * sum_x);
            min += i32::from(w.mins[j]) * sum_x;
        }
        let acc = acc + dot as f32 * (w.d * d_x);
        if self.has_min { acc - min as f32 * (w.dmin * d_x) } else { acc }
    }
}

fn matmul<F: Block256>(problem: Problem<'_>) {
    const { &Definition::of::<F>() }.matmul(problem);
}
