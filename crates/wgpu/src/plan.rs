//! Steps become dispatches: a pipeline, a bind group and the size of the grid.

use std::sync::Arc;

use bytemuck::cast_slice;
use realm_gguf::TensorType;
use realm_ir::{
    Activation, Add, Attend, Embed, Error, GatedAct, HeadNorm, KvLayer, KvLayout, Linear,
    LinearOutput, Norm, NormKind, Program, Result, RopeSpec, RopeStore, RopeStyle, Rows, Slot,
    Step, StepKind, TakeRows, WeightRef,
};

use crate::NAME;
use crate::gpu::Gpu;
use crate::kernel::{
    ADD, ATTEND, Constants, EMBED, GATED_ACT, Kernel, LINEAR, LINEAR_COLUMNS, NORM, Pipelines,
    ROPE_STORE, TAKE_ROWS, THREADS, Variant,
};
use crate::rope;
use crate::weight::{GROUP, Part, Weight};

/// Most workgroups in one dimension of a grid: WebGPU's guaranteed limit.
pub(crate) const MAX_GRID: usize = 65_535;

/// Rows that a workgroup of a matrix product shares a weight between: of one row
/// for decoding, of several for prefill.
const LINEAR_ROWS: [usize; 2] = [1, 8];

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

    fn embed(&mut self, step: &Embed) -> Result<Vec<Dispatch>> {
        if step.positions.is_some() || step.constant.is_some() {
            return Err(refuse("an embedding with learned positions or types".to_owned()));
        }
        let table = Arc::clone(&self.weights[step.table.0]);
        let width = self.width(step.out);
        expect(&table.name, table.width, width)?;
        whole_groups(&table, width)?;
        let mut dispatches = Vec::new();
        for part in &table.parts {
            let constants = vec![
                ("width", count(width)),
                ("first_token", count(part.rows.start)),
                ("n_tokens", count(part.rows.len())),
                ("scale", step.scale.into()),
            ];
            let [first, second] = &part.planes;
            let out = &self.slots[step.out.0];
            let variant = Variant { kernel: &EMBED, format: Some(table.format), n_rows: 1 };
            dispatches.push(self.dispatch(
                &[variant],
                &constants,
                &[first, second, out],
                1,
                step.out,
            ));
        }
        Ok(dispatches)
    }

    fn norm(&mut self, step: &Norm) -> Result<Vec<Dispatch>> {
        let width = self.width(step.input);
        if step.groups != 1 || step.width != width {
            return Err(refuse("a norm of parts of a row".to_owned()));
        }
        expect("result of a norm", self.width(step.out), width)?;
        let constants = vec![
            ("width", count(width)),
            ("epsilon", step.epsilon.into()),
            ("layer_norm", flag(step.kind == NormKind::Layer)),
            ("has_weight", flag(step.weight.is_some())),
            ("has_bias", flag(step.bias.is_some())),
            ("in_place", flag(step.input == step.out)),
        ];
        let weight = self.vector(step.weight, width, StepKind::Norm)?;
        let bias = self.vector(step.bias, width, StepKind::Norm)?;
        let input = self.input(step.input, step.out);
        let out = &self.slots[step.out.0];
        Ok(vec![self.rowwise(&NORM, &constants, &[&input, &weight, &bias, out], 1, step.out)])
    }

    fn linear(&mut self, step: &Linear) -> Result<Vec<Dispatch>> {
        let mut dispatches = Vec::new();
        for output in &step.outputs {
            let weight = Arc::clone(&self.weights[output.weight.0]);
            expect(&weight.name, weight.width, self.width(step.input))?;
            expect(&weight.name, weight.n_rows, self.width(output.out))?;
            whole_groups(&weight, weight.width)?;
            for part in &weight.parts {
                dispatches.push(self.product(step.input, output, &weight, part)?);
            }
        }
        Ok(dispatches)
    }

    /// The columns of one output that one part of its weight makes.
    fn product(
        &mut self,
        input: Slot,
        output: &LinearOutput,
        weight: &Weight,
        part: &Part,
    ) -> Result<Dispatch> {
        let constants = vec![
            ("width", count(weight.width)),
            ("n_columns", count(part.rows.len())),
            ("first_column", count(part.rows.start)),
            ("out_width", count(weight.n_rows)),
            ("scale", output.scale.into()),
            ("has_bias", flag(output.bias.is_some())),
            ("accumulate", flag(output.accumulate)),
            ("of_outputs", flag(self.rows(output.out) == Rows::Outputs)),
        ];
        let bias = self.vector(output.bias, weight.n_rows, StepKind::Linear)?;
        let [first, second] = &part.planes;
        let operands = [first, second, &bias, &self.slots[input.0], &self.slots[output.out.0]];
        let variants = LINEAR_ROWS.map(|n_rows| Variant {
            kernel: &LINEAR,
            format: Some(weight.format),
            n_rows,
        });
        let n_groups = part.rows.len().div_ceil(LINEAR_COLUMNS);
        Ok(self.dispatch(&variants, &constants, &operands, n_groups, output.out))
    }

    fn rope_store(&mut self, step: &RopeStore) -> Result<Vec<Dispatch>> {
        let layer = self.kv_layout.layers[step.kv_layer];
        expect("queries of a rotation", self.width(step.q), step.n_heads * layer.key_width)?;
        expect("keys of a rotation", self.width(step.k), layer.n_kv_heads * layer.key_width)?;
        expect("values to store", self.width(step.v), layer.n_kv_heads * layer.value_width)?;
        let rope = step.rope.as_ref();
        if step.k == step.v || rope.is_some_and(|rope| rope.offset > 0) {
            return Err(refuse("latent attention".to_owned()));
        }
        if rope.is_some_and(|rope| rope.n_dims() > layer.key_width) {
            return Err(refuse(format!("a rotation wider than a head of {}", layer.key_width)));
        }
        if step.head_norm.as_ref().is_some_and(|norm| norm.after_rope) {
            return Err(refuse("a norm of heads after their rotation".to_owned()));
        }
        if step.temperature.is_some() {
            return Err(refuse("queries that grow with their position".to_owned()));
        }
        let mut constants = self.kv_constants(layer);
        constants.extend([
            ("n_heads", count(step.n_heads)),
            ("n_dims", count(rope.map_or(0, RopeSpec::n_dims))),
            ("interleaved", flag(rope.is_some_and(|r| r.style == RopeStyle::Interleaved))),
            ("has_norm", flag(step.head_norm.is_some())),
            ("epsilon", step.head_norm.as_ref().map_or(0.0, |norm| norm.epsilon.into())),
        ]);
        let angles = self.angles(rope)?;
        let norm = self.head_norm(step.head_norm.as_ref(), layer.key_width)?;
        let [q, k, v] = [step.q, step.k, step.v].map(|slot| &self.slots[slot.0]);
        let operands = [k, v, &angles, &norm, q, &self.kv[step.kv_layer]];
        let n_groups = step.n_heads + layer.n_kv_heads;
        Ok(vec![self.rowwise(&ROPE_STORE, &constants, &operands, n_groups, step.q)])
    }

    fn attend(&mut self, step: &Attend) -> Result<Vec<Dispatch>> {
        if step.sinks.is_some() || step.alibi_max_bias.is_some() {
            return Err(refuse("attention with sinks or linear biases".to_owned()));
        }
        if step.window.is_some() && (step.chunked || !step.causal) {
            return Err(refuse("a window that does not end at the row".to_owned()));
        }
        let layer = self.kv_layout.layers[step.kv_layer];
        expect("queries of attention", self.width(step.q), step.n_heads * layer.key_width)?;
        expect("result of attention", self.width(step.out), step.n_heads * layer.value_width)?;
        let mut constants = self.kv_constants(layer);
        constants.extend([
            ("n_heads", count(step.n_heads)),
            ("scale", step.scale.into()),
            ("softcap", step.softcap.unwrap_or(0.0).into()),
            ("window", step.window.unwrap_or(0).into()),
            ("causal", flag(step.causal)),
        ]);
        let operands = [&self.slots[step.q.0], &self.kv[step.kv_layer], &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&ATTEND, &constants, &operands, step.n_heads, step.out)])
    }

    fn gated_act(&mut self, step: &GatedAct) -> Result<Vec<Dispatch>> {
        let width = self.width(step.gate);
        expect("result of an activation", self.width(step.out), width)?;
        if let Some(up) = step.up {
            if step.up_offset > 0 || self.width(up) > width {
                return Err(refuse("an activation with part of a factor".to_owned()));
            }
            expect("factor of an activation", self.width(up), width)?;
        }
        let (activation, cap) = match step.activation {
            Activation::Silu => (0, 0.0),
            Activation::GeluTanh => (1, 0.0),
            Activation::GeluErf => (2, 0.0),
            Activation::Softcap(cap) => (3, cap),
            other => return Err(refuse(format!("the activation {other:?}"))),
        };
        let constants = vec![
            ("width", count(width)),
            ("has_up", flag(step.up.is_some())),
            ("in_place", flag(step.gate == step.out)),
            ("activation", activation.into()),
            ("cap", cap.into()),
        ];
        let gate = self.input(step.gate, step.out);
        let up = match step.up {
            Some(up) if up == step.out => {
                return Err(refuse("an activation that overwrites its factor".to_owned()));
            }
            Some(up) => self.slots[up.0].clone(),
            None => self.gpu.nothing.clone(),
        };
        let operands = [&gate, &up, &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&GATED_ACT, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }

    fn add(&mut self, step: &Add) -> Result<Vec<Dispatch>> {
        let width = self.width(step.a);
        expect("second term of a sum", self.width(step.b), width)?;
        expect("result of a sum", self.width(step.out), width)?;
        if step.a_scale != 1.0 {
            return Err(refuse("a sum with a factor on its first term".to_owned()));
        }
        if step.b == step.out {
            return Err(refuse("a sum that overwrites its second term".to_owned()));
        }
        let constants = vec![
            ("width", count(width)),
            ("scale", step.scale.into()),
            ("in_place", flag(step.a == step.out)),
        ];
        let a = self.input(step.a, step.out);
        let operands = [&a, &self.slots[step.b.0], &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&ADD, &constants, &operands, width.div_ceil(THREADS), step.out)])
    }

    fn take_rows(&mut self, step: &TakeRows) -> Result<Vec<Dispatch>> {
        let width = self.width(step.input);
        expect("rows taken", self.width(step.out), width)?;
        let constants = vec![("width", count(width))];
        let operands = [&self.slots[step.input.0], &self.slots[step.out.0]];
        Ok(vec![self.rowwise(&TAKE_ROWS, &constants, &operands, width.div_ceil(THREADS), step.out)])
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

    /// The norm of a query head, then that of a key head, in one buffer.
    fn head_norm(&self, norm: Option<&HeadNorm>, width: usize) -> Result<wgpu::Buffer> {
        let Some(norm) = norm else { return Ok(self.gpu.nothing.clone()) };
        let mut bytes = Vec::new();
        for weight in [norm.q_weight, norm.k_weight] {
            self.vector(Some(weight), width, StepKind::RopeStore)?;
            bytes.extend_from_slice(self.program.weight(weight).bytes());
        }
        self.gpu.constant("head norm", &bytes)
    }

    fn angles(&mut self, rope: Option<&RopeSpec>) -> Result<wgpu::Buffer> {
        let Some(rope) = rope else { return Ok(self.gpu.nothing.clone()) };
        let same = |other: &RopeSpec| {
            other.inverse_frequencies == rope.inverse_frequencies
                && other.magnitude == rope.magnitude
        };
        if let Some((_, buffer)) = self.angles.iter().find(|(other, _)| same(other)) {
            return Ok(buffer.clone());
        }
        let buffer = self.gpu.constant("rope angles", cast_slice(&rope::angles(rope)))?;
        self.angles.push((rope.clone(), buffer.clone()));
        Ok(buffer)
    }

    fn kv_constants(&self, layer: KvLayer) -> Constants {
        vec![
            ("page_tokens", count(self.kv_layout.page_tokens)),
            ("n_kv_heads", count(layer.n_kv_heads)),
            ("key_width", count(layer.key_width)),
            ("value_width", count(layer.value_width)),
        ]
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

fn whole_groups(weight: &Weight, width: usize) -> Result<()> {
    if width.is_multiple_of(GROUP) {
        return Ok(());
    }
    Err(refuse(format!("{}: rows of {width} values, not a multiple of {GROUP},", weight.name)))
}
