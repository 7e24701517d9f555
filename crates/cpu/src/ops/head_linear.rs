//! A matrix of its own for each head.

use realm_ir::{BatchView, HeadLinear, Result};
use realm_quant::{Activations, OutputView};

use crate::parts::Parts;
use crate::pool::Team;
use crate::state::State;
use crate::weight::WeightHandle;

/// Multiplies the first part of every head, copies the rest. A task is one head.
///
/// # Errors
/// `ShapeMismatch` when weights and activations do not fit, which the check of the program rules out.
pub(crate) fn head_linear(
    op: &HeadLinear,
    weight: &WeightHandle,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) -> Result<()> {
    let n_rows = state.slots.n_rows(op.input, batch);
    let (in_len, out_len) = (op.in_width + op.rest, op.out_width + op.rest);
    let (in_stride, out_stride) = (state.slots.width(op.input), state.slots.width(op.out));
    let (out, others) = state.slots.split(op.out);
    let (parts, input) = (Parts::new(out), others.get(op.input));
    team.try_for_each(op.n_heads, &|_, head| {
        let head_of_row = |row: usize| &input[row * in_stride + head * in_len..][..in_len];
        let mut product = vec![0.0; n_rows * op.out_width];
        multiply(op, weight, head, n_rows, &head_of_row, &mut product)
            .map_err(|error| weight.misfit(error))?;
        for row in 0..n_rows {
            let first = row * out_stride + head * out_len;
            // SAFETY: each head of a row belongs to one task.
            let target = unsafe { parts.part(first..first + out_len) };
            let (multiplied, rest) = target.split_at_mut(op.out_width);
            multiplied.copy_from_slice(&product[row * op.out_width..][..op.out_width]);
            rest.copy_from_slice(&head_of_row(row)[op.in_width..]);
        }
        Ok(())
    })
}

/// `product[row][i]` for one head.
fn multiply<'a>(
    op: &HeadLinear,
    weight: &WeightHandle,
    head: usize,
    n_rows: usize,
    head_of_row: &impl Fn(usize) -> &'a [f32],
    product: &mut [f32],
) -> std::result::Result<(), realm_quant::Error> {
    let mut activations = Activations::new(weight.level());
    activations.reset(weight.format().activation, n_rows, op.in_width)?;
    for row in 0..n_rows {
        activations.quantize_row(row, &head_of_row(row)[..op.in_width])?;
    }
    let out = OutputView::new(product, n_rows, op.out_width)?;
    weight.matmul(head * op.out_width, activations.view(0..n_rows), out)
}
