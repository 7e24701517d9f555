//! Random dense decoders as programs, without a GGUF file or a recipe.
//!
//! [`Decoder`] says what the model has; [`Decoder::build`] makes a [`Model`] of
//! it, which every backend can open. [`Call`] holds what a
//! [`realm_ir::BatchView`] borrows.

use std::ops::Range;
use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Activation, AdapterUse, Add, Attend, Backend, BatchView, Embed, GatedAct, HeadNorm, KvLayer,
    KvLayout, KvType, Linear, LinearOutput, Norm, NormKind, Program, Result, RopeSpec, RopeStore,
    RopeStyle, Rows, SequenceView, Session, SessionConfig, Slot, SlotInfo, StateLayout, Step,
    TakeRows, WeightLayout, WeightRef,
};

use crate::random::{self, Random};

const EPSILON: f32 = 1e-5;

/// Recurrent states of a session: sequences that a [`Call`] may have.
const N_STATES: usize = 2;

/// What a random decoder has. The default is a small llama: two layers, grouped
/// queries, interleaved rotation, nothing else.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Seed of the weights.
    pub seed: u64,
    /// Transformer blocks.
    pub n_layers: usize,
    /// Entries of the vocabulary.
    pub n_vocab: usize,
    /// Values of the hidden state.
    pub width: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values per query and key head.
    pub key_width: usize,
    /// Values per value head.
    pub value_width: usize,
    /// Values between the feed-forward matrices.
    pub ff_width: usize,
    /// Storage of the matrices; norms and biases are F32.
    pub ty: TensorType,
    /// Storage of the embedding table.
    pub embedding_ty: TensorType,
    /// RMS norm of query and key heads.
    pub head_norm: bool,
    /// Bias on queries, keys and values.
    pub bias: bool,
    /// A norm after attention and after the feed-forward part (Gemma).
    pub post_norms: bool,
    /// The kind of the norms.
    pub norm: NormKind,
    /// Rotation, or none.
    pub rope: Option<RopeStyle>,
    /// Values of a head that turn.
    pub rope_dims: usize,
    /// Sliding window of the even layers.
    pub window: Option<u32>,
    /// Cap on attention scores.
    pub softcap: Option<f32>,
    /// False lets rows see those after them.
    pub causal: bool,
    /// Activation of the gate.
    pub activation: Activation,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            seed: 1,
            n_layers: 2,
            n_vocab: 64,
            width: 256,
            n_heads: 8,
            n_kv_heads: 2,
            key_width: 32,
            value_width: 32,
            ff_width: 512,
            ty: TensorType::F32,
            embedding_ty: TensorType::F32,
            head_norm: false,
            bias: false,
            post_norms: false,
            norm: NormKind::Rms,
            rope: Some(RopeStyle::Interleaved),
            rope_dims: 32,
            window: None,
            softcap: None,
            causal: true,
            activation: Activation::Silu,
        }
    }
}

/// A program and the cache it needs.
#[derive(Clone, Debug)]
pub struct Model {
    /// The program.
    pub program: Arc<Program>,
    /// Shapes for [`KvLayout::layers`].
    pub kv_layers: Vec<KvLayer>,
}

impl Model {
    /// Uploads every weight and opens a session.
    ///
    /// # Errors
    /// Those of [`Backend::upload`] and [`Backend::session`].
    pub fn open(&self, backend: &dyn Backend, size: Size) -> Result<Box<dyn Session>> {
        self.open_with(backend, size, state_widths(&self.program))
    }

    /// The same with recurrent states of these widths.
    ///
    /// # Errors
    /// Those of [`Model::open`].
    pub fn open_with(
        &self,
        backend: &dyn Backend,
        size: Size,
        widths: Vec<usize>,
    ) -> Result<Box<dyn Session>> {
        let config = self.config_with(size, widths);
        self.program.check(&config)?;
        let mut weights = Vec::new();
        for together in self.program.weights_together() {
            let tensors: Vec<_> = together.iter().map(|w| self.program.weight(*w)).collect();
            weights.extend(together.into_iter().zip(backend.upload_together(&tensors)?));
        }
        weights.sort_by_key(|(weight, _)| weight.0);
        let weights = weights.into_iter().map(|(_, weight)| weight).collect();
        backend.session(Arc::clone(&self.program), weights, config)
    }

