//! Plain Rust in the place of vectors, with the very results of those that a CPU of the same
//! architecture may have.

use super::{FloatSimd, Job, SUM_LANES};
use crate::cpu::InstructionSet;

/// No instructions need be proved.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

type Lanes = [f32; SUM_LANES];

#[inline(always)]
fn each(f: impl FnMut(usize) -> f32) -> Lanes {
    std::array::from_fn(f)
}

/// The first so many bytes for each lane.
#[inline(always)]
fn lanes<const BYTES: usize>(bytes: &[u8]) -> &[[u8; BYTES]; SUM_LANES] {
    bytes.as_chunks().0.first_chunk().expect("a vector of bytes")
}

// SAFETY: every CPU runs plain Rust.
unsafe impl FloatSimd for Scalar {
    const SET: InstructionSet = InstructionSet::Scalar;
    const LANES: usize = SUM_LANES;
    const SUMS: usize = 6;
    const FLOAT_TILE_TOKENS: usize = 1;

    type F = Lanes;

    unsafe fn new_unchecked() -> Self {
        Self
    }

    #[inline(always)]
    fn run<J: Job<Self>>(self, job: J) -> J::Output {
        job.run(self)
    }

    #[inline(always)]
    unsafe fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn splat_f32(self, value: f32) -> Lanes {
        [value; SUM_LANES]
    }

    #[inline(always)]
    fn add_f32(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn sub_f32(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] - b[i])
    }

    #[inline(always)]
    fn mul_f32(self, a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn fma_f32(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        multiply_add(a, b, c)
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8]) -> Lanes {
        let lanes = lanes(bytes);
        each(|i| f32::from_le_bytes(lanes[i]))
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8]) -> Lanes {
        let lanes = lanes(bytes);
        each(|i| half::f16::from_le_bytes(lanes[i]).to_f32())
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8]) -> Lanes {
        let lanes = lanes(bytes);
        each(|i| half::bf16::from_le_bytes(lanes[i]).to_f32())
    }

    #[inline(always)]
    fn store_f32(self, a: Lanes, to: &mut [f32]) {
        to[..SUM_LANES].copy_from_slice(&a);
    }
}

/// `a * b + c`, rounded once. x86-64 has an instruction for it only beside AVX2, and where that is
/// missing the function of the C library is too slow for each product.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn multiply_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
    /// The bits that an f64 has more than an f32, and those of a number midway between two f32.
    const REST: u64 = (1 << 29) - 1;
    const MIDWAY: u64 = 1 << 28;
    let sums: [f64; SUM_LANES] = std::array::from_fn(|i| {
        // The product of two f32 is exact.
        f64::from(a[i]) * f64::from(b[i]) + f64::from(c[i])
    });
    // A sum rounded to f64 goes to the same f32 as the sum itself, unless it is midway between two
    // f32 and the sum itself is not. That of denormal numbers is elsewhere.
    let is_sure = |sum: f64| {
        sum.to_bits() & REST != MIDWAY && (sum.abs() >= f64::from(f32::MIN_POSITIVE) || sum == 0.0)
    };
    if sums.iter().fold(true, |all, sum| all & is_sure(*sum)) {
        return each(|i| sums[i] as f32);
    }
    each(|i| multiply_add_one(a[i], b[i], c[i]))
}

/// `a * b + c`, rounded once.
#[cfg(target_arch = "x86_64")]
#[cold]
#[inline(never)]
fn multiply_add_one(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    if !sum.is_finite() {
        return sum as f32;
    }
    // What rounding to f64 lost, exactly (Knuth, TAOCP volume 2, 4.2.2, theorem B).
    let c_in_sum = sum - product;
    let lost = (product - (sum - c_in_sum)) + (c - c_in_sum);
    // To the odd one of the two neighbours instead: it stays on its side of whatever lies midway
    // between two f32 (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums").
    let towards_zero = (lost > 0.0) != (sum > 0.0);
    let sum = match sum.to_bits() {
        bits if lost == 0.0 || bits & 1 == 1 => sum,
        bits if towards_zero => f64::from_bits(bits - 1),
        bits => f64::from_bits(bits + 1),
    };
    sum as f32
}

/// `a * b + c`, rounded once.
#[cfg(not(any(target_arch = "x86_64", target_family = "wasm")))]
#[inline(always)]
fn multiply_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
    each(|i| a[i].mul_add(b[i], c[i]))
}

/// `a * b + c`, rounded twice, as the vectors of a module without relaxed instructions do it.
#[cfg(target_family = "wasm")]
#[inline(always)]
fn multiply_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
    each(|i| a[i] * b[i] + c[i])
}
