//! Quantised blocks: whatever the bytes are, they mean some weights and are no error.

use realm_gguf::TensorType;
use realm_quant::{Activations, Level, dequantize, format, supported};

/// Weights are cut off here: one row is as good as a thousand.
const MAX_BLOCKS: usize = 64;

/// Unpacks the bytes as blocks of the format that the first one names, and
/// multiplies with them on every kernel.
///
/// For quantised formats all kernels must agree to the bit.
pub fn blocks(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let types: Vec<TensorType> = supported().collect();
    let ty = types[usize::from(*choice) % types.len()];
    let format = format(ty).expect("a supported type has a format");
    // Whole blocks of the weights and of the activations.
    let cols_step = ty.block_len().max(format.activation.block_len());
    let step_bytes = cols_step / ty.block_len() * ty.block_bytes();
    let n_steps = (bytes.len() / step_bytes).min(MAX_BLOCKS);
    let weights = &bytes[..n_steps * step_bytes];

    let mut values = vec![0.0; n_steps * cols_step];
    dequantize(ty, weights, &mut values).expect("whole blocks can be unpacked");

    // Once as one long row, once as rows of one block.
    for (n_rows, cols) in [(1, n_steps * cols_step), (n_steps, cols_step)] {
        let mut x = Activations::new(Level::best());
        x.reset(format.activation, 2, cols).expect("whole blocks of activations");
        for row in 0..2 {
            let input: Vec<f32> = (0..cols).map(|i| ((i * 7 + row) % 19) as f32 - 9.0).collect();
            x.quantize_row(row, &input).expect("a row of the right length");
        }
        let mut want: Option<Vec<f32>> = None;
        let mut kernels: Vec<_> = format.kernels().collect();
        kernels.reverse();
        for kernel in kernels {
            let mut got = vec![0.0; 2 * n_rows];
            kernel
                .matmul(weights, n_rows, cols, x.view(0..2), &mut got)
                .expect("lengths that fit together");
            let Some(want) = &want else {
                want = Some(got);
                continue;
            };
            let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(
                want.iter().zip(&got).all(|(a, b)| same(a, b)),
                "{ty} on {}: {got:?}, scalar: {want:?}",
                kernel.name
            );
        }
    }
}
