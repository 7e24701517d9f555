//! How far two arrays of values are apart.

use std::fmt;

/// What [`compare`] found.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// Largest absolute difference; infinite when a value is not finite.
    pub max_abs: f32,
    /// Where it is.
    pub at: usize,
    /// Root of the mean squared difference.
    pub rms: f32,
    /// Root of the mean square of the wanted values: what `rms` is measured by.
    pub rms_wanted: f32,
}

impl Difference {
    /// `rms` over `rms_wanted`.
    pub fn relative(&self) -> f32 {
        self.rms / self.rms_wanted
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { max_abs, at, rms, rms_wanted } = self;
        write!(f, "max {max_abs:.3e} at {at}, rms {rms:.3e} of {rms_wanted:.3e}")
    }
}

/// Compares `got` with `wanted`, value by value.
///
/// Panics when they are not of one length or empty.
pub fn compare(got: &[f32], wanted: &[f32]) -> Difference {
    assert_eq!(got.len(), wanted.len(), "arrays of one length");
    assert!(!wanted.is_empty(), "something to compare");
    let (mut max_abs, mut at) = (0.0, 0);
    let (mut squares, mut wanted_squares) = (0.0, 0.0);
    for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let off = (f64::from(*got) - f64::from(*wanted)).abs();
        let off = if off.is_finite() { off } else { f64::INFINITY };
        if off > max_abs {
            (max_abs, at) = (off, index);
        }
        squares += off * off;
        wanted_squares += f64::from(*wanted) * f64::from(*wanted);
    }
    let rms = |squares: f64| (squares / wanted.len() as f64).sqrt() as f32;
    Difference { max_abs: max_abs as f32, at, rms: rms(squares), rms_wanted: rms(wanted_squares) }
}

/// Panics unless the largest difference is within `tolerance`, saying what was compared.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], wanted: &[f32], tolerance: f32) {
    let difference = compare(got, wanted);
    assert!(difference.max_abs <= tolerance, "{what}: {difference}, allowed {tolerance:.1e}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_difference_is_found_and_a_nan_is_never_close() {
        let difference = compare(&[1.0, 2.0, 3.5], &[1.0, 2.25, 3.0]);
        assert_eq!((difference.max_abs, difference.at), (0.5, 2));
        assert_eq!(compare(&[f32::NAN], &[0.0]).max_abs, f32::INFINITY);
    }
}
