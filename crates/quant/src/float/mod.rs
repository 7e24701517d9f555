//! F32, F16 and BF16 weights: values of 4, 2 and 2 bytes, little-endian.
//!
//! They meet f32 activations, and products are summed in f32. The instruction
//! set decides the order of summation, the same for every row and token.

mod rows;
mod scalar;

use half::{bf16, f16};
use realm_gguf::TensorType;

use crate::cpu::Level;
use crate::simd::{Simd, for_each_simd};
use crate::{ActivationForm, Format, Kernel};
pub(crate) use scalar::dequantize;

/// How one value is stored.
pub(crate) trait Element: bytemuck::Pod {
    const TY: TensorType;
    const BYTES: usize;

    /// The value in the first `BYTES` bytes.
    fn read(bytes: &[u8]) -> f32;

    /// This value.
    fn value(self) -> f32;

    /// The first `S::LANES` values of `bytes`. Implementations are `#[inline(always)]`.
    fn load<S: Simd>(s: S, bytes: &[u8]) -> S::F;
}

impl Element for f32 {
    const TY: TensorType = TensorType::F32;
    const BYTES: usize = 4;

    fn read(bytes: &[u8]) -> f32 {
        Self::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn value(self) -> f32 {
        self
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8]) -> S::F {
        s.load_f32(bytes)
    }
}

impl Element for f16 {
    const TY: TensorType = TensorType::F16;
    const BYTES: usize = 2;

    fn read(bytes: &[u8]) -> f32 {
        Self::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    fn value(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8]) -> S::F {
        s.load_f16(bytes)
    }
}

impl Element for bf16 {
    const TY: TensorType = TensorType::BF16;
    const BYTES: usize = 2;

    fn read(bytes: &[u8]) -> f32 {
        Self::from_le_bytes([bytes[0], bytes[1]]).to_f32()
    }

    fn value(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8]) -> S::F {
        s.load_bf16(bytes)
    }
}

const fn kernels<E: Element>() -> [Kernel; Level::COUNT] {
    for_each_simd!(S<false> => rows::kernel::<S, E>(), scalar::kernel::<E>())
}

static F32_KERNELS: [Kernel; Level::COUNT] = kernels::<f32>();
static F16_KERNELS: [Kernel; Level::COUNT] = kernels::<f16>();
static BF16_KERNELS: [Kernel; Level::COUNT] = kernels::<bf16>();

const fn format<E: Element>(kernels: &'static [Kernel]) -> Format {
    Format::new(E::TY, ActivationForm::F32, kernels)
}

pub(crate) static F32: Format = format::<f32>(&F32_KERNELS);
pub(crate) static F16: Format = format::<f16>(&F16_KERNELS);
pub(crate) static BF16: Format = format::<bf16>(&BF16_KERNELS);
