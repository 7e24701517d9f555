//! Block formats of GGUF tensors: what their bytes mean, and dot products over them.
//!
//! Every format has one folder. Its `scalar.rs` is the definition: it unpacks
//! one block to small integers, scales and minimums. Everything else follows
//! from that by rules that a kind of formats shares:
//!
//! - [`block32`]: 32 values with one scale, and a minimum in some formats;
//! - [`block256`]: 256 values with integer scales per 16 of them: the K-quants,
//!   the ternary formats, and those with a [`codebook`];
//! - [`nvfp4`], a kind of its own;
//! - [`float`]: F32, F16 and BF16.
//!
//! `rows.rs` unpacks the same block for one row per vector lane, or, where values
//! come from large tables, as vectors along each row. It is written
//! once, over the instruction sets in [`simd`], so a new instruction set is one
//! file there and a new format one folder here.
//!
//! # Results do not depend on the batch
//!
//! The value for a weight row and an activation row is the same to the bit
//! however many rows and tokens share the call. On x86-64 and ARM it is also the
//! same at every [`Level`]. For the quantised formats sums inside a block are exact
//! integers, blocks are added in order, and no product is fused with a sum, so there
//! the architecture does not matter either. For the float formats it decides the
//! number of lanes that products are summed in, and in WebAssembly the engine decides
//! whether products are fused with sums.

#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "not every format has vector code on this architecture")
)]

mod activations;
mod block256;
mod block32;
mod codebook;
pub mod codebooks;
mod cpu;
mod error;
mod float;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod kernel;
mod mxfp4;
mod nvfp4;
mod packing;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod rows;
mod simd;
mod tq1_0;
mod tq2_0;
mod unpack;
pub mod vector;

use realm_gguf::TensorType;

pub use activations::{ActivationForm, ActivationRowsMut, ActivationView, Activations};
pub use cpu::{CPU_FEATURES_VARIABLE, Level};
pub use error::Error;
pub use float::Element;
pub use kernel::{Kernel, OutputView};
pub use simd::{FloatJob, FloatSimd};
pub use unpack::{Group, dequantize, is_supported, supported, unpack};

/// One compute format: what is known about a tensor type, and its kernels.
#[derive(Debug)]
pub struct Format {
    /// The GGUF type.
    pub ty: TensorType,
    /// The form of the activations its kernels multiply with.
    pub activation: ActivationForm,
    /// Fastest first; the last entry runs everywhere.
    kernels: &'static [Kernel],
    /// Kernels for interleaved rows, fastest first.
    packed_kernels: &'static [Kernel],
}

impl Format {
    const fn new(ty: TensorType, activation: ActivationForm, kernels: &'static [Kernel]) -> Self {
        Self { ty, activation, kernels, packed_kernels: &[] }
    }

    /// The same with kernels for interleaved rows.
    const fn with_packed(mut self, packed_kernels: &'static [Kernel]) -> Self {
        self.packed_kernels = packed_kernels;
        self
    }

    /// The fastest kernel at a level.
    pub fn kernel(&self, level: Level) -> &'static Kernel {
        self.kernels
            .iter()
            .find(|kernel| level.allows(kernel.set))
            .expect("the last kernel of every format is scalar and always available")
    }

    /// The kernel for rows interleaved by [`Kernel::pack`] that gives the very results of
    /// [`kernel`](Self::kernel); `None` for formats and levels that have none.
    pub fn packed_kernel(&self, level: Level) -> Option<&'static Kernel> {
        self.packed_kernels.iter().find(|kernel| level.allows(kernel.set))
    }

    /// Every kernel for interleaved rows that this CPU can run, fastest first.
    pub fn packed_kernels(&self) -> impl Iterator<Item = &'static Kernel> + use<> {
        self.packed_kernels.iter().filter(|kernel| kernel.set.is_available())
    }

    /// Every kernel this CPU can run, fastest first, the scalar definition last.
    pub fn kernels(&self) -> impl Iterator<Item = &'static Kernel> + use<> {
        self.kernels.iter().filter(|kernel| kernel.set.is_available())
    }
}

static FORMATS: [&Format; 28] = [
    &float::F32,
    &float::F16,
    &float::BF16,
    &q4_0::FORMAT,
    &q4_1::FORMAT,
    &q5_0::FORMAT,
    &q5_1::FORMAT,
    &q8_0::FORMAT,
    &q2_k::FORMAT,
    &q3_k::FORMAT,
    &q4_k::FORMAT,
    &q5_k::FORMAT,
    &q6_k::FORMAT,
    &iq1_s::FORMAT,
    &iq1_m::FORMAT,
    &iq2_xxs::FORMAT,
    &iq2_xs::FORMAT,
    &iq2_s::FORMAT,
    &iq3_xxs::FORMAT,
    &iq3_s::FORMAT,
    &iq4_nl::FORMAT,
    &iq4_xs::FORMAT,
    &tq1_0::FORMAT,
    &tq2_0::FORMAT,
    &mxfp4::FORMAT,
    &nvfp4::FORMAT,
    &q1_0::FORMAT,
    &q2_0::FORMAT,
];

/// The compute format of a tensor type; `None` if there is none.
pub fn format(ty: TensorType) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|format| format.ty == ty)
}
