//! Which kernels a device is given: by what it offers and a short benchmark.

use realm_gguf::TensorType;
use realm_ir::{Error, Result};
use web_time::{Duration, Instant};

use super::check::Pending;
use super::sample::Sample;
use super::{Arithmetic, Kernel, Places, Work};
use crate::NAME;
use crate::gpu::Gpu;
use crate::signal::Signal;
use crate::weight::format;

/// The kernels that products prefer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Of few rows: while generating.
    pub vector: Arithmetic,
    /// Of many rows: while reading a prompt.
    pub matrix: Arithmetic,
    /// Sums over threads go over subgroups where there are few rows.
    pub subgroups: bool,
}

impl Default for Tuning {
    /// What runs everywhere, and all that software adapters are given.
    fn default() -> Self {
        Tuning { vector: Arithmetic::F32, matrix: Arithmetic::F32, subgroups: false }
    }
}

/// What a candidate must take at most, in parts of the time of the one before it: others give
/// up accuracy or depend on more of the driver.
const WORTH_IT: f64 = 0.9;

/// Dispatches that are timed together, and how often.
const N_DISPATCHES: usize = 8;
const N_RUNS: usize = 3;

/// The fastest kernels among those that the device offers and computes rightly.
///
/// # Errors
/// When the device fails, or computes wrongly what runs everywhere.
pub(crate) async fn fastest(gpu: &Gpu) -> Result<Tuning> {
    let mut tuning = Tuning::default();
    if gpu.adapter.software {
        return Ok(tuning);
    }
    let arithmetics = [Arithmetic::F32, Arithmetic::F16, Arithmetic::Int8];
    let vectors = arithmetics.iter().flat_map(|arithmetic| {
        [false, true].map(|by_subgroup| kernel(Work::Vector(1), *arithmetic, by_subgroup))
    });
    // Not in the caches of most devices, as the weights of a model are not.
    let vector = best(gpu, vectors, [2048, 16_384, 1]).await?;
    (tuning.vector, tuning.subgroups) = (vector.arithmetic, vector.by_subgroup);
    let matrices = arithmetics.map(|arithmetic| kernel(Work::Matrix(64), arithmetic, false));
    tuning.matrix = best(gpu, matrices, [2048, 2048, 256]).await?.arithmetic;
    tracing::info!(?tuning, "chose kernels");
    Ok(tuning)
}

/// The most common format stands for all.
fn kernel(work: Work, arithmetic: Arithmetic, by_subgroup: bool) -> Kernel {
    let format = format(TensorType::Q4_K).expect("a type of the table");
    Kernel { format, places: Places::Dense, work, arithmetic, by_subgroup, any_width: false }
}

/// The fastest of `kernels`, of which the first runs everywhere, by a product of so many values
/// per row, columns and rows.
async fn best(
    gpu: &Gpu,
    kernels: impl IntoIterator<Item = Kernel>,
    [width, n_columns, n_rows]: [usize; 3],
) -> Result<Kernel> {
    let mut best: Option<(Kernel, Duration)> = None;
    for kernel in kernels {
        if !offers(gpu, kernel).await? {
            continue;
        }
        if let Some(pending) = Pending::ask(gpu, [kernel])? {
            match (pending.look(gpu).await, &best) {
                (Ok(()), _) => {}
                (Err(error), None) => return Err(error),
                (Err(error), Some(_)) => {
                    gpu.check()?;
                    tracing::warn!(%error, "left out");
                    continue;
                }
            }
        }
        let sample = Sample::unanswered(gpu, kernel, width, n_columns, n_rows)?;
        let time = time(gpu, &sample).await?;
        tracing::debug!(%kernel, ?time, "timed");
        if best.is_none_or(|(_, best)| time.as_secs_f64() < WORTH_IT * best.as_secs_f64()) {
            best = Some((kernel, time));
        }
    }
    let nothing = || Error::Unavailable { backend: NAME, reason: "no kernel runs".to_owned() };
    best.map(|(kernel, _)| kernel).ok_or_else(nothing)
}

/// Whether the device makes a pipeline of a kernel.
async fn offers(gpu: &Gpu, kernel: Kernel) -> Result<bool> {
    let features = gpu.device.features();
    if kernel.arithmetic == Arithmetic::F16 && !features.contains(wgpu::Features::SHADER_F16)
        || kernel.by_subgroup && !features.contains(wgpu::Features::SUBGROUP)
    {
        return Ok(false);
    }
    // Whether integer products are offered, only making the pipeline tells everywhere.
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    gpu.products.pipeline(gpu, kernel);
    let refused = scope.pop().await;
    gpu.check()?;
    Ok(refused.is_none())
}

/// The shortest of some runs, after one that is not counted.
async fn time(gpu: &Gpu, sample: &Sample) -> Result<Duration> {
    let mut shortest = Duration::MAX;
    for run in 0..=N_RUNS {
        let start = Instant::now();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for _ in 0..N_DISPATCHES {
                sample.encode(gpu, &mut pass);
            }
        }
        gpu.queue.submit([encoder.finish()]);
        let signal = Signal::new();
        let on_done = signal.clone();
        gpu.queue.on_submitted_work_done(move || on_done.set(()));
        if let Err(error) = gpu.device.poll(wgpu::PollType::wait_indefinitely()) {
            return Err(Error::Unavailable { backend: NAME, reason: error.to_string() });
        }
        signal.wait().await;
        gpu.check()?;
        if run > 0 {
            shortest = shortest.min(start.elapsed());
        }
    }
    Ok(shortest)
}
