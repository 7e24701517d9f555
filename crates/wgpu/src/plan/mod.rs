//! Steps become dispatches: a pipeline, a bind group and the size of the grid.

mod addition;
pub(crate) mod attend;
pub(crate) mod linear;
pub(crate) mod moe;
mod recurrent;
pub(crate) mod rows;

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytemuck::cast_slice;
use realm_gguf::TensorType;
use realm_ir::{
    BatchView, Error, Program, Result, RopeSpec, Rows, SessionConfig, Slot, Step, WeightRef,
};

use crate::NAME;
use crate::batch;
use crate::gpu::{Gpu, word_bytes};
use crate::kernel::{Constants, Kernel};
use crate::memory::Memory;
use crate::product::ProductKernel;
use crate::weight::Weight;
use addition::Site;
use attend::AttendGrid;

/// Most workgroups in one dimension of a grid: WebGPU's guaranteed limit.
pub(crate) const MAX_GRID: usize = 65_535;

/// What a grid depends on in a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub n_rows: usize,
    pub n_outputs: usize,
    pub n_sequences: usize,
    /// Most positions that a row can see: the last position of the batch and those before it.
    pub n_positions: usize,
}

impl Extent {
    pub fn of(batch: &BatchView<'_>) -> Self {
        let last = batch.positions.iter().max();
        Extent {
            n_rows: batch.n_rows(),
            n_outputs: batch.output_rows.len(),
            n_sequences: batch::sequences(batch).count(),
            n_positions: last.map_or(0, |last| (*last as usize).saturating_add(1)),
        }
    }
}

/// The workgroups of a command.
pub(crate) enum Grid {
    PerRow(RowsGrid),
    /// So many for one sequence.
    PerSequence {
        n_groups: usize,
    },
    Attend(AttendGrid),
    /// Of what puts the shares of attention together.
    AttendMerge(AttendGrid),
}

impl Grid {
    /// The variant to run, by its index, and the workgroups in x, y and z; `None` for no work.
    fn of(&self, extent: &Extent) -> Option<(usize, [usize; 3])> {
        match self {
            Grid::PerRow(grid) => grid.of(extent).map(|groups| (0, groups)),
            Grid::PerSequence { n_groups } => {
                (extent.n_sequences > 0).then_some((0, [*n_groups, extent.n_sequences, 1]))
            }
            Grid::Attend(grid) => grid.of(extent),
            Grid::AttendMerge(grid) => grid.merge(extent),
        }
    }
}

/// So many workgroups for some items of a batch, of which each row has as many.
#[derive(Clone, Debug)]
pub(crate) struct RowsGrid {
    /// Workgroups for some items. A grid wider than allowed goes on in depth.
    pub n_groups: usize,
    /// What rows are counted.
    pub rows: Rows,
    /// Counts of rows for which there is anything to do.
    pub when: RangeInclusive<usize>,
    /// Items of a row, and items that a workgroup takes together.
    pub row_items: usize,
    pub group_items: usize,
    /// Workgroups beside those that the items make.
    pub more: usize,
    /// All that as many times in depth; otherwise 1.
    pub depth: usize,
}

impl RowsGrid {
    /// So many workgroups for each row.
    pub fn new(n_groups: usize, rows: Rows) -> Self {
        let when = 1..=usize::MAX;
        RowsGrid { n_groups, rows, when, row_items: 1, group_items: 1, more: 0, depth: 1 }
    }

    fn of(&self, extent: &Extent) -> Option<[usize; 3]> {
        let n_rows = match self.rows {
            Rows::Batch => extent.n_rows,
            Rows::Outputs => extent.n_outputs,
        };
        let y = (n_rows * self.row_items).div_ceil(self.group_items) + self.more;
        let z = self.depth * self.n_groups.div_ceil(MAX_GRID);
        self.when.contains(&n_rows).then_some([self.n_groups.min(MAX_GRID), y, z])
    }
}

/// One command, ready but for what depends on the batch.
pub(crate) struct Dispatch {
    variants: Vec<wgpu::ComputePipeline>,
    bind_group: wgpu::BindGroup,
    grid: Grid,
    /// Where adapters add to what was made up to here.
    pub sites: Vec<Site>,
}

impl Dispatch {
    /// Encodes the command for a batch; whether there was anything to do.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>, extent: &Extent) -> bool {
        let Some((variant, [x, y, z])) = self.grid.of(extent) else {
            return false;
        };
        pass.set_pipeline(&self.variants[variant]);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x as u32, y as u32, z as u32);
        true
    }
}

