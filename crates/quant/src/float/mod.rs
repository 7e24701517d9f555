//! F32, F16 and BF16 weights: values of 4, 2 and 2 bytes, little-endian.
//!
//! They meet f32 activations, and products are summed in f32: in lanes, whose number the
//! architecture decides, then the lanes. On x86-64 and ARM every instruction set gives the same
//! bits; WebAssembly rounds each product where the engine does not fuse it with the sum.

mod rows;
mod scalar;

use half::{bf16, f16};
use realm_gguf::TensorType;

use crate::cpu::InstructionSet;
use crate::simd::{FloatSimd, for_each_float_simd};
use crate::{ActivationForm, Format, Kernel};
pub(crate) use scalar::dequantize;

/// How one value is stored, little-endian.
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The GGUF type.
    const TY: TensorType;
    /// Bytes of a value.
    const BYTES: usize;

    /// The value in the first `BYTES` bytes.
    fn read(bytes: &[u8]) -> f32;

    /// The first `S::LANES` values of `bytes`. Implementations are `#[inline(always)]`.
    fn load<S: FloatSimd>(s: S, bytes: &[u8]) -> S::F;

    /// The first `S::LANES / S::ROWS` values of each row. Implementations are
    /// `#[inline(always)]`.
    fn load_rows<S: FloatSimd>(s: S, rows: [&[u8]; 2]) -> S::F;
}

macro_rules! element {
    ($value:ty, $ty:expr, $load:ident, $load_rows:ident, |$bytes:ident| $read:expr) => {
        impl Element for $value {
            const TY: TensorType = $ty;
            const BYTES: usize = size_of::<Self>();

            #[inline(always)]
            fn read($bytes: &[u8]) -> f32 {
                $read
            }

            #[inline(always)]
            fn load<S: FloatSimd>(s: S, bytes: &[u8]) -> S::F {
                s.$load(bytes)
            }

            #[inline(always)]
            fn load_rows<S: FloatSimd>(s: S, rows: [&[u8]; 2]) -> S::F {
                s.$load_rows(rows)
            }
        }
    };
}

element!(f32, TensorType::F32, load_f32, load_rows_f32, |bytes| {
    Self::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
});
element!(f16, TensorType::F16, load_f16, load_rows_f16, |bytes| {
    Self::from_le_bytes([bytes[0], bytes[1]]).to_f32()
});
element!(bf16, TensorType::BF16, load_bf16, load_rows_bf16, |bytes| {
    Self::from_le_bytes([bytes[0], bytes[1]]).to_f32()
});

const fn kernels<E: Element>() -> [Kernel; InstructionSet::FLOAT_COUNT] {
    for_each_float_simd!(S => rows::kernel::<S, E>(), scalar::kernel::<E>())
}

static F32_KERNELS: [Kernel; InstructionSet::FLOAT_COUNT] = kernels::<f32>();
static F16_KERNELS: [Kernel; InstructionSet::FLOAT_COUNT] = kernels::<f16>();
static BF16_KERNELS: [Kernel; InstructionSet::FLOAT_COUNT] = kernels::<bf16>();

const fn format<E: Element>(kernels: &'static [Kernel]) -> Format {
    Format::new(E::TY, ActivationForm::F32, kernels)
}

pub(crate) static F32: Format = format::<f32>(&F32_KERNELS);
pub(crate) static F16: Format = format::<f16>(&F16_KERNELS);
pub(crate) static BF16: Format = format::<bf16>(&BF16_KERNELS);