    /// What a session of that size is opened for.
    pub fn config(&self, size: Size) -> SessionConfig {
        self.config_with(size, state_widths(&self.program))
    }

    fn config_with(&self, size: Size, widths: Vec<usize>) -> SessionConfig {
        let kv = KvLayout {
            layers: self.kv_layers.clone(),
            page_tokens: size.page_tokens,
            n_pages: size.n_pages,
            ty: size.kv_type,
        };
        let n_states = if widths.is_empty() { 0 } else { N_STATES };
        SessionConfig {
            kv,
            states: StateLayout { widths, n_states },
            max_rows: size.max_rows,
            max_outputs: size.max_outputs,
            layout: size.layout,
        }
    }

    /// Runs what somebody does who has just loaded a file: five tokens in one call, then two
    /// more one by one.
    ///
    /// # Errors
    /// Those of [`Backend::upload`], [`Backend::session`] and [`Session::run`].
    pub fn run_a_little(&self, backend: &dyn Backend, state_widths: Vec<usize>) -> Result<()> {
        let size = Size { max_rows: 5, max_outputs: 5, n_pages: 2, ..Size::default() };
        let mut session = self.open_with(backend, size, state_widths)?;
        let n_vocab = self.program.n_vocab().map_or(u32::MAX, |n| n as u32);
        let tokens = [1, 2, 3, 4, 5, 6, 7].map(|token| token % n_vocab);
        Call::one(&tokens[..5], 0, &[1, 0]).logits(self, &mut *session)?;
        for position in 5..7 {
            let call = Call::one(&tokens[position..=position], position as u32, &[1, 0]);
            call.logits(self, &mut *session)?;
        }
        Ok(())
    }

    /// Whether no row sees those after it; else all of a text has to come in one call.
    pub fn is_causal(&self) -> bool {
        let mut steps = self.program.segments.iter().flatten();
        !steps.any(|step| matches!(step, Step::Attend(attend) if !attend.causal))
    }

    /// Every segment: embedding, layers and head.
    pub fn segments(&self) -> Range<usize> {
        0..self.program.segments.len()
    }
}

/// Values that each recurrent step of a program keeps.
fn state_widths(program: &Program) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut set = |index: usize, width: usize| {
        widths.resize(widths.len().max(index + 1), 0);
        widths[index] = width;
    };
    for step in program.segments.iter().flatten() {
        match step {
            Step::Conv(step) => {
                let weight = program.weight(step.weight);
                set(step.state, (weight.row_len() - 1) * weight.n_rows());
            }
            Step::DeltaNet(step) => {
                set(step.state, step.n_value_heads * step.key_width * step.value_width);
            }
            Step::SelectiveScan(step) => {
                set(step.state, step.n_heads * step.head_width * step.state_width);
            }
            _ => {}
        }
    }
    widths
}

/// How large a session is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Positions per page.
    pub page_tokens: usize,
    /// Pages of the cache.
    pub n_pages: usize,
    /// Storage of keys and values.
    pub kv_type: KvType,
    /// Most rows of a batch.
    pub max_rows: usize,
    /// Most output rows of a batch.
    pub max_outputs: usize,
    /// Layout of the matrices.
    pub layout: WeightLayout,
}

impl Default for Size {
    fn default() -> Self {
        Size {
            page_tokens: 4,
            n_pages: 16,
            kv_type: KvType::F32,
            max_rows: 16,
            max_outputs: 16,
            layout: WeightLayout::Mapped,
        }
    }
}

/// One sequence's part of a [`Call`].
#[derive(Clone, Debug)]
pub struct Part {
    /// Token ids, one per row.
    pub tokens: Vec<u32>,
    /// Position of the first.
    pub start: u32,
    /// Page table of the sequence.
    pub pages: Vec<u32>,
    /// What it runs with beside the weights.
    pub adapters: Vec<AdapterUse>,
}

/// A batch that owns its parts; every row is an output row.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The sequences.
    pub parts: Vec<Part>,
}

