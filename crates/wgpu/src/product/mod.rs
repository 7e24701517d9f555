//! Matrix products: the kernels, which of them a product runs, and their pipelines.
//!
//! A kernel's text is put together of parts: where its rows and matrices are ([`Places`]), how a
//! weight's values are unpacked (its format), with which numbers is multiplied
//! ([`Arithmetic`]), and whether few rows share a column's threads or many share a tile
//! ([`Work`]). Sizes are not part of it but come in a uniform buffer, so that all products of
//! a format share their pipelines, and known answers can be asked of the very pipelines that
//! a model runs (`check.rs`).

pub(crate) mod check;
pub(crate) mod embed;
mod parameters;
mod sample;
pub(crate) mod source;
pub(crate) mod tune;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use realm_gguf::TensorType;

use crate::gpu::Gpu;
use crate::kernel::bind_group;
use crate::weight::{Format, GROUP, Values};
use embed::EmbedKernel;
pub(crate) use parameters::{Flags, Parameters};
pub use tune::Tuning;

/// What products use of a device that has it.
pub(crate) const FEATURES: wgpu::Features =
    wgpu::Features::SHADER_F16.union(wgpu::Features::SUBGROUP);

/// The numbers that are multiplied. All but short sums are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// Everything in f32.
    F32,
    /// Quantised weights and inputs in f16. Float weights, here and below, stay in f32: who
    /// chose them wants what they say.
    F16,
    /// Quants with inputs rounded to int8, 32 by 32.
    Int8,
}

/// Where a kernel's rows and matrices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Places {
    /// One matrix for all rows.
    Dense,
    /// Up to [`MOST_OUTS`] such matrices one after another in a buffer.
    SideBySide,
    /// A matrix for each head.
    Heads,
    /// A matrix for each chosen expert of a row, one by one.
    Choices,
    /// The same, those of one expert together.
    Tiles,
}

/// Results of a dispatch: with more of them, some devices could not bind all operands.
pub(crate) const MOST_OUTS: usize = 3;

/// What a workgroup makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    /// Four columns of up to so many rows.
    Vector(usize),
    /// 64 columns of up to so many rows: 32 or 64.
    Matrix(usize),
}

impl Work {
    /// Columns that a workgroup makes.
    pub fn n_columns(self) -> usize {
        match self {
            Work::Vector(_) => 4,
            Work::Matrix(_) => 64,
        }
    }

    /// Rows that a workgroup makes.
    pub fn n_rows(self) -> usize {
        match self {
            Work::Vector(rows) | Work::Matrix(rows) => rows,
        }
    }
}

/// One kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ProductKernel {
    pub format: &'static Format,
    pub places: Places,
    pub work: Work,
    pub arithmetic: Arithmetic,
    /// Sums of [`Work::Vector`] go over subgroups.
    pub by_subgroup: bool,
    /// Rows need not be whole groups, nor rows of the input whole vec4.
    pub any_width: bool,
}

impl ProductKernel {
    /// The kernel for such a product that `tuning` prefers.
    pub fn choose(
        tuning: &Tuning,
        format: &'static Format,
        places: Places,
        work: Work,
        any_width: bool,
    ) -> Self {
        let (wanted, by_subgroup) = match work {
            Work::Vector(_) => (tuning.vector, tuning.subgroups),
            Work::Matrix(_) => (tuning.matrix, false),
        };
        let is_quantised = matches!(format.values, Values::Quants(_));
        let arithmetic = match wanted {
            Arithmetic::F16 if is_quantised => wanted,
            Arithmetic::Int8 if is_quantised && !any_width && places != Places::Heads => wanted,
            _ => Arithmetic::F32,
        };
        ProductKernel { format, places, work, arithmetic, by_subgroup, any_width }
    }

    /// Operands beside the parameters: weight, bias, input and result, then what says which
    /// experts are chosen, or the other results.
    fn n_operands(&self) -> usize {
        match self.places {
            Places::Dense | Places::Heads => 4,
            Places::SideBySide => 3 + MOST_OUTS,
            Places::Choices | Places::Tiles => 7,
        }
    }

    fn has_choices(&self) -> bool {
        matches!(self.places, Places::Choices | Places::Tiles)
    }
}

/// Every kernel that `tuning` prefers: all types for few and for many rows, and all other kinds
/// of places with one type.
fn all(tuning: Tuning) -> impl Iterator<Item = ProductKernel> {
    let dense = [Work::Vector(1), Work::Matrix(32)].map(|work| (Places::Dense, work));
    let others = [
        (Places::Dense, Work::Vector(4)),
        (Places::Dense, Work::Matrix(64)),
        (Places::SideBySide, Work::Vector(1)),
        (Places::Heads, Work::Vector(1)),
        (Places::Choices, Work::Vector(1)),
        (Places::Tiles, Work::Matrix(32)),
    ];
    let all = crate::weight::types().flat_map(move |ty| dense.map(|kind| (ty, kind)));
    let q4_k = others.map(|kind| (TensorType::Q4_K, kind));
    all.chain(q4_k).filter_map(move |(ty, (places, work))| {
        Some(ProductKernel::choose(&tuning, crate::weight::format(ty)?, places, work, false))
    })
}

