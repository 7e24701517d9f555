//! Rows of floats in other forms.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rounds `x` to f16, ties to even.
///
/// # Panics
///
/// When the lengths differ.
pub fn to_f16(x: &[f32], y: &mut [f16]) {
    y.convert_from_f32_slice(x);
}
