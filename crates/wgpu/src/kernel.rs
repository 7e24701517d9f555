//! The shaders and the pipelines made of them.
//!
//! A shader's text is constants, shared parts, the format of its weight if it has
//! one, and its own body. What a step fixes — widths, factors, flags — are
//! pipeline-overridable constants, so that layers of one shape share a pipeline.

use std::collections::HashMap;
use std::sync::Arc;

use crate::gpu::Gpu;
use crate::weight::Format;

const BATCH: &str = include_str!("shaders/batch.wgsl");
const REDUCE: &str = include_str!("shaders/reduce.wgsl");
const KV: &str = include_str!("shaders/kv.wgsl");

/// Threads of every workgroup.
pub(crate) const THREADS: usize = 64;

/// A shader: operands that it reads are bound first, those that it writes after them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub name: &'static str,
    parts: &'static [&'static str],
    pub n_reads: usize,
    pub n_writes: usize,
}

const fn kernel(
    name: &'static str,
    parts: &'static [&'static str],
    n_reads: usize,
    n_writes: usize,
) -> Kernel {
    Kernel { name, parts, n_reads, n_writes }
}

pub(crate) static NORM: Kernel = kernel("norm", &[REDUCE, include_str!("shaders/norm.wgsl")], 3, 1);
pub(crate) static ROPE_STORE: Kernel =
    kernel("rope_store", &[BATCH, REDUCE, KV, include_str!("shaders/rope_store.wgsl")], 4, 2);
pub(crate) static ATTEND: Kernel =
    kernel("attend", &[BATCH, REDUCE, KV, include_str!("shaders/attend.wgsl")], 2, 1);
pub(crate) static GATED_ACT: Kernel =
    kernel("gated_act", &[include_str!("shaders/gated_act.wgsl")], 2, 1);
pub(crate) static ADD: Kernel = kernel("add", &[include_str!("shaders/add.wgsl")], 2, 1);
pub(crate) static TAKE_ROWS: Kernel =
    kernel("take_rows", &[BATCH, include_str!("shaders/take_rows.wgsl")], 1, 1);

/// Threads that share a column of a matrix product.
const LANES: usize = 16;

/// Columns of a matrix product that a workgroup makes.
pub(crate) const LINEAR_COLUMNS: usize = THREADS / LANES;

/// One way to compile a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Variant {
    pub kernel: &'static Kernel,
    pub format: Option<&'static Format>,
    /// Rows that a workgroup works on: the text's `ROWS`.
    pub n_rows: usize,
}

/// Values of a shader's `override` declarations, by name.
pub(crate) type Constants = Vec<(&'static str, f64)>;

/// Name, format, rows and the bits of the constants.
type Key = (&'static str, Option<u32>, usize, Vec<(&'static str, u64)>);

impl Variant {
    fn key(&self, constants: &Constants) -> Key {
        let constants = constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        (self.kernel.name, self.format.map(|format| format.ty as u32), self.n_rows, constants)
    }

    fn source(&self) -> String {
        let mut source = format!(
            "const THREADS: u32 = {THREADS}u;\nconst LANES: u32 = {LANES}u;\nconst ROWS: u32 = {}u;\n",
            self.n_rows
        );
        source.extend(self.kernel.parts.iter().copied());
        source
    }
}

/// Makes pipelines, each once.
pub(crate) struct Pipelines {
    gpu: Arc<Gpu>,
    /// Group 1 of every kernel: the batch.
    pub batch_layout: wgpu::BindGroupLayout,
    layouts: HashMap<&'static Kernel, (wgpu::BindGroupLayout, wgpu::PipelineLayout)>,
    pipelines: HashMap<Key, wgpu::ComputePipeline>,
}

impl Pipelines {
    pub fn new(gpu: Arc<Gpu>) -> Self {
        let batch_layout = bind_group_layout(&gpu, "batch", 1, 0);
        Pipelines { gpu, batch_layout, layouts: HashMap::new(), pipelines: HashMap::new() }
    }

    fn layout(
        &mut self,
        kernel: &'static Kernel,
    ) -> &(wgpu::BindGroupLayout, wgpu::PipelineLayout) {
        self.layouts.entry(kernel).or_insert_with(|| {
            let operands =
                bind_group_layout(&self.gpu, kernel.name, kernel.n_reads, kernel.n_writes);
            let descriptor = wgpu::PipelineLayoutDescriptor {
                label: Some(kernel.name),
                bind_group_layouts: &[Some(&operands), Some(&self.batch_layout)],
                immediate_size: 0,
            };
            let pipeline = self.gpu.device.create_pipeline_layout(&descriptor);
            (operands, pipeline)
        })
    }

    /// The pipeline of `variant` with `constants`.
    pub fn pipeline(&mut self, variant: Variant, constants: &Constants) -> wgpu::ComputePipeline {
        let key = variant.key(constants);
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        let layout = self.layout(variant.kernel).1.clone();
        let module = self.gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(variant.kernel.name),
            source: wgpu::ShaderSource::Wgsl(variant.source().into()),
        });
        let pipeline = self.gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(variant.kernel.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                ..Default::default()
            },
            cache: None,
        });
        self.pipelines.insert(key, pipeline.clone());
        pipeline
    }

    /// Binds `operands`, reads before writes, to group 0 of `kernel`.
    pub fn bind(&mut self, kernel: &'static Kernel, operands: &[&wgpu::Buffer]) -> wgpu::BindGroup {
        assert_eq!(operands.len(), kernel.n_reads + kernel.n_writes, "{}", kernel.name);
        let layout = self.layout(kernel).0.clone();
        bind_group(&self.gpu, kernel.name, &layout, operands)
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
    gpu: &Gpu,
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
    gpu.device.create_bind_group_layout(&descriptor)
}
