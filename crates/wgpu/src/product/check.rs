//! Known answers: a driver that computes a product wrongly is refused before a model runs on it.
//!
//! Each kernel computes a small product whose result is known, all of them in one submission.
//! A browser gives results only later, so asking and looking at the answers are two calls.

use std::collections::HashSet;

use realm_ir::{Error, Result};

use super::sample::Sample;
use super::{Kernel, Products};
use crate::NAME;
use crate::gpu::Gpu;
use crate::session::map;

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
    pub fn ask(gpu: &Gpu, kernels: impl IntoIterator<Item = Kernel>) -> Result<Option<Self>> {
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
        let staging = gpu.buffer("known answers", 4 * n_values, usage)?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for sample in &samples {
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                sample.encode(gpu, &mut pass);
            }
            let bytes = 4 * sample.answers.len() as u64;
            encoder.copy_buffer_to_buffer(&sample.out, 0, &staging, at, bytes);
            at += bytes;
        }
        gpu.queue.submit([encoder.finish()]);
        Ok(Some(Pending { samples, staging }))
    }

    /// Waits for the answers and looks at them.
    ///
    /// # Errors
    /// `Unavailable` naming the product that is wrong, or when the device failed.
    pub async fn look(self, gpu: &Gpu) -> Result<()> {
        let n_values: usize = self.samples.iter().map(|sample| sample.answers.len()).sum();
        let mut found = vec![0.0f32; n_values];
        map(gpu, &self.staging, bytemuck::cast_slice_mut(&mut found)).await?;
        let mut rest = &found[..];
        for sample in &self.samples {
            let (found, others) = rest.split_at(sample.answers.len());
            rest = others;
            compare(&sample.kernel, found, &sample.answers, sample.tolerance)?;
            gpu.products.found_right(sample.kernel);
        }
        Ok(())
    }
}

fn compare(kernel: &Kernel, found: &[f32], answers: &[f32], tolerance: f32) -> Result<()> {
    let squares: f32 = answers.iter().map(|answer| answer * answer).sum();
    let allowed = tolerance * (squares / answers.len() as f32).sqrt();
    // Not a number is never within a tolerance.
    let is_wrong = |(found, answer): &(&f32, &f32)| !((*found - *answer).abs() <= allowed);
    match found.iter().zip(answers).find(is_wrong) {
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
    fn is_right(&self, kernel: &Kernel) -> bool {
        self.right().contains(kernel)
    }

    fn found_right(&self, kernel: Kernel) {
        self.right().insert(kernel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::{Arithmetic, Places, Work};
    use crate::weight::{format, types};
    use crate::{WgpuBackend, WgpuOptions, adapters};

    fn gpu() -> WgpuBackend {
        let found = pollster::block_on(adapters());
        let adapter = found.first().expect("no graphics adapter found: install a driver");
        let adapter = Some(adapter.name.clone());
        WgpuBackend::new(WgpuOptions { adapter, ..Default::default() }).unwrap()
    }

    /// Every kernel that a device may be given.
    fn kernels() -> Vec<Kernel> {
        let mut kernels = Vec::new();
        let works =
            [Work::Vector(1), Work::Vector(4), Work::Vector(8), Work::Matrix(32), Work::Matrix(64)];
        for format in types().filter_map(format) {
            for work in works {
                for arithmetic in [Arithmetic::F32, Arithmetic::F16, Arithmetic::Int8] {
                    for by_subgroup in [false, true] {
                        let (places, any_width) = (Places::Dense, false);
                        kernels.push(Kernel {
                            format,
                            places,
                            work,
                            arithmetic,
                            by_subgroup,
                            any_width,
                        });
                    }
                }
            }
        }
        kernels
    }

    #[test]
    fn every_kernel_knows_its_answers() {
        let backend = gpu();
        let start = std::time::Instant::now();
        let mut n = 0;
        for kernel in kernels() {
            if kernel.arithmetic == Arithmetic::Int8
                && matches!(kernel.format.values, crate::weight::Values::Floats(_))
            {
                continue;
            }
            let t = std::time::Instant::now();
            let pending = Pending::ask(backend.gpu(), [kernel]).unwrap().unwrap();
            let t1 = t.elapsed();
            let result = pollster::block_on(pending.look(backend.gpu()));
            n += usize::from(result.is_err());
            if n > 12 {
                break;
            }
            if result.is_err() || kernel.format.ty == realm_gguf::TensorType::Q4_K {
                eprintln!(
                    "{kernel}: {:?} {:?} {t1:?} {:?}",
                    result.map_err(|e| e.to_string()),
                    start.elapsed(),
                    t.elapsed()
                );
            }
        }
        eprintln!("{:?}", start.elapsed());
    }
}
