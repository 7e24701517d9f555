//! Activations: rounding, sums, and rows filled side by side.

use proptest::prelude::*;
use realm_quant::{ActivationForm, Activations, Error, Level};

/// A row as it is after rounding.
fn round(level: Level, form: ActivationForm, values: &[f32]) -> Vec<f32> {
    let mut x = Activations::new(level);
    x.reset(form, 1, values.len()).unwrap();
    x.quantize_row(0, values).unwrap();
    x.view(0..1).dequantize_row(0)
}

proptest! {
    #[test]
    fn rounding_is_off_by_half_a_step_at_most(
        values in prop::collection::vec(-1e3f32..1e3, 512), exponent in -30i32..30,
    ) {
        let values: Vec<f32> = values.iter().map(|v| v * (exponent as f32).exp2()).collect();
        for form in [ActivationForm::Q8Block32, ActivationForm::Q8Block256] {
            let rounded = round(Level::SCALAR, form, &values);
            for level in Level::available() {
                prop_assert!(round(level, form, &values) == rounded, "{level}");
            }
            let blocks = values.chunks(form.block_len()).zip(rounded.chunks(form.block_len()));
            for (values, rounded) in blocks {
                let step = values.iter().fold(0f32, |max, v| max.max(v.abs())) / 127.0;
                for (value, rounded) in values.iter().zip(rounded) {
                    let error = (value - rounded).abs();
                    // A value of up to 127 steps is itself off by some 1e-5 of one.
                    prop_assert!(error <= step * 0.5001, "{value} became {rounded}");
                }
            }
        }
    }
}

#[test]
fn ties_are_rounded_to_even_at_every_level() {
    let mut values = [0.0; 32];
    values[..6].copy_from_slice(&[127.0, 0.5, 1.5, 2.5, -0.5, -1.5]);
    for level in Level::available() {
        let rounded = round(level, ActivationForm::Q8Block32, &values);
        assert_eq!(rounded[..6], [127.0, 0.0, 2.0, 2.0, 0.0, -2.0], "{level}");
    }
}

#[test]
fn values_too_small_for_a_scale_become_zero() {
    for level in Level::available() {
        assert_eq!(round(level, ActivationForm::Q8Block256, &[1e-40; 256]), [0.0; 256], "{level}");
    }
}

#[cfg(not(target_family = "wasm"))] // no threads
#[test]
fn rows_filled_by_several_threads_are_those_filled_by_one() {
    let values: Vec<f32> = (0..7 * 256).map(|i| (i * 31 % 77) as f32 - 38.0).collect();
    for form in [ActivationForm::F32, ActivationForm::Q8Block32, ActivationForm::Q8Block256] {
        let (mut alone, mut shared) =
            (Activations::new(Level::best()), Activations::new(Level::best()));
        alone.reset(form, 7, 256).unwrap();
        shared.reset(form, 7, 256).unwrap();
        for (row, values) in values.chunks_exact(256).enumerate() {
            alone.quantize_row(row, values).unwrap();
        }
        let (mut first, mut second) = shared.rows_mut().split_at(3);
        let (low, high) = values.split_at(3 * 256);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (row, values) in low.chunks_exact(256).enumerate() {
                    first.quantize_row(row, values).unwrap();
                }
            });
            for (row, values) in high.chunks_exact(256).enumerate() {
                second.quantize_row(row, values).unwrap();
            }
        });
        for row in 0..7 {
            let (alone, shared) = (alone.view(0..7), shared.view(0..7));
            assert_eq!(alone.dequantize_row(row), shared.dequantize_row(row), "{form:?}");
        }
    }
}

#[test]
fn rows_that_are_not_whole_blocks_are_refused() {
    let mut x = Activations::new(Level::best());
    let error = x.reset(ActivationForm::Q8Block256, 1, 96).unwrap_err();
    assert!(matches!(error, Error::Blocks { cols: 96, block_len: 256, .. }));
    let error = x.reset(ActivationForm::F32, usize::MAX / 2, 8).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }));
    x.reset(ActivationForm::Q8Block32, 1, 96).unwrap();
    let error = x.quantize_row(0, &[0.0; 64]).unwrap_err();
    assert!(matches!(error, Error::Length { expected: 96, found: 64, .. }));
}