impl Call {
    /// A call of one sequence.
    pub fn one(tokens: &[u32], start: u32, pages: &[u32]) -> Self {
        Call::default().and(tokens, start, pages)
    }

    /// The same call with one sequence more.
    pub fn and(mut self, tokens: &[u32], start: u32, pages: &[u32]) -> Self {
        let (tokens, pages, adapters) = (tokens.to_vec(), pages.to_vec(), Vec::new());
        self.parts.push(Part { tokens, start, pages, adapters });
        self
    }

    /// The same call with adapters for its last sequence.
    ///
    /// # Panics
    /// Without a sequence.
    pub fn with(mut self, adapters: &[AdapterUse]) -> Self {
        self.parts.last_mut().expect("a sequence").adapters = adapters.to_vec();
        self
    }

    /// Rows of all sequences.
    pub fn n_rows(&self) -> usize {
        self.parts.iter().map(|part| part.tokens.len()).sum()
    }

    /// Runs segments of a session over this call.
    ///
    /// # Errors
    /// Those of [`Session::run`].
    pub fn run(&self, session: &mut dyn Session, segments: Range<usize>) -> Result<()> {
        let tokens: Vec<u32> = self.parts.iter().flat_map(|p| p.tokens.clone()).collect();
        let positions: Vec<u32> =
            self.parts.iter().flat_map(|p| (p.start..).take(p.tokens.len())).collect();
        let mut first_row = 0;
        let mut sequences = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let (n_rows, state) = (part.tokens.len(), index as u32);
            let (pages, adapters) = (&part.pages, &part.adapters);
            sequences.push(SequenceView { first_row, n_rows, pages, state, adapters });
            first_row += n_rows;
        }
        let output_rows: Vec<u32> = (0..tokens.len() as u32).collect();
        session.run(
            segments,
            &BatchView {
                tokens: &tokens,
                positions: &positions,
                sequences: &sequences,
                output_rows: &output_rows,
                interrupt: None,
            },
        )
    }

    /// Runs all of `model` over this call and reads the logits, `[rows, n_vocab]`.
    ///
    /// # Errors
    /// Those of [`Session::run`] and [`Session::read`].
    pub fn logits(&self, model: &Model, session: &mut dyn Session) -> Result<Vec<f32>> {
        self.run(session, model.segments())?;
        read(model, session, model.program.logits, self.n_rows())
    }
}

/// Reads the first `n_rows` of a slot, waiting for them.
///
/// # Errors
/// Those of [`Session::read`].
pub fn read(
    model: &Model,
    session: &mut dyn Session,
    slot: Slot,
    n_rows: usize,
) -> Result<Vec<f32>> {
    let mut values = vec![0.0; n_rows * model.program.width(slot)];
    pollster::block_on(session.read(slot, 0..n_rows, &mut values))?;
    Ok(values)
}

impl Decoder {
    /// Decoders of this size that use every option of every step between them.
    pub fn variants(&self) -> Vec<Decoder> {
        let base = || self.clone();
        vec![
            base(),
            Decoder { rope: Some(RopeStyle::Halves), rope_dims: 16, head_norm: true, ..base() },
            Decoder { bias: true, window: Some(3), softcap: Some(5.0), ..base() },
            Decoder { post_norms: true, activation: Activation::GeluTanh, ..base() },
            Decoder {
                norm: NormKind::Layer,
                activation: Activation::GeluErf,
                rope: None,
                ..base()
            },
            Decoder { causal: false, ..base() },
        ]
    }

