//! Known answers: a driver that computes a product wrongly is refused before a model runs on it.
//!
//! Each kernel computes a small product whose result is known, all of them in one submission.
//! A browser gives results only later, so asking and looking at the answers are two calls.

use std::collections::HashSet;

use realm_ir::{Error, Result};

use super::sample::Sample;
use super::{Arithmetic, ProductKernel, Products, Tuning};
use crate::gpu::{Gpu, word_bytes};
use crate::session::map;
use crate::{NAME, WgpuBackend};

/// Questions that were asked and not yet looked at.
pub(crate) struct Pending {
    samples: Vec<Sample>,
    staging: wgpu::Buffer,
}

impl Pending {
    /// Asks about the kernels that have not yet been found right; `None` when there are none.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn ask(
        gpu: &Gpu,
        kernels: impl IntoIterator<Item = ProductKernel>,
    ) -> Result<Option<Self>> {
        let kernels: HashSet<_> =
            kernels.into_iter().filter(|kernel| !gpu.products.is_right(kernel)).collect();
        if kernels.is_empty() {
            return Ok(None);
        }
        let samples = kernels
            .into_iter()
            .map(|kernel| Sample::of(gpu, kernel))
            .collect::<Result<Vec<_>>>()?;
        let n_values: usize = samples.iter().map(|sample| sample.answers.len()).sum();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = gpu.buffer("known answers", word_bytes(&[n_values]), usage)?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for sample in &samples {
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                sample.encode(gpu, &mut pass);
            }
            for (out, n_values) in sample.outs.iter().zip(&sample.out_values) {
                let bytes = 4 * *n_values as u64;
                encoder.copy_buffer_to_buffer(out, 0, &staging, at, bytes);
                at += bytes;
            }
        }
        gpu.submit(encoder);
        Ok(Some(Pending { samples, staging }))
    }

    /// Waits for the answers and looks at them.
    ///
    /// # Errors
    /// `Unavailable` naming the first product that is wrong, or when the device failed.
    pub async fn look(self, gpu: &Gpu) -> Result<()> {
        self.faults(gpu).await?.into_iter().next().map_or(Ok(()), Err)
    }

    /// The same; what is wrong, product by product.
    ///
    /// # Errors
    /// When the device failed.
    async fn faults(self, gpu: &Gpu) -> Result<Vec<Error>> {
        let n_values: usize = self.samples.iter().map(|sample| sample.answers.len()).sum();
        let mut found = vec![0.0f32; n_values];
        map(gpu, &self.staging, bytemuck::cast_slice_mut(&mut found)).await?;
        let mut rest = &found[..];
        let mut faults = Vec::new();
        for sample in &self.samples {
            let (found, others) = rest.split_at(sample.answers.len());
            rest = others;
            match compare(&sample.kernel, found, &sample.answers, sample.tolerance) {
                Ok(()) => gpu.products.found_right(sample.kernel),
                Err(error) => faults.push(error),
            }
        }
        Ok(faults)
    }
}

/// Asks a backend about every kernel of products in `arithmetic`, by subgroups or not: how many
/// there are, and what is wrong. Needs no model; for tests of drivers and browsers.
///
/// # Errors
/// When the device does not offer the kernels, or fails.
pub async fn check_products(
    backend: &WgpuBackend,
    arithmetic: Arithmetic,
    subgroups: bool,
) -> Result<(usize, Vec<Error>)> {
    let gpu = backend.gpu();
    let kernels = super::all(Tuning { vector: arithmetic, matrix: arithmetic, subgroups });
    let kernels: Vec<_> = kernels.collect();
    let faults = match Pending::ask(gpu, kernels.iter().copied())? {
        Some(pending) => pending.faults(gpu).await?,
        None => Vec::new(),
    };
    Ok((kernels.len(), faults))
}

fn compare(kernel: &ProductKernel, found: &[f32], answers: &[f32], tolerance: f32) -> Result<()> {
    let squares: f32 = answers.iter().map(|answer| answer * answer).sum();
    let allowed = tolerance * (squares / answers.len() as f32).sqrt();
    // Not a number is never within a tolerance.
    let is_right = |(found, answer): &(&f32, &f32)| (*found - *answer).abs() <= allowed;
    match found.iter().zip(answers).find(|pair| !is_right(pair)) {
        None => Ok(()),
        Some((found, answer)) => Err(Error::Unavailable {
            backend: NAME,
            reason: format!(
                "the driver computes {kernel} wrongly: {found} where {answer} is known"
            ),
        }),
    }
}

impl Sample {
    pub fn encode(&self, gpu: &Gpu, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&gpu.products.pipeline(gpu, self.kernel));
        pass.set_bind_group(0, &self.bind_group, &[]);
        if !self.kernel.has_choices() {
            pass.set_bind_group(1, &gpu.products.bind_batch(gpu, &self.kernel, &self.batch), &[]);
        }
        let [x, y, z] = self.grid;
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Products {
    fn is_right(&self, kernel: &ProductKernel) -> bool {
        self.right().contains(kernel)
    }

    fn found_right(&self, kernel: ProductKernel) {
        self.right().insert(kernel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::{Places, Work};
    use crate::weight::format;
    use crate::{WgpuOptions, devices};
    use realm_gguf::TensorType;

    fn open() -> WgpuBackend {
        let found = pollster::block_on(devices());
        let device = found.first().expect("no graphics card found: install a driver");
        let (device, tuning) = (Some(device.name.clone()), Some(Tuning::default()));
        WgpuBackend::new(WgpuOptions { device, tuning, ..Default::default() }).unwrap()
    }

    fn kernel(ty: TensorType, work: Work, arithmetic: Arithmetic) -> ProductKernel {
        let (format, places) = (format(ty).unwrap(), Places::Dense);
        ProductKernel { format, places, work, arithmetic, by_subgroup: false, any_width: false }
    }

    #[test]
    fn tiles_of_64_rows_know_their_answers() {
        // Devices in software are not given these tiles, so other tests may not run them.
        let arithmetics = [Arithmetic::F32, Arithmetic::F16, Arithmetic::Int8];
        let backend = open();
        let has_f16 = backend.gpu().device.features().contains(wgpu::Features::SHADER_F16);
        let offered = arithmetics.into_iter().filter(|kind| has_f16 || *kind != Arithmetic::F16);
        let kernels = offered.map(|kind| kernel(TensorType::Q4_K, Work::Matrix(64), kind));
        let pending = Pending::ask(backend.gpu(), kernels).unwrap().unwrap();
        pollster::block_on(pending.look(backend.gpu())).unwrap();
    }

    #[test]
    fn a_wrong_answer_names_the_product_and_a_right_one_is_asked_for_once() {
        let kernels = [kernel(TensorType::Q5_0, Work::Vector(1), Arithmetic::F32)];
        let backend = open();
        let mut pending = Pending::ask(backend.gpu(), kernels).unwrap().unwrap();
        pending.samples[0].answers[7] += 1.0;
        let error = pollster::block_on(pending.look(backend.gpu())).unwrap_err();
        assert!(matches!(error, Error::Unavailable { backend: NAME, .. }), "{error}");
        assert!(error.to_string().contains("Q5_0"), "{error}");

        let pending = Pending::ask(backend.gpu(), kernels).unwrap().unwrap();
        pollster::block_on(pending.look(backend.gpu())).unwrap();
        assert!(Pending::ask(backend.gpu(), kernels).unwrap().is_none());
    }
}
