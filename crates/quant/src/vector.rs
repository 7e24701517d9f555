//! Products of float vectors, for attention.
//!
//! Queries and sums are f32; keys and values are f32 or f16. The instruction
//! set is chosen once, and the result depends on nothing but the inputs and it.

use half::f16;

/// `sum of a[i] * b[i]`.
///
/// # Panics
///
/// When the lengths differ.
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths of a dot product");
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `sum of a[i] * b[i]`, `b` in f16.
///
/// # Panics
///
/// When the lengths differ.
pub fn dot_f16(a: &[f32], b: &[f16]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths of a dot product");
    a.iter().zip(b).map(|(a, b)| a * b.to_f32()).sum()
}

/// `y[i] += scale * x[i]`.
///
/// # Panics
///
/// When the lengths differ.
pub fn axpy_f32(scale: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of a vector sum");
    y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x);
}

/// `y[i] += scale * x[i]`, `x` in f16.
///
/// # Panics
///
/// When the lengths differ.
pub fn axpy_f16(scale: f32, x: &[f16], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of a vector sum");
    y.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x.to_f32());
}

/// Rounds `x` to f16, ties to even.
///
/// # Panics
///
/// When the lengths differ.
pub fn to_f16(x: &[f32], y: &mut [f16]) {
    assert_eq!(x.len(), y.len(), "lengths of a conversion");
    y.iter_mut().zip(x).for_each(|(y, x)| *y = f16::from_f32(*x));
}
