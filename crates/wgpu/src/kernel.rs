//! The shaders and the pipelines made of them.
//!
//! A shader's text is constants, shared parts and its own body; those of matrix products are
//! put together in `product`. What a step fixes — widths, factors, flags — are
//! pipeline-overridable constants, so that layers of one shape share a pipeline.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::gpu::Gpu;

/// The text of `shaders/NAME.wgsl`, without comments.
macro_rules! shader {
    ($name:expr) => {
        include_str!(concat!(env!("OUT_DIR"), "/shaders/", $name, ".wgsl"))
    };
}
pub(crate) use shader;

const BATCH: &str = shader!("batch");
const REDUCE: &str = shader!("reduce");
const KV: &str = shader!("kv");
const KV_F32: &str = shader!("kv/f32");
const KV_F16: &str = shader!("kv/f16");
const ROTATE: &str = shader!("rotate");
const ACTIVATION: &str = shader!("activation");
const GATES: &str = shader!("gates");
const TILES: &str = shader!("linear/tile_list");

/// Threads of a workgroup.
pub(crate) const THREADS: usize = 64;

/// Threads of a workgroup that has a long row to itself: few steps one after another. The most
/// that every device has.
const WIDE_THREADS: usize = 256;

/// A shader: operands that it reads are bound first, those that it writes after them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub name: &'static str,
    parts: &'static [&'static str],
    pub n_reads: usize,
    pub n_writes: usize,
    n_threads: usize,
}

const fn kernel(
    name: &'static str,
    parts: &'static [&'static str],
    n_reads: usize,
    n_writes: usize,
) -> Kernel {
    Kernel { name, parts, n_reads, n_writes, n_threads: THREADS }
}

pub(crate) static NORM: Kernel = kernel("norm", &[REDUCE, shader!("norm")], 3, 1);
pub(crate) static NORM_WIDE: Kernel = Kernel { name: "norm_wide", n_threads: WIDE_THREADS, ..NORM };
pub(crate) static HEAD_REST: Kernel = kernel("head_rest", &[shader!("linear/head_rest")], 1, 1);
pub(crate) static QUANTIZE: Kernel = kernel("quantize", &[shader!("linear/quantize")], 1, 1);
pub(crate) static GROUP_CHOICES: Kernel =
    kernel("group_choices", &[BATCH, TILES, shader!("linear/group_choices")], 1, 1);
pub(crate) static ADAPT_CHOICES: Kernel =
    kernel("adapt_choices", &[shader!("linear/adapt_choices")], 4, 2);
pub(crate) static SUM_CHOICES: Kernel =
    kernel("sum_choices", &[shader!("linear/sum_choices")], 2, 1);
pub(crate) static ROPE: Kernel = kernel("rope", &[BATCH, ROTATE, shader!("rope")], 1, 1);
pub(crate) static ROPE_STORE_F32: Kernel =
    kernel("rope_store_f32", &[BATCH, REDUCE, KV_F32, KV, ROTATE, shader!("rope_store")], 4, 2);
pub(crate) static ROPE_STORE_F16: Kernel =
    kernel("rope_store_f16", &[BATCH, REDUCE, KV_F16, KV, ROTATE, shader!("rope_store")], 4, 2);
pub(crate) static ATTEND_F32: Kernel =
    kernel("attend_f32", &[BATCH, KV_F32, KV, shader!("attend")], 3, 2);
pub(crate) static ATTEND_F16: Kernel =
    kernel("attend_f16", &[BATCH, KV_F16, KV, shader!("attend")], 3, 2);
pub(crate) static ATTEND_MERGE: Kernel = kernel("attend_merge", &[shader!("attend_merge")], 2, 1);
pub(crate) static GATED_ACT: Kernel =
    kernel("gated_act", &[ACTIVATION, shader!("gated_act")], 2, 1);
pub(crate) static ADD: Kernel = kernel("add", &[shader!("add")], 2, 1);
pub(crate) static TAKE_ROWS: Kernel = kernel("take_rows", &[BATCH, shader!("take_rows")], 1, 1);
pub(crate) static SPARSIFY: Kernel = kernel("sparsify", &[REDUCE, shader!("sparsify")], 0, 1);
pub(crate) static MIX: Kernel = kernel("mix", &[shader!("mix")], 5, 1);
pub(crate) static MIX_OUT: Kernel = kernel("mix_out", &[shader!("mix_out")], 1, 1);
pub(crate) static ROUTE: Kernel = kernel("route", &[REDUCE, shader!("route")], 3, 2);
pub(crate) static CONV: Kernel = kernel("conv", &[BATCH, ACTIVATION, shader!("conv")], 4, 1);
pub(crate) static CONV_STATE: Kernel = kernel("conv_state", &[BATCH, shader!("conv_state")], 1, 1);
pub(crate) static DELTA_NET: Kernel =
    kernel("delta_net", &[BATCH, REDUCE, GATES, shader!("delta_net")], 4, 2);
