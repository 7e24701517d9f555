//! Rows of tables: tokens, learned positions, a constant.

use std::sync::PoisonError;

use realm_ir::Result;

use super::{Layouts, Parameters, Products, layout, source};
use crate::gpu::Gpu;
use crate::weight::Format;

/// What says which row of a table is taken; the numbers are those of `embed.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The token's.
    Token = 0,
    /// The position's, or the last there is.
    Position = 1,
    /// The first.
    First = 2,
}

/// One kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EmbedKernel {
    pub format: &'static Format,
    pub any_width: bool,
    pub source: Source,
}

impl Products {
    /// The pipeline of a kernel.
    pub fn embed(&self, gpu: &Gpu, kernel: EmbedKernel) -> wgpu::ComputePipeline {
        let mut pipelines = self.embeds.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = pipelines.entry(kernel).or_insert_with(|| {
            let text = source::embed(kernel.format, kernel.any_width);
            let layout = self.embed_layouts(gpu).pipeline;
            gpu.pipeline("embed", text, &layout, &[("source", f64::from(kernel.source as u8))])
        });
        pipeline.clone()
    }

    /// Group 0 of such a kernel.
    pub fn bind_embed(
        &self,
        gpu: &Gpu,
        table: &wgpu::Buffer,
        out: &wgpu::Buffer,
        parameters: &Parameters,
    ) -> Result<wgpu::BindGroup> {
        let uniform = parameters.upload(gpu)?;
        let layouts = self.embed_layouts(gpu);
        Ok(crate::kernel::bind_group(gpu, "embed", &layouts.operands, &[table, out, &uniform]))
    }

    fn embed_layouts(&self, gpu: &Gpu) -> Layouts {
        let make = || {
            let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
            let operands = [storage(true), storage(false), wgpu::BufferBindingType::Uniform];
            let operands = layout(gpu, "embed", &operands);
            let batch = layout(gpu, "batch", &[storage(true)]);
            let pipeline = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("embed"),
                bind_group_layouts: &[Some(&operands), Some(&batch)],
                immediate_size: 0,
            });
            Layouts { operands, batch, pipeline }
        };
        self.embed_layouts.get_or_init(make).clone()
    }
}