impl fmt::Display for ProductKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProductKernel { format, places, work, arithmetic, by_subgroup, any_width } = self;
        write!(f, "{} products ({places:?}, {work:?}, {arithmetic:?}", format.ty)?;
        write!(f, "{}", if *by_subgroup { ", by subgroups" } else { "" })?;
        write!(f, "{})", if *any_width { ", any width" } else { "" })
    }
}

/// What a product reads and writes.
pub(crate) struct Operands<'a> {
    pub weight: &'a wgpu::Buffer,
    pub bias: &'a wgpu::Buffer,
    pub input: &'a wgpu::Buffer,
    pub out: &'a wgpu::Buffer,
    /// Of experts the weights of the choices, the scales of the matrices, and the choices or
    /// tiles; of matrices side by side the other results.
    pub more: Vec<&'a wgpu::Buffer>,
}

/// Pipelines of products, each made once for a device.
#[derive(Default)]
pub(crate) struct Products {
    /// By the number of operands.
    layouts: Mutex<HashMap<usize, Layouts>>,
    pipelines: Mutex<HashMap<ProductKernel, wgpu::ComputePipeline>>,
    embeds: Mutex<HashMap<EmbedKernel, wgpu::ComputePipeline>>,
    embed_layouts: OnceLock<Layouts>,
    /// Kernels whose known answers came out.
    right: Mutex<HashSet<ProductKernel>>,
}

#[derive(Clone)]
struct Layouts {
    operands: wgpu::BindGroupLayout,
    batch: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

impl Products {
    /// The pipeline of a kernel.
    pub fn pipeline(&self, gpu: &Gpu, kernel: ProductKernel) -> wgpu::ComputePipeline {
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = pipelines.entry(kernel).or_insert_with(|| {
            let layout = self.layouts(gpu, &kernel).pipeline;
            gpu.pipeline(kernel.format.ty.name(), source::of(&kernel), &layout, &[])
        });
        pipeline.clone()
    }

    /// Group 0 of a kernel.
    pub fn bind(
        &self,
        gpu: &Gpu,
        kernel: &ProductKernel,
        operands: &Operands<'_>,
        parameters: &Parameters,
    ) -> realm_ir::Result<wgpu::BindGroup> {
        let uniform = parameters.upload(gpu)?;
        let mut buffers = vec![
            (0, operands.weight),
            (1, operands.bias),
            (2, operands.input),
            (3, operands.out),
            (4, &uniform),
        ];
        buffers.extend((5..).zip(operands.more.iter().copied()));
        let entries: Vec<_> = buffers
            .iter()
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        Ok(gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("product"),
            layout: &self.layouts(gpu, kernel).operands,
            entries: &entries,
        }))
    }

    /// Group 1 of a kernel without choices.
    fn bind_batch(
        &self,
        gpu: &Gpu,
        kernel: &ProductKernel,
        batch: &wgpu::Buffer,
    ) -> wgpu::BindGroup {
        bind_group(gpu, "batch", &self.layouts(gpu, kernel).batch, &[batch])
    }

    fn right(&self) -> MutexGuard<'_, HashSet<ProductKernel>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layouts(&self, gpu: &Gpu, kernel: &ProductKernel) -> Layouts {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let layouts = layouts.entry(kernel.n_operands()).or_insert_with(|| {
            let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
            let ty = |binding| match binding {
                3 => storage(false),
                4 => wgpu::BufferBindingType::Uniform,
                _ if kernel.places == Places::SideBySide && binding > 4 => storage(false),
                _ => storage(true),
            };
            let types: Vec<_> = (0..kernel.n_operands() as u32 + 1).map(ty).collect();
            let operands = layout(gpu, "product", &types);
            let batch = layout(gpu, "batch", &[storage(true)]);
            // Which rows there are, choices and tiles say by themselves.
            let groups = [Some(&operands), Some(&batch)];
            let n_groups = if kernel.has_choices() { 1 } else { 2 };
            let pipeline = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("product"),
                bind_group_layouts: &groups[..n_groups],
                immediate_size: 0,
            });
            Layouts { operands, batch, pipeline }
        });
        layouts.clone()
    }
}

fn layout(gpu: &Gpu, label: &str, types: &[wgpu::BufferBindingType]) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = (0..)
        .zip(types)
        .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: *ty,
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries };
    gpu.device.create_bind_group_layout(&descriptor)
}

/// Groups of a row of `width` values.
pub(crate) fn n_groups(width: usize) -> usize {
    width.div_ceil(GROUP)
}
