//! Steps become dispatches: a pipeline, a bind group and the size of the grid.

mod attend;
mod linear;
mod rows;

use std::sync::Arc;

use realm_gguf::TensorType;
use realm_ir::{Error, KvLayout, Program, Result, RopeSpec, Rows, Slot, Step, StepKind, WeightRef};

use crate::NAME;
use crate::gpu::Gpu;
use crate::kernel::{Constants, Kernel, Pipelines, Variant};
use crate::weight::Weight;

/// Most workgroups in one dimension of a grid: WebGPU's guaranteed limit.
pub(crate) const MAX_GRID: usize = 65_535;

/// One command, ready but for the number of rows.
pub(crate) struct Dispatch {
    /// By rows per workgroup, ascending.
    variants: Vec<(usize, wgpu::ComputePipeline)>,
    bind_group: wgpu::BindGroup,
    /// Workgroups for one row.
    n_groups: usize,
    rows: Rows,
}

impl Dispatch {
    /// Encodes the command for a batch of so many rows; whether there was anything to do.
    pub fn encode(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        n_batch_rows: usize,
        n_output_rows: usize,
    ) -> bool {
        let n_rows = match self.rows {
            Rows::Batch => n_batch_rows,
            Rows::Outputs => n_output_rows,
        };
        let fitting = self.variants.iter().rev().find(|(rows, _)| *rows <= n_rows);
        let Some((rows, pipeline)) = fitting else { return false };
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        // A grid wider than allowed goes on in depth.
        let x = self.n_groups.min(MAX_GRID);
        let z = self.n_groups.div_ceil(MAX_GRID);
        pass.dispatch_workgroups(x as u32, n_rows.div_ceil(*rows) as u32, z as u32);
        true
    }
}

/// What a session owns and steps refer to.
pub(crate) struct Planner<'a> {
    pub gpu: &'a Gpu,
    pub program: &'a Program,
    pub weights: &'a [Arc<Weight>],
    pub slots: &'a [wgpu::Buffer],
    /// One buffer per layer.
    pub kv: &'a [wgpu::Buffer],
    pub kv_layout: &'a KvLayout,
    pub pipelines: &'a mut Pipelines,
    /// Tables of the rotations so far: layers mostly share one.
    angles: Vec<(RopeSpec, wgpu::Buffer)>,
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn count(value: usize) -> f64 {
    value as f64
}

impl<'a> Planner<'a> {
    pub fn new(
        gpu: &'a Gpu,
        program: &'a Program,
        weights: &'a [Arc<Weight>],
        slots: &'a [wgpu::Buffer],
        kv: &'a [wgpu::Buffer],
        kv_layout: &'a KvLayout,
        pipelines: &'a mut Pipelines,
    ) -> Self {
        Planner { gpu, program, weights, slots, kv, kv_layout, pipelines, angles: Vec::new() }
    }

    /// The dispatches of one step.
    ///
    /// # Errors
    /// `UnsupportedType`, `Unsupported`, `ShapeMismatch` when weights and slots do
    /// not fit together, `OutOfMemory`.
    pub fn plan(&mut self, step: &Step) -> Result<Vec<Dispatch>> {
        match step {
            Step::Embed(step) => self.embed(step),
            Step::Norm(step) => self.norm(step),
            Step::Linear(step) => self.linear(step),
            Step::RopeStore(step) => self.rope_store(step),
            Step::Attend(step) => self.attend(step),
            Step::GatedAct(step) => self.gated_act(step),
            Step::Add(step) => self.add(step),
            Step::TakeRows(step) => self.take_rows(step),
            Step::Rope(_)
            | Step::Moe(_)
            | Step::HeadLinear(_)
            | Step::Mix(_)
            | Step::Sparsify(_)
            | Step::Conv(_)
            | Step::DeltaNet(_)
            | Step::SelectiveScan(_) => Err(refuse(format!("the step {:?}", step.kind()))),
        }
    }

    fn width(&self, slot: Slot) -> usize {
        self.program.width(slot)
    }

    fn rows(&self, slot: Slot) -> Rows {
        self.program.slots[slot.0].rows
    }

    /// A slot to read beside writing `out`. WebGPU forbids to bind a buffer twice
    /// when one binding writes, so a step in place reads through its result.
    fn input(&self, slot: Slot, out: Slot) -> wgpu::Buffer {
        if slot == out { self.gpu.nothing.clone() } else { self.slots[slot.0].clone() }
    }

    /// A weight of one F32 value per column, or nothing.
    fn vector(
        &self,
        weight: Option<WeightRef>,
        width: usize,
        step: StepKind,
    ) -> Result<wgpu::Buffer> {
        let Some(weight) = weight else { return Ok(self.gpu.nothing.clone()) };
        let weight = &self.weights[weight.0];
        expect(&weight.name, weight.width * weight.n_rows, width)?;
        match &weight.parts[..] {
            [part] if weight.format.ty == TensorType::F32 => Ok(part.planes[0].clone()),
            _ => Err(Error::UnsupportedType {
                tensor: weight.name.clone(),
                ty: weight.format.ty,
                backend: NAME,
                step,
                supported: TensorType::F32.to_string(),
            }),
        }
    }

    /// A dispatch without weight formats, one row per workgroup.
    fn rowwise(
        &mut self,
        kernel: &'static Kernel,
        constants: &Constants,
        operands: &[&wgpu::Buffer],
        n_groups: usize,
        out: Slot,
    ) -> Dispatch {
        let variant = Variant { kernel, format: None, n_rows: 1 };
        self.dispatch(&[variant], constants, operands, n_groups, out)
    }

    fn dispatch(
        &mut self,
        variants: &[Variant],
        constants: &Constants,
        operands: &[&wgpu::Buffer],
        n_groups: usize,
        out: Slot,
    ) -> Dispatch {
        let bind_group = self.pipelines.bind(variants[0].kernel, operands);
        let variants = variants
            .iter()
            .map(|variant| (variant.n_rows, self.pipelines.pipeline(*variant, constants)))
            .collect();
        Dispatch { variants, bind_group, n_groups, rows: self.rows(out) }
    }
}

fn refuse(what: String) -> Error {
    Error::Unsupported { what, backend: NAME }
}

fn expect(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::ShapeMismatch { what: what.to_owned(), expected, found })
}
