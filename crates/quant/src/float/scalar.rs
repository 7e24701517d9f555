//! The definition: each value widened to f32, products summed in as many lanes as the
//! architecture's vectors have, then the lanes.

use super::Element;
use crate::Kernel;
use crate::cpu::InstructionSet;
use crate::kernel::Problem;
use crate::simd::{FloatSimd, SUM_LANES, Scalar};

pub(super) const fn kernel<E: Element>() -> Kernel {
    Kernel::new(InstructionSet::Scalar, E::TY, matmul::<E>)
}

pub(crate) fn dequantize<E: Element>(bytes: &[u8], out: &mut [f32]) {
    for (bytes, out) in bytes.chunks_exact(E::BYTES).zip(out) {
        *out = E::read(bytes);
    }
}

fn matmul<E: Element>(mut problem: Problem<'_>) {
    let (x, cols) = (problem.x.values(), problem.cols);
    let mut row = vec![0.0; cols];
    for r in 0..problem.n_rows {
        let bytes = &problem.weights[r * problem.row_bytes..][..problem.row_bytes];
        dequantize::<E>(bytes, &mut row);
        for t in 0..problem.x.rows() {
            problem.out.token(t)[r] = dot(&row, &x[t * cols..][..cols]);
        }
    }
}

/// Column `k` belongs to lane `k % SUM_LANES`; what is left over is added at the end.
fn dot(w: &[f32], x: &[f32]) -> f32 {
    let ((w, rest_of_w), (x, rest_of_x)) = (w.as_chunks(), x.as_chunks());
    let mut sums = [0.0; SUM_LANES];
    for (w, x) in w.iter().zip(x) {
        sums = Scalar.fma_f32(*w, *x, sums);
    }
    let [sum, _] = Scalar.sum_rows(sums);
    sum + rest_of_w.iter().zip(rest_of_x).map(|(w, x)| w * x).sum::<f32>()
}
