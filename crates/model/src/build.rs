//! Recipe, numbers and tensors become a program.

use realm_gguf::Gguf;
use realm_ir::{
    Activation, Add, Attend, Embed, GatedAct, HeadNorm, KvLayer, Linear, LinearOutput, Norm,
    NormKind, Program, RopeSpec, RopeStore, Rows, Slot, Step, TakeRows, WeightRef,
};

use crate::arch;
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::hyperparameters::{Hyperparameters, LayerHyperparameters};
use crate::program_builder::ProgramBuilder;
use crate::recipe::{EmbedScale, FeedForward, Qkv, Recipe};
use crate::rope::rope_specs;

/// A model ready to be given to a backend.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// Steps and weights.
    pub program: Program,
    /// What each layer keeps per position.
    pub kv_layers: Vec<KvLayer>,
    /// What the file says about itself.
    pub config: ModelConfig,
}

/// Turns `gguf` into a program for sequences of up to `context_length` positions.
///
/// # Errors
/// An architecture, type or feature that is not supported; metadata or tensors
/// that are missing or contradict each other.
pub fn build(gguf: &Gguf, context_length: usize) -> Result<ModelPlan> {
    let key = "general.architecture";
    let architecture = gguf.metadata().require_str(key)?;
    let recipe = arch::find(architecture)
        .ok_or_else(|| Error::unsupported(key, architecture, arch::names()))?;
    let numbers = Hyperparameters::read(gguf, recipe)?;
    let (rope, rope_window) = rope_specs(gguf, recipe, &numbers, context_length)?;
    let mut builder = ProgramBuilder::new(gguf);
    let slots = Slots::new(&mut builder, &numbers);
    let mut layers = LayerBuilder { builder, recipe, numbers: &numbers, slots };

    let table = layers.embed()?;
    let mut kv_layers = Vec::with_capacity(numbers.layers.len());
    for (index, layer) in numbers.layers.iter().enumerate() {
        let rope = if layer.window.is_some() { &rope_window } else { &rope };
        layers.builder.begin_segment();
        layers.attention(index, layer, rope)?;
        layers.feed_forward(index, layer)?;
        kv_layers.push(KvLayer {
            n_kv_heads: layer.n_kv_heads,
            key_width: numbers.key_length,
            value_width: numbers.value_length,
        });
    }
    layers.head(table)?;
    let LayerBuilder { builder, slots, .. } = layers;
    Ok(ModelPlan {
        program: builder.finish(slots.hidden, slots.logits),
        kv_layers,
        config: ModelConfig::new(gguf, &numbers)?,
    })
}

/// The buffers of a decoder. Layers share them.
#[derive(Clone, Copy)]
struct Slots {
    hidden: Slot,
    /// Input of a block's matrices after its norm.
    normed: Slot,
    q: Slot,
    k: Slot,
    v: Slot,
    /// Attention's result, before its output matrix.
    mixed: Slot,
    /// A block's result, where a norm comes before the residual.
    block: Slot,
    gate: Slot,
    up: Slot,
    taken: Slot,
    logits: Slot,
}

impl Slots {
    fn new(builder: &mut ProgramBuilder<'_>, numbers: &Hyperparameters) -> Self {
        let widest = |width: fn(&LayerHyperparameters) -> usize| {
            numbers.layers.iter().map(width).max().expect("at least one layer")
        };
        let (heads, kv_heads) = (widest(|l| l.n_heads), widest(|l| l.n_kv_heads));
        let feed_forward = widest(|l| l.feed_forward_length);
        let embedding = numbers.embedding_length;
        let mut batch = |width| builder.slot(Rows::Batch, width);
        Slots {
            hidden: batch(embedding),
            normed: batch(embedding),
            q: batch(heads * numbers.key_length),
            k: batch(kv_heads * numbers.key_length),
            v: batch(kv_heads * numbers.value_length),
            mixed: batch(heads * numbers.value_length),
            block: batch(embedding),
            gate: batch(feed_forward),
            up: batch(feed_forward),
            taken: builder.slot(Rows::Outputs, embedding),
            logits: builder.slot(Rows::Outputs, numbers.n_vocab),
        }
    }
}

/// Appends the parts of a decoder to a program.
struct LayerBuilder<'a> {
    builder: ProgramBuilder<'a>,
    recipe: &'static Recipe,
    numbers: &'a Hyperparameters,
    slots: Slots,
}