    /// Makes the weights and the steps.
    pub fn build(&self) -> Model {
        let mut builder =
            Builder { random: Random::new(self.seed), slots: vec![], weights: vec![] };
        let slots = LayerSlots {
            hidden: builder.slot(self.width, Rows::Batch),
            normed: builder.slot(self.width, Rows::Batch),
            q: builder.slot(self.n_heads * self.key_width, Rows::Batch),
            k: builder.slot(self.n_kv_heads * self.key_width, Rows::Batch),
            v: builder.slot(self.n_kv_heads * self.value_width, Rows::Batch),
            mixed: builder.slot(self.n_heads * self.value_width, Rows::Batch),
            gate: builder.slot(self.ff_width, Rows::Batch),
            up: builder.slot(self.ff_width, Rows::Batch),
            outputs: builder.slot(self.width, Rows::Outputs),
            logits: builder.slot(self.n_vocab, Rows::Outputs),
        };
        let table = builder.matrix("token_embd", [self.width, self.n_vocab], self.embedding_ty);
        let embed = Embed { table, out: slots.hidden, scale: 1.0, positions: None, constant: None };
        let mut segments = vec![vec![Step::Embed(embed)]];
        for layer in 0..self.n_layers {
            let mut steps = self.attention(&mut builder, &slots, layer);
            steps.extend(self.feed_forward(&mut builder, &slots, layer));
            segments.push(steps);
        }
        segments.push(self.head(&mut builder, &slots));
        let kv_layer = KvLayer {
            n_kv_heads: self.n_kv_heads,
            key_width: self.key_width,
            value_width: self.value_width,
        };
        Model {
            program: Arc::new(Program {
                slots: builder.slots,
                weights: builder.weights,
                segments,
                hidden: slots.hidden,
                carried: Vec::new(),
                logits: slots.logits,
            }),
            kv_layers: vec![kv_layer; self.n_layers],
        }
    }

    fn attention(&self, builder: &mut Builder, slots: &LayerSlots, layer: usize) -> Vec<Step> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut product = |part: &str, out: Slot| {
            let shape = [self.width, builder.slots[out.0].width];
            let bias = self.bias.then(|| builder.vector(&name(part), shape[1], 0.0));
            let weight = builder.matrix(&name(part), shape, self.ty);
            LinearOutput { weight, bias, out, scale: 1.0, accumulate: false }
        };
        let outputs = vec![
            product("attn_q", slots.q),
            product("attn_k", slots.k),
            product("attn_v", slots.v),
        ];
        let head_norm = self.head_norm.then(|| HeadNorm {
            q_weight: builder.vector(&name("attn_q_norm"), self.key_width, 1.0),
            k_weight: builder.vector(&name("attn_k_norm"), self.key_width, 1.0),
            epsilon: EPSILON,
            after_rope: false,
        });
        let rope = self.rope.map(|style| RopeSpec {
            style,
            inverse_frequencies: (0..self.rope_dims / 2)
                .map(|pair| 10_000f32.powf(-2.0 * pair as f32 / self.rope_dims as f32))
                .collect(),
            magnitude: 1.0,
            offset: 0,
        });
        let mut steps = vec![
            self.norm(builder, &name("attn_norm"), slots.hidden, slots.normed),
            Step::Linear(Linear { input: slots.normed, outputs }),
            Step::RopeStore(RopeStore {
                q: slots.q,
                k: slots.k,
                v: slots.v,
                kv_layer: layer,
                n_heads: self.n_heads,
                head_norm,
                rope,
                temperature: None,
            }),
            Step::Attend(Attend {
                q: slots.q,
                out: slots.mixed,
                kv_layer: layer,
                n_heads: self.n_heads,
                scale: 1.0 / (self.key_width as f32).sqrt(),
                window: self.window.filter(|_| layer.is_multiple_of(2)),
                chunked: false,
                softcap: self.softcap,
                sinks: None,
                alibi_max_bias: None,
                causal: self.causal,
            }),
        ];
        let shape = [self.n_heads * self.value_width, self.width];
        let weight = builder.matrix(&name("attn_output"), shape, self.ty);
        steps.extend(self.residual(
            builder,
            slots,
            slots.mixed,
            weight,
            &name("post_attention_norm"),
        ));
        steps
    }

    fn feed_forward(&self, builder: &mut Builder, slots: &LayerSlots, layer: usize) -> Vec<Step> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let mut product = |part: &str, out: Slot| LinearOutput {
            weight: builder.matrix(&name(part), [self.width, self.ff_width], self.ty),
            bias: None,
            out,
            scale: 1.0,
            accumulate: false,
        };
        let outputs = vec![product("ffn_gate", slots.gate), product("ffn_up", slots.up)];
        let mut steps = vec![
            self.norm(builder, &name("ffn_norm"), slots.hidden, slots.normed),
            Step::Linear(Linear { input: slots.normed, outputs }),
            Step::GatedAct(GatedAct {
                gate: slots.gate,
                up: Some(slots.up),
                up_offset: 0,
                out: slots.gate,
                activation: self.activation,
            }),
        ];
        let weight = builder.matrix(&name("ffn_down"), [self.ff_width, self.width], self.ty);
        steps.extend(self.residual(builder, slots, slots.gate, weight, &name("post_ffw_norm")));
        steps
    }

    /// Adds `input x weight^T` to the hidden state, through a norm if there are any after blocks.
    fn residual(
        &self,
        builder: &mut Builder,
        slots: &LayerSlots,
        input: Slot,
        weight: WeightRef,
        norm_name: &str,
    ) -> Vec<Step> {
        let output = |out, accumulate| {
            let outputs = vec![LinearOutput { weight, bias: None, out, scale: 1.0, accumulate }];
            Step::Linear(Linear { input, outputs })
        };
        if !self.post_norms {
            return vec![output(slots.hidden, true)];
        }
        vec![
            output(slots.normed, false),
            self.norm(builder, norm_name, slots.normed, slots.normed),
            Step::Add(Add {
                a: slots.hidden,
                b: slots.normed,
                out: slots.hidden,
                a_scale: 1.0,
                scale: 1.0,
            }),
        ]
    }

    fn head(&self, builder: &mut Builder, slots: &LayerSlots) -> Vec<Step> {
        let take = Step::TakeRows(TakeRows { input: slots.hidden, out: slots.outputs });
        let norm = self.norm(builder, "output_norm", slots.outputs, slots.outputs);
        let weight = builder.matrix("output", [self.width, self.n_vocab], self.ty);
        let output =
            LinearOutput { weight, bias: None, out: slots.logits, scale: 1.0, accumulate: false };
        vec![take, norm, Step::Linear(Linear { input: slots.outputs, outputs: vec![output] })]
    }

    fn norm(&self, builder: &mut Builder, name: &str, input: Slot, out: Slot) -> Step {
        let weight = Some(builder.vector(name, self.width, 1.0));
        let bias = (self.norm == NormKind::Layer).then(|| builder.vector(name, self.width, 0.0));
        Step::Norm(Norm {
            input,
            out,
            kind: self.norm,
            groups: 1,
            width: self.width,
            weight,
            bias,
            epsilon: EPSILON,
        })
    }
}