/// What a session owns and steps refer to.
pub(crate) struct Planner<'a> {
    pub gpu: &'a Gpu,
    pub program: &'a Program,
    pub weights: &'a [Arc<Weight>],
    pub config: &'a SessionConfig,
    pub memory: &'a Memory,
    /// Tables of the rotations so far: layers mostly share one.
    angles: Vec<(RopeSpec, wgpu::Buffer)>,
    /// The kernels of products that the steps run.
    pub kernels: HashSet<ProductKernel>,
    /// What a step's dispatches hand to each other, by what it is; steps share it.
    scratch: HashMap<&'static str, wgpu::Buffer>,
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
        config: &'a SessionConfig,
        memory: &'a Memory,
    ) -> Self {
        let (angles, kernels, scratch) = (Vec::new(), HashSet::new(), HashMap::new());
        Planner { gpu, program, weights, config, memory, angles, kernels, scratch }
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
            Step::Rope(step) => self.rope(step),
            Step::Moe(step) => self.moe(step),
            Step::HeadLinear(step) => self.head_linear(step),
            Step::Mix(step) => self.mix(step),
            Step::Sparsify(step) => self.sparsify(step),
            Step::Conv(step) => self.conv(step),
            Step::DeltaNet(step) => self.delta_net(step),
            Step::SelectiveScan(step) => self.selective_scan(step),
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
        if slot == out { self.gpu.nothing.clone() } else { self.slot(slot).clone() }
    }

    fn n_values(&self, weight: WeightRef) -> usize {
        self.weights[weight.0].width * self.weights[weight.0].n_rows
    }

    /// A weight of `n_values` F32 values, of any shape, or nothing.
    fn vector(
        &self,
        weight: Option<WeightRef>,
        n_values: usize,
        step: &'static str,
    ) -> Result<wgpu::Buffer> {
        let Some(weight) = weight else { return Ok(self.gpu.nothing.clone()) };
        let values = self.vector_values(weight, n_values, step)?;
        match self.weights[weight.0].values() {
            Some(buffer) => Ok(buffer.clone()),
            None => self.gpu.constant("vector", cast_slice(&values)),
        }
    }

    /// The same values, to be worked on before they are uploaded.
    fn vector_values(
        &self,
        weight: WeightRef,
        n_values: usize,
        step: &'static str,
    ) -> Result<Vec<f32>> {
        let tensor = self.program.weight(weight);
        expect(tensor.name(), self.n_values(weight), n_values)?;
        if tensor.ty() != TensorType::F32 {
            return Err(Error::UnsupportedType {
                tensor: tensor.name().to_owned(),
                ty: tensor.ty(),
                backend: NAME,
                step,
                supported: TensorType::F32.to_string(),
            });
        }
        Ok(tensor.fetch()?.bytes().chunks_exact(4).map(bytemuck::pod_read_unaligned).collect())
    }

    /// The buffer of a slot.
    fn slot(&self, slot: Slot) -> &'a wgpu::Buffer {
        &self.memory.slots[slot.0]
    }

    /// Rows that a slot can hold.
    fn max_rows(&self, slot: Slot) -> usize {
        max_rows(self.rows(slot), self.config)
    }

    /// A buffer of at least so many values, for dispatches of one step.
    ///
    /// # Errors
    /// Those of [`Gpu::buffer`].
    fn scratch(&mut self, what: &'static str, dimensions: &[usize]) -> Result<wgpu::Buffer> {
        let bytes = word_bytes(dimensions);
        match self.scratch.get(what) {
            Some(buffer) if buffer.size() >= bytes => Ok(buffer.clone()),
            _ => {
                self.gpu.require_scratch(what, bytes)?;
                let buffer = self.gpu.buffer(what, bytes, wgpu::BufferUsages::STORAGE)?;
                self.scratch.insert(what, buffer.clone());
                Ok(buffer)
            }
        }
    }

    /// A dispatch over the rows of a slot, so many workgroups for each.
    fn rowwise(
        &self,
        kernel: &'static Kernel,
        constants: &Constants,
        operands: &[&wgpu::Buffer],
        n_groups: usize,
        out: Slot,
    ) -> Dispatch {
        let grid = RowsGrid::new(n_groups, self.rows(out));
        self.with_grid(kernel, constants, operands, Grid::PerRow(grid))
    }

    /// A dispatch over the sequences of a batch.
    fn per_sequence(
        &self,
        kernel: &'static Kernel,
        constants: &Constants,
        operands: &[&wgpu::Buffer],
        n_groups: usize,
    ) -> Dispatch {
        self.with_grid(kernel, constants, operands, Grid::PerSequence { n_groups })
    }

    fn with_grid(
        &self,
        kernel: &'static Kernel,
        constants: &Constants,
        operands: &[&wgpu::Buffer],
        grid: Grid,
    ) -> Dispatch {
        Dispatch {
            variants: vec![self.gpu.pipelines.pipeline(self.gpu, kernel, constants)],
            bind_group: self.gpu.pipelines.bind(self.gpu, kernel, operands),
            grid,
            sites: Vec::new(),
        }
    }
}

/// Rows that a slot can hold.
pub(crate) fn max_rows(rows: Rows, config: &SessionConfig) -> usize {
    match rows {
        Rows::Batch => config.max_rows,
        Rows::Outputs => config.max_outputs,
    }
}

fn refuse(what: String) -> Error {
    Error::Unsupported { what, backend: NAME }
}

/// # Errors
/// `ShapeMismatch` when fewer than `expected` of `what` are found.
pub(crate) fn at_least(what: &str, found: usize, expected: usize) -> Result<()> {
    if found >= expected {
        return Ok(());
    }
    Err(Error::ShapeMismatch { what: what.to_owned(), expected, found })
}

/// # Errors
/// `ShapeMismatch` when not `expected` of `what` are found.
pub(crate) fn expect(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::ShapeMismatch { what: what.to_owned(), expected, found })
}
