//! Products of float vectors, for attention.
//!
//! Queries and sums are f32; keys and values are f32 or f16. The instruction
//! set is chosen once, and the result depends on nothing but the inputs and it.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::cpu;
use crate::float::Element;
use crate::simd::{Job, Simd};

/// `sum of a[i] * b[i]`.
///
/// # Panics
///
/// When the lengths differ.
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b)
}

/// `sum of a[i] * b[i]`, `b` in f16.
///
/// # Panics
///
/// When the lengths differ.
pub fn dot_f16(a: &[f32], b: &[f16]) -> f32 {
    dot(a, b)
}

/// `y[i] += scale * x[i]`.
///
/// # Panics
///
/// When the lengths differ.
pub fn axpy_f32(scale: f32, x: &[f32], y: &mut [f32]) {
    axpy(scale, x, y);
}

/// `y[i] += scale * x[i]`, `x` in f16.
///
/// # Panics
///
/// When the lengths differ.
pub fn axpy_f16(scale: f32, x: &[f16], y: &mut [f32]) {
    axpy(scale, x, y);
}

/// Eight f16 numbers as f32, in two vectors.
#[cfg(target_feature = "simd128")]
pub use crate::simd::eight_f16;
/// `a * b + c` of f32 vectors, rounded once where the engine has an instruction for it.
#[cfg(target_feature = "simd128")]
pub use crate::simd::multiply_add;

/// Rounds `x` to f16, ties to even.
///
/// # Panics
///
/// When the lengths differ.
pub fn to_f16(x: &[f32], y: &mut [f16]) {
    y.convert_from_f32_slice(x);
}

/// Runs a job on the best instruction set, or plain Rust in its place.
macro_rules! on_best {
    ($job:expr, $plain:expr) => {
        match cpu::best() {
            cpu::Level::Scalar => $plain,
            #[cfg(target_arch = "x86_64")]
            cpu::Level::Avx2 | cpu::Level::AvxVnni => {
                // SAFETY: `best` returns a level only when the CPU has it.
                unsafe { <crate::simd::Avx2>::new() }.run($job)
            }
            #[cfg(target_arch = "x86_64")]
            cpu::Level::Avx512Vnni | cpu::Level::Avx512Vbmi => {
                // SAFETY: `best` returns a level only when the CPU has it.
                unsafe { <crate::simd::Avx512>::new() }.run($job)
            }
            #[cfg(target_arch = "aarch64")]
            cpu::Level::Neon | cpu::Level::DotProd | cpu::Level::I8mm => {
                // SAFETY: `best` returns a level only when the CPU has it; all have these.
                unsafe { <crate::simd::Neon>::new() }.run($job)
            }
            #[cfg(target_feature = "simd128")]
            // SAFETY: the module was compiled for it.
            cpu::Level::Simd128 => unsafe { <crate::simd::Simd128>::new() }.run($job),
        }
    };
}

fn dot<E: Element>(a: &[f32], b: &[E]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths of a dot product");
    on_best!(Dot { a, b }, a.iter().zip(b).map(|(a, b)| a * b.value()).sum())
}

fn axpy<E: Element>(scale: f32, x: &[E], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of a vector sum");
    let plain = |y: &mut [f32]| y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x.value());
    on_best!(Axpy { scale, x, y }, plain(y));
}

struct Dot<'a, E> {
    a: &'a [f32],
    b: &'a [E],
}

/// Sums kept apart so that additions do not wait for one another.
const CHAINS: usize = 4;

impl<S: Simd, E: Element> Job<S> for Dot<'_, E> {
    type Output = f32;

    #[inline(always)]
    fn run(self, s: S) -> f32 {
        let Self { a, b } = self;
        let mut sums = [s.splat_f32(0.0); CHAINS];
        let step = CHAINS * S::LANES;
        let chained = a.len() / step * step;
        for k in (0..chained).step_by(step) {
            for (i, sum) in sums.iter_mut().enumerate() {
                let k = k + i * S::LANES;
                *sum = s.fma_f32(load(s, &a[k..]), load(s, &b[k..]), *sum);
            }
        }
        let whole = a.len() / S::LANES * S::LANES;
        for k in (chained..whole).step_by(S::LANES) {
            sums[0] = s.fma_f32(load(s, &a[k..]), load(s, &b[k..]), sums[0]);
        }
        let [a0, a1, a2, a3] = sums;
        let sum = s.sum_f32(s.add_f32(s.add_f32(a0, a1), s.add_f32(a2, a3)));
        sum + (whole..a.len()).map(|k| a[k] * b[k].value()).sum::<f32>()
    }
}

struct Axpy<'a, E> {
    scale: f32,
    x: &'a [E],
    y: &'a mut [f32],
}

impl<S: Simd, E: Element> Job<S> for Axpy<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self, s: S) {
        let Self { scale, x, y } = self;
        let whole = y.len() / S::LANES * S::LANES;
        let scales = s.splat_f32(scale);
        for k in (0..whole).step_by(S::LANES) {
            let sum = s.fma_f32(scales, load(s, &x[k..]), load(s, &y[k..]));
            s.store_f32(sum, &mut y[k..]);
        }
        for k in whole..y.len() {
            y[k] += scale * x[k].value();
        }
    }
}

#[inline(always)]
fn load<S: Simd, E: Element>(s: S, values: &[E]) -> S::F {
    E::load(s, bytemuck::cast_slice(values))
}