/// The slots of a decoder; all layers share them.
struct LayerSlots {
    hidden: Slot,
    normed: Slot,
    q: Slot,
    k: Slot,
    v: Slot,
    mixed: Slot,
    gate: Slot,
    up: Slot,
    outputs: Slot,
    logits: Slot,
}

struct Builder {
    random: Random,
    slots: Vec<SlotInfo>,
    weights: Vec<TensorData>,
}

impl Builder {
    fn slot(&mut self, width: usize, rows: Rows) -> Slot {
        self.slots.push(SlotInfo { width, rows });
        Slot(self.slots.len() - 1)
    }

    fn push(&mut self, weight: TensorData) -> WeightRef {
        self.weights.push(weight);
        WeightRef(self.weights.len() - 1)
    }

    /// A matrix whose products keep the scale of their input.
    fn matrix(&mut self, name: &str, shape: [usize; 2], ty: TensorType) -> WeightRef {
        let deviation = 1.0 / (shape[0] as f32).sqrt();
        let name = format!("{name}.weight");
        let weight = random::tensor(&mut self.random, &name, &shape, ty, deviation);
        self.push(weight)
    }

    /// Values of standard deviation 0.1 around `mean`: a norm's factors or a bias.
    fn vector(&mut self, name: &str, width: usize, mean: f32) -> WeightRef {
        let normals = self.random.normals(width);
        let values: Vec<f32> = normals.into_iter().map(|value| mean + 0.1 * value).collect();
        let kind = if mean == 0.0 { "bias" } else { "weight" };
        self.push(random::vector(&format!("{name}.{kind}"), &values))
    }
}