impl LayerBuilder<'_> {
    fn embed(&mut self) -> Result<WeightRef> {
        let width = self.numbers.embedding_length;
        let table = self.builder.weight("token_embd.weight", &[width, self.numbers.n_vocab])?;
        let scale = match self.recipe.embed_scale {
            EmbedScale::One => 1.0,
            EmbedScale::SqrtWidth => (width as f32).sqrt(),
        };
        self.builder.begin_segment();
        self.builder.push(Step::Embed(Embed {
            table,
            out: self.slots.hidden,
            scale,
            positions: None,
            constant: None,
        }));
        Ok(table)
    }

    fn attention(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
        rope: &RopeSpec,
    ) -> Result<()> {
        let Slots { hidden, normed, q, k, v, mixed, .. } = self.slots;
        let numbers = self.numbers;
        self.norm(&format!("blk.{index}.attn_norm"), hidden, normed)?;
        let outputs = self.qkv(index, layer)?;
        self.builder.push(Step::Linear(Linear { input: normed, outputs }));
        let head_norm = match self.recipe.head_norm {
            true => Some(self.head_norm(index)?),
            false => None,
        };
        self.builder.push(Step::RopeStore(RopeStore {
            q,
            k,
            v,
            kv_layer: index,
            n_heads: layer.n_heads,
            head_norm,
            rope: Some(rope.clone()),
        }));
        self.builder.push(Step::Attend(Attend {
            q,
            out: mixed,
            kv_layer: index,
            n_heads: layer.n_heads,
            scale: numbers.attention_scale,
            window: layer.window,
            softcap: numbers.attention_softcap,
            sinks: None,
            alibi_max_bias: None,
            causal: true,
        }));
        let shape = [layer.n_heads * numbers.value_length, numbers.embedding_length];
        let output = self.linear(&format!("blk.{index}.attn_output"), &shape, mixed)?;
        self.residual(index, mixed, output, "post_attention_norm")
    }

    fn qkv(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<Vec<LinearOutput>> {
        let Slots { q, k, v, .. } = self.slots;
        let width = self.numbers.embedding_length;
        let key_rows = layer.n_kv_heads * self.numbers.key_length;
        let parts = [
            ("q", layer.n_heads * self.numbers.key_length, q),
            ("k", key_rows, k),
            ("v", layer.n_kv_heads * self.numbers.value_length, v),
        ];
        if self.recipe.qkv == Qkv::Fused {
            let parts = parts.map(|(_, rows, slot)| (rows, slot));
            return self.split_linear(&format!("blk.{index}.attn_qkv"), width, &parts);
        }
        let mut outputs = Vec::with_capacity(parts.len());
        for (letter, rows, slot) in parts {
            let name = format!("blk.{index}.attn_{letter}");
            let output = self.linear(&name, &[width, rows], slot)?;
            if self.recipe.qkv == Qkv::SeparateWithBias && output.bias.is_none() {
                let expected = "a bias: this family has one";
                return Err(Error::invalid(format!("{name}.bias"), "nothing", expected));
            }
            outputs.push(output);
        }
        Ok(outputs)
    }

    fn head_norm(&mut self, index: usize) -> Result<HeadNorm> {
        let shape = [self.numbers.key_length];
        Ok(HeadNorm {
            q_weight: self.builder.weight(&format!("blk.{index}.attn_q_norm.weight"), &shape)?,
            k_weight: self.builder.weight(&format!("blk.{index}.attn_k_norm.weight"), &shape)?,
            epsilon: self.numbers.epsilon,
        })
    }

    fn feed_forward(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        let Slots { hidden, normed, gate, up, .. } = self.slots;
        let (width, inner) = (self.numbers.embedding_length, layer.feed_forward_length);
        self.norm(&format!("blk.{index}.ffn_norm"), hidden, normed)?;
        let up_name = format!("blk.{index}.ffn_up");
        let (activation, outputs) = match self.recipe.feed_forward {
            FeedForward::Gated(activation) => {
                let shape = [width, inner];
                let gate_output = self.linear(&format!("blk.{index}.ffn_gate"), &shape, gate)?;
                (activation, vec![gate_output, self.linear(&up_name, &shape, up)?])
            }
            FeedForward::GatedFused(activation) => {
                let parts = [(inner, gate), (inner, up)];
                (activation, self.split_linear(&up_name, width, &parts)?)
            }
        };
        self.builder.push(Step::Linear(Linear { input: normed, outputs }));
        self.builder.push(Step::GatedAct(GatedAct { gate, up: Some(up), out: gate, activation }));
        let down = self.linear(&format!("blk.{index}.ffn_down"), &[inner, width], gate)?;
        self.residual(index, gate, down, "post_ffw_norm")
    }

    /// A block's last product, added to the hidden state: at once, or after a norm.
    fn residual(
        &mut self,
        index: usize,
        input: Slot,
        output: LinearOutput,
        post_norm: &str,
    ) -> Result<()> {
        let Slots { hidden, block, .. } = self.slots;
        if !self.recipe.post_norms {
            let outputs = vec![LinearOutput { out: hidden, accumulate: true, ..output }];
            self.builder.push(Step::Linear(Linear { input, outputs }));
            return Ok(());
        }
        let outputs = vec![LinearOutput { out: block, ..output }];
        self.builder.push(Step::Linear(Linear { input, outputs }));
        self.norm(&format!("blk.{index}.{post_norm}"), block, block)?;
        self.builder.push(Step::Add(Add {
            a: hidden,
            b: block,
            out: hidden,
            a_scale: 1.0,
            scale: 1.0,
        }));
        Ok(())
    }

    fn head(&mut self, table: WeightRef) -> Result<()> {
        let Slots { hidden, taken, logits, .. } = self.slots;
        let shape = [self.numbers.embedding_length, self.numbers.n_vocab];
        self.builder.begin_segment();
        self.builder.push(Step::TakeRows(TakeRows { input: hidden, out: taken }));
        self.norm("output_norm", taken, taken)?;
        // Without an output matrix the embedding serves as one.
        let weight = self.builder.optional("output.weight", &shape)?.unwrap_or(table);
        let bias = self.builder.optional("output.bias", &shape[1..])?;
        let outputs =
            vec![LinearOutput { weight, bias, out: logits, scale: 1.0, accumulate: false }];
        self.builder.push(Step::Linear(Linear { input: taken, outputs }));
        if let Some(cap) = self.numbers.logit_softcap {
            let activation = Activation::Softcap(cap);
            let step = GatedAct { gate: logits, up: None, out: logits, activation };
            self.builder.push(Step::GatedAct(step));
        }
        Ok(())
    }

    fn norm(&mut self, name: &str, input: Slot, out: Slot) -> Result<()> {
        let shape = [self.numbers.embedding_length];
        let weight = Some(self.builder.weight(&format!("{name}.weight"), &shape)?);
        let bias = self.builder.optional(&format!("{name}.bias"), &shape)?;
        let epsilon = self.numbers.epsilon;
        self.builder.push(Step::Norm(Norm {
            input,
            out,
            kind: NormKind::Rms,
            groups: 1,
            width: shape[0],
            weight,
            bias,
            epsilon,
        }));
        Ok(())
    }

    /// One matrix `[in, out]` and its bias, if the file has one.
    fn linear(&mut self, name: &str, shape: &[usize; 2], out: Slot) -> Result<LinearOutput> {
        let weight = self.builder.weight(&format!("{name}.weight"), shape)?;
        let bias = self.builder.optional(&format!("{name}.bias"), &shape[1..])?;
        Ok(LinearOutput { weight, bias, out, scale: 1.0, accumulate: false })
    }

    /// One matrix whose rows, and its bias's values, belong to several outputs.
    fn split_linear(
        &mut self,
        name: &str,
        width: usize,
        parts: &[(usize, Slot)],
    ) -> Result<Vec<LinearOutput>> {
        let rows = parts.iter().map(|part| part.0).sum();
        let matrix = self.builder.tensor(&format!("{name}.weight"), &[width, rows])?;
        let bias_name = format!("{name}.bias");
        if self.builder.optional(&bias_name, &[rows])?.is_some() {
            return Err(Error::unsupported(
                bias_name,
                "a bias",
                "matrices of several parts without one",
            ));
        }
        let mut first = 0;
        let mut outputs = Vec::with_capacity(parts.len());
        for (n_rows, out) in parts {
            let weight = self.builder.add(matrix.rows(first..first + n_rows)?);
            first += n_rows;
            outputs.push(LinearOutput {
                weight,
                bias: None,
                out: *out,
                scale: 1.0,
                accumulate: false,
            });
        }
        Ok(outputs)
    }
}
