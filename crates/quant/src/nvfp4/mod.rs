//! NVFP4 weights: blocks of 64 values with a scale per 16 of them, 36 bytes.
//!
//! `w[i] = scale[i / 16] * (u[i] - 16)`: floats of 4 bits (E2M1), doubled to be
//! integers as in MXFP4, with floats of 7 bits (UE4M3) as scales, halved.
//!
//! | byte | content |
//! |---|---|
//! | 0 | `2 * scale`, 4 bytes; 0x7f, not a number, stands for 0, and bit 7 for nothing |
//! | 4 | four runs of 8 bytes, one per 16 values: low nibbles are the first 8 floats, high nibbles the others |
//!
//! Layout source: `block_nvfp4` in ggml `src/ggml-common.h`; the scales'
//! `ggml_ue4m3_to_fp32` in `src/ggml-impl.h`.
//!
//! No other kind of formats has two scales in 32 values, so the dot product is here: of 32
//! values with activations `d_x * q[i]` it is
//!
//! ```text
//! (scale[0] * sum((u[i] - 16) * q[i]) + scale[1] * sum((u[i] - 16) * q[i])) * d_x
//! ```
//!
//! with both sums exact in i32. Halves of a block are added one after another.
//!
//! `scalar.rs` is the definition, `rows.rs` the same for one row per lane.

pub(crate) mod rows;
mod scalar;

use realm_gguf::TensorType;

use crate::cpu::InstructionSet;
use crate::simd::for_each_lean;
use crate::{ActivationForm, Format, Kernel};
pub(crate) use scalar::{dequantize, unpack_groups as unpack};

const TY: TensorType = TensorType::NVFP4;
/// Values per block of activations; weights are unpacked as many at a time.
const LEN: usize = 32;
/// Such parts in a block of weights.
const PARTS: usize = 2;
/// Values that share a scale.
const GROUP_LEN: usize = 16;
/// Byte of a block where the values begin.
const VALUES_AT: usize = 4;
/// Bytes of the values of one part.
const PART_BYTES: usize = 16;

/// What a scale's bits, read as an f32, are to be multiplied with: the bias of the
/// exponent is 7 instead of 127, and half of the scale is wanted.
const UNBIAS: f32 = f32::from_bits((127 + 119) << 23);

/// Fastest first; the last entry runs everywhere.
static KERNELS: [Kernel; InstructionSet::LEAN_COUNT] = for_each_lean!(
    S => crate::rows::kernel::<S, rows::FormatRows>(TY),
    Kernel::new(InstructionSet::Scalar, TY, scalar::matmul)
);

pub(crate) static FORMAT: Format = Format::new(TY, ActivationForm::Q8Block32, &KERNELS);
