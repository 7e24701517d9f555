//! The definition: each value widened to f32, products summed in order.

use super::Element;
use crate::Kernel;
use crate::cpu::Level;
use crate::kernel::Problem;

pub(super) const fn kernel<E: Element>() -> Kernel {
    Kernel::new(Level::Scalar, E::TY, matmul::<E>)
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
            let x = &x[t * cols..][..cols];
            problem.out.token(t)[r] = row.iter().zip(x).map(|(w, x)| w * x).sum();
        }
    }
}