pub(crate) static SELECTIVE_SCAN: Kernel =
    kernel("selective_scan", &[BATCH, GATES, shader!("selective_scan")], 5, 2);

pub(crate) static TOP_VALUES: Kernel =
    kernel("top_values", &[shader!("top_values"), shader!("top")], 1, 1);
pub(crate) static TOP_OF_TOP: Kernel =
    kernel("top_of_top", &[shader!("top_of_top"), shader!("top")], 1, 1);

/// Values of a shader's `override` declarations, by name.
pub(crate) type Constants = Vec<(&'static str, f64)>;

/// Name and the bits of the constants.
type Key = (&'static str, Vec<(&'static str, u64)>);

impl Kernel {
    fn key(&self, constants: &Constants) -> Key {
        let constants = constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        (self.name, constants)
    }

    fn source(&self) -> String {
        let mut source = format!("const THREADS: u32 = {}u;\n", self.n_threads);
        source.extend(self.parts.iter().copied());
        source
    }
}

/// Pipelines of the kernels, each made once for a device and shared by its sessions.
pub(crate) struct Pipelines {
    /// Group 1 of every kernel: the batch.
    pub batch_layout: wgpu::BindGroupLayout,
    layouts: Mutex<HashMap<&'static Kernel, Layouts>>,
    pipelines: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
}

#[derive(Clone)]
struct Layouts {
    operands: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

impl Pipelines {
    pub fn new(device: &wgpu::Device) -> Self {
        Pipelines {
            batch_layout: bind_group_layout(device, "batch", 1, 0),
            layouts: Mutex::default(),
            pipelines: Mutex::default(),
        }
    }

    fn layouts(&self, gpu: &Gpu, kernel: &'static Kernel) -> Layouts {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let layouts = layouts.entry(kernel).or_insert_with(|| {
            let Kernel { name, n_reads, n_writes, .. } = kernel;
            let operands = bind_group_layout(&gpu.device, name, *n_reads, *n_writes);
            let descriptor = wgpu::PipelineLayoutDescriptor {
                label: Some(name),
                bind_group_layouts: &[Some(&operands), Some(&self.batch_layout)],
                immediate_size: 0,
            };
            let pipeline = gpu.device.create_pipeline_layout(&descriptor);
            Layouts { operands, pipeline }
        });
        layouts.clone()
    }

    /// The pipeline of `kernel` with `constants`.
    pub fn pipeline(
        &self,
        gpu: &Gpu,
        kernel: &'static Kernel,
        constants: &Constants,
    ) -> wgpu::ComputePipeline {
        let key = kernel.key(constants);
        let pipelines = || self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines().get(&key) {
            return pipeline.clone();
        }
        // Not while others wait: this takes long.
        let layout = self.layouts(gpu, kernel).pipeline;
        let pipeline = gpu.pipeline(kernel.name, kernel.source(), &layout, constants);
        pipelines().entry(key).or_insert(pipeline).clone()
    }

    /// Binds `operands`, reads before writes, to group 0 of `kernel`.
    pub fn bind(
        &self,
        gpu: &Gpu,
        kernel: &'static Kernel,
        operands: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        assert_eq!(operands.len(), kernel.n_reads + kernel.n_writes, "{}", kernel.name);
        bind_group(gpu, kernel.name, &self.layouts(gpu, kernel).operands, operands)
    }
}

/// Binds whole buffers in their order.
pub(crate) fn bind_group(
    gpu: &Gpu,
    label: &str,
    layout: &wgpu::BindGroupLayout,
    buffers: &[&wgpu::Buffer],
) -> wgpu::BindGroup {
    let entries: Vec<_> = buffers
        .iter()
        .zip(0..)
        .map(|(buffer, binding)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    let descriptor = wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries };
    gpu.device.create_bind_group(&descriptor)
}

fn bind_group_layout(
    device: &wgpu::Device,
    label: &str,
    n_reads: usize,
    n_writes: usize,
) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = (0..n_reads + n_writes)
        .map(|binding| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: binding < n_reads },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries };
    device.create_bind_group_layout(&descriptor)
}
