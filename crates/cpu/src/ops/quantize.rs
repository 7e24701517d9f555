//! Rows made and brought into the forms that weights multiply with.

use std::sync::Mutex;

use realm_quant::{ActivationRowsMut, Activations};

use super::row::task_rows;
use crate::parts::Parts;
use crate::pool::Team;

/// Calls `fill(row, values)` for each row of `values` and brings the first `width` values of
/// it into every form. Rows are `stride` apart; a task is some of them.
pub(crate) fn quantize_rows(
    activations: &mut [Activations],
    values: &mut [f32],
    (n_rows, width, stride): (usize, usize, usize),
    team: &Team<'_>,
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> std::result::Result<(), realm_quant::Error> {
    let per_task = n_rows.div_ceil(team.n_workers()).max(1);
    let targets = split_rows(activations, n_rows, per_task);
    let parts = Parts::new(values);
    team.try_for_each(targets.len(), &|_, task| {
        let mut target = targets[task].lock().expect("each task locks its own target once");
        for (local, row) in task_rows(task, per_task, n_rows).enumerate() {
            // SAFETY: each row belongs to one task.
            let values = unsafe { parts.part(row * stride..(row + 1) * stride) };
            fill(row, values);
            for rows in target.iter_mut() {
                rows.quantize_row(local, &values[..width])?;
            }
        }
        Ok(())
    })
}

/// For each task, its rows of every form.
fn split_rows(
    activations: &mut [Activations],
    n_rows: usize,
    per_task: usize,
) -> Vec<Mutex<Vec<ActivationRowsMut<'_>>>> {
    let n_tasks = n_rows.div_ceil(per_task);
    let mut targets: Vec<Vec<_>> = (0..n_tasks).map(|_| Vec::new()).collect();
    for form in activations {
        let mut rest = form.rows_mut();
        for target in &mut targets {
            let n = per_task.min(rest.rows());
            let (own, others) = rest.split_at(n);
            target.push(own);
            rest = others;
        }
    }
    targets.into_iter().map(Mutex::new).collect()
}
