//! Which kernels a device is given: by what it offers and a short benchmark.

use realm_gguf::TensorType;
use realm_ir::{Error, Result};
use web_time::{Duration, Instant};

use super::check::Pending;
use super::sample::Sample;
use super::{Arithmetic, Places, ProductKernel, Work};
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
    /// What runs everywhere, and all that devices in software are given.
    fn default() -> Self {
        Tuning { vector: Arithmetic::F32, matrix: Arithmetic::F32, subgroups: false }
    }
}

impl Tuning {
    /// The same without what a device does not have.
    pub(crate) fn within(self, features: wgpu::Features) -> Self {
        let has_f16 = features.contains(wgpu::Features::SHADER_F16);
        let within = |arithmetic| match arithmetic {
            Arithmetic::F16 if !has_f16 => Arithmetic::F32,
            arithmetic => arithmetic,
        };
        Tuning {
            vector: within(self.vector),
            matrix: within(self.matrix),
            subgroups: self.subgroups && features.contains(wgpu::Features::SUBGROUP),
        }
    }
}

/// What a candidate must take at most, in parts of the time of the one before it: others give
/// up accuracy or depend on more of the driver.
const WORTH_IT: f64 = 0.9;

/// Dispatches that are timed together, and how often.
const N_DISPATCHES: usize = 8;
const N_RUNS: usize = 3;

/// Width, columns and rows of the products that are timed.
struct Sizes {
    vector: [usize; 3],
    matrix: [usize; 3],
}

/// The weight of the first is not in the caches of most devices, as those of a model are not.
const SIZES: Sizes = Sizes { vector: [2048, 16_384, 1], matrix: [2048, 2048, 256] };

/// The fastest kernels among those that the device offers and computes rightly.
///
/// # Errors
/// When the device fails, or computes wrongly what runs everywhere.
pub(crate) async fn fastest(gpu: &Gpu) -> Result<Tuning> {
    if gpu.description.software {
        return Ok(Tuning::default());
    }
    let tuning = measure(gpu, &SIZES).await?;
    tracing::info!(?tuning, "chose kernels");
    Ok(tuning)
}

async fn measure(gpu: &Gpu, sizes: &Sizes) -> Result<Tuning> {
    let arithmetics = [Arithmetic::F32, Arithmetic::F16, Arithmetic::Int8];
    let vectors = arithmetics.iter().flat_map(|arithmetic| {
        [false, true].map(|by_subgroup| kernel(Work::Vector(1), *arithmetic, by_subgroup))
    });
    let vector = best(gpu, vectors, sizes.vector).await?;
    let matrices = arithmetics.map(|arithmetic| kernel(Work::Matrix(64), arithmetic, false));
    let matrix = best(gpu, matrices, sizes.matrix).await?.arithmetic;
    Ok(Tuning { vector: vector.arithmetic, subgroups: vector.by_subgroup, matrix })
}

/// The most common format stands for all.
fn kernel(work: Work, arithmetic: Arithmetic, by_subgroup: bool) -> ProductKernel {
    let format = format(TensorType::Q4_K).expect("a type of the table");
    ProductKernel { format, places: Places::Dense, work, arithmetic, by_subgroup, any_width: false }
}

/// The fastest of `kernels`, of which the first runs everywhere, by a product of so many values
/// per row, columns and rows.
async fn best(
    gpu: &Gpu,
    kernels: impl IntoIterator<Item = ProductKernel>,
    [width, n_columns, n_rows]: [usize; 3],
) -> Result<ProductKernel> {
    let mut best: Option<(ProductKernel, Duration)> = None;
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
async fn offers(gpu: &Gpu, kernel: ProductKernel) -> Result<bool> {
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
        gpu.submit(encoder);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WgpuBackend, WgpuOptions, devices};

    fn open() -> WgpuBackend {
        let found = pollster::block_on(devices());
        let device = found.first().expect("no graphics card found: install a driver");
        let (device, tuning) = (Some(device.name.clone()), Some(Tuning::default()));
        WgpuBackend::new(WgpuOptions { device, tuning, ..Default::default() }).unwrap()
    }

    #[test]
    fn whatever_is_fastest_is_offered_and_right() {
        let backend = open();
        let sizes = Sizes { vector: [256, 8, 1], matrix: [256, 64, 64] };
        let tuning = pollster::block_on(measure(backend.gpu(), &sizes)).unwrap();
        let chosen = [
            kernel(Work::Vector(1), tuning.vector, tuning.subgroups),
            kernel(Work::Matrix(64), tuning.matrix, false),
        ];
        for kernel in chosen {
            assert!(pollster::block_on(offers(backend.gpu(), kernel)).unwrap(), "{kernel}");
        }
        // Known to be right, so there is nothing left to ask.
        assert!(Pending::ask(backend.gpu(), chosen).unwrap().is_none());
    }

    #[test]
    fn a_wish_for_what_is_not_there_is_left_out() {
        let wish = Tuning { vector: Arithmetic::F16, matrix: Arithmetic::Int8, subgroups: true };
        let all = crate::product::FEATURES;
        assert_eq!(wish.within(all), wish);
        let bare = Tuning { vector: Arithmetic::F32, subgroups: false, ..wish };
        assert_eq!(wish.within(wgpu::Features::empty()), bare);
    }

    #[test]
    fn kernels_for_features_that_a_device_lacks_are_not_offered() {
        let backend = open();
        let features = backend.gpu().device.features();
        let f16 = kernel(Work::Vector(1), Arithmetic::F16, false);
        let offered = pollster::block_on(offers(backend.gpu(), f16)).unwrap();
        assert_eq!(offered, features.contains(wgpu::Features::SHADER_F16));
    }
}
