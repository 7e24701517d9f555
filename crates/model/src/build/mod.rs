//! Recipe, numbers and tensors become a program.

mod altup;
mod attention;
mod encoder;
mod feed_forward;
mod latent;
mod mamba;
mod per_layer;
mod recurrent;

use realm_gguf::Gguf;
use realm_ir::{
    Activation, Add, Embed, GatedAct, KvLayer, Linear, LinearOutput, Norm, NormKind, Program,
    RopeSpec, Rows, Slot, Step, TakeRows, WeightRef,
};

use crate::adapter::WeightRows;
use crate::arch;
use crate::config::ModelConfig;
use crate::embedding::{EmbeddingPlan, Pooling};
use crate::error::{Error, Result};
use crate::hyperparameters::{Hyperparameters, Keys, LayerHyperparameters, Mixer};
use crate::program_builder::ProgramBuilder;
use crate::recipe::{AttentionGate, Block, Positions, Recipe};
use crate::rope::rope_specs;

use self::altup::AltUp;
use self::per_layer::PerLayer;

pub(crate) use self::encoder::norms_behind;

/// A model ready to be given to a backend.
#[derive(Clone, Debug)]
pub struct ModelPlan {
    /// Steps and weights.
    pub program: Program,
    /// Of weights that are a part of their tensor, for adapters.
    pub parts: WeightRows,
    /// What each layer that attends keeps per position.
    pub kv_layers: Vec<KvLayer>,
    /// Hidden states and scores.
    pub embedding: EmbeddingPlan,
    /// Values that each recurrent step keeps per sequence.
    pub state_widths: Vec<usize>,
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
    let mut recipe = *arch::find(architecture)
        .ok_or_else(|| Error::unsupported(key, architecture, arch::names()))?;
    if let Some(adjust) = recipe.adjust {
        adjust(gguf, &mut recipe)?;
    }
    let numbers = Hyperparameters::read(gguf, &recipe)?;
    let ropes = rope_specs(gguf, &recipe, &numbers, context_length)?;
    let mut builder = ProgramBuilder::new(gguf);
    // First of all, so that the width of everything else is one that the file has values for.
    let shape = [numbers.embedding_length, numbers.n_vocab];
    let table = builder.weight("token_embd.weight", &shape)?;
    let slots = LayerSlots::new(&mut builder, &recipe, &numbers);
    let per_layer = PerLayer::new(&mut builder, &numbers);
    let altup = AltUp::new(&mut builder, &numbers)?;
    let mut layers = LayerBuilder {
        builder,
        recipe: &recipe,
        numbers: &numbers,
        slots,
        altup,
        per_layer,
        ropes,
    };

    layers.embed(table)?;
    for (index, layer) in numbers.layers.iter().enumerate() {
        layers.builder.begin_segment();
        layers.predict_streams(index)?;
        match recipe.own_layer {
            Some(build) => build(&mut layers, index, layer)?,
            None => layers.block(index, layer)?,
        }
        layers.correct_streams(index)?;
        layers.add_per_layer_input(index)?;
        layers.scale_layer(index)?;
    }
    match recipe.is_encoder {
        true => layers.encoder_head()?,
        false => layers.head(table)?,
    }
    let scores = layers.scores()?;
    let LayerBuilder { builder, slots, altup, per_layer, .. } = layers;
    builder.check_all_used(numbers.layers.len())?;
    let keys = Keys::new(gguf, recipe.name);
    let is_encoder = recipe.is_encoder || !numbers.is_causal;
    let embedding = EmbeddingPlan {
        hidden: slots.taken,
        scores,
        pooling: Pooling::read(&keys, is_encoder)?,
        is_encoder,
    };
    if embedding.pooling == Pooling::Rank && scores.is_none() {
        let expected = "cls.weight or cls.output.weight: the file says that it ranks";
        return Err(Error::invalid(keys.key("pooling_type"), "no matrix for scores", expected));
    }
    let mut row_slots = altup.map_or(vec![slots.hidden], |altup| altup.streams);
    row_slots.extend(per_layer.iter().map(|slots| slots.inputs));
    let (program, parts) = builder.finish(row_slots[0], row_slots[1..].to_vec(), slots.logits);
    Ok(ModelPlan {
        program,
        parts,
        embedding,
        kv_layers: numbers
            .layers
            .iter()
            .filter(|layer| layer.mixer.kv_layer().is_some())
            .map(kv_layer)
            .collect(),
        state_widths: numbers.state_widths.clone(),
        config: ModelConfig::new(gguf, &numbers)?,
    })
}

fn kv_layer(layer: &LayerHyperparameters) -> KvLayer {
    KvLayer {
        n_kv_heads: layer.n_kv_heads,
        key_width: layer.key_length,
        value_width: layer.value_length,
    }
}

/// The buffers of a decoder. Layers share them.
#[derive(Clone, Copy)]
pub(crate) struct LayerSlots {
    pub hidden: Slot,
    /// Input of a block's matrices after its norm.
    pub normed: Slot,
    /// The same for a feed-forward part that runs beside attention, or for its router.
    pub normed_beside: Slot,
    q: Slot,
    /// Gate on attention's result.
    q_gate: Slot,
    k: Slot,
    v: Slot,
    /// Attention's result, before its output matrix.
    mixed: Slot,
    /// A block's result, where a norm comes before the residual.
    pub block: Slot,
    pub gate: Slot,
    up: Slot,
    taken: Slot,
    logits: Slot,
}

impl LayerSlots {
    fn new(builder: &mut ProgramBuilder<'_>, recipe: &Recipe, numbers: &Hyperparameters) -> Self {
        let widest = |width: fn(&LayerHyperparameters) -> usize| {
            numbers.layers.iter().map(width).max().expect("at least one layer")
        };
        let [q, mixed] =
            [widest(|l| l.n_heads * l.key_length), widest(|l| l.n_heads * l.value_length)];
        let keys = widest(|l| l.n_kv_heads * l.key_length);
        let values = widest(|l| l.n_kv_heads * l.value_length);
        let shared = numbers.experts.map_or(0, |experts| experts.shared_feed_forward_length);
        let feed_forward = widest(|l| l.feed_forward_length).max(shared);
        let embedding = numbers.embedding_length;
        let taken = builder.slot(Rows::Outputs, embedding);
        // A gate for each value of a head, which is as wide as its query.
        let gate = if recipe.attention_gate == AttentionGate::Queries { q } else { 0 };
        let mut batch = |width| builder.slot(Rows::Batch, width);
        let k = batch(keys);
        LayerSlots {
            hidden: batch(embedding),
            normed: batch(embedding),
            normed_beside: batch(embedding),
            q: batch(q),
            q_gate: batch(gate),
            k,
            // Latent attention stores the beginning of its key as the value.
            v: if numbers.latent.is_some() { k } else { batch(values) },
            mixed: batch(mixed),
            block: batch(embedding),
            gate: batch(feed_forward),
            up: batch(feed_forward),
            taken,
            // An encoder's head gives the hidden state itself.
            logits: match recipe.is_encoder {
                true => taken,
                false => builder.slot(Rows::Outputs, numbers.n_vocab),
            },
        }
    }
}

/// Appends the parts of a decoder to a program.
pub(crate) struct LayerBuilder<'a> {
    pub builder: ProgramBuilder<'a>,
    recipe: &'a Recipe,
    pub numbers: &'a Hyperparameters,
    pub slots: LayerSlots,
    /// Streams that layers hand on instead of the hidden state, in families with such.
    altup: Option<AltUp>,
    /// Inputs that layers have of their own, in families with such.
    per_layer: Option<PerLayer>,
    /// Rotation of the layers without and with a window.
    ropes: (RopeSpec, RopeSpec),
}

impl LayerBuilder<'_> {
    fn embed(&mut self, table: WeightRef) -> Result<()> {
        let width = self.numbers.embedding_length;
        let positions = match self.recipe.positions {
            Positions::Learned => {
                let shape = [width, self.numbers.context_length];
                Some(self.builder.weight("position_embd.weight", &shape)?)
            }
            _ => None,
        };
        let constant = self.token_type()?;
        self.builder.begin_segment();
        let (out, scale) = (self.slots.hidden, self.numbers.embed_scale);
        self.builder.push(Step::Embed(Embed { table, out, scale, positions, constant }));
        // LFM 2 calls the norm before its head so.
        let name = "token_embd_norm";
        if self.recipe.output_norm != name && self.builder.contains(&format!("{name}.weight")) {
            self.norm(name, out, out)?;
        }
        self.embed_per_layer()?;
        self.embed_streams()
    }

    /// One layer, as most families have it.
    pub(crate) fn block(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        match self.recipe.block {
            Block::Sequential => self.sequential(index, layer),
            Block::Parallel => self.parallel(index, layer),
            Block::OnePart => self.one_part(index, layer),
        }
    }

    /// Attention, then feed-forward, either of which a layer may lack.
    fn sequential(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        let LayerSlots { hidden, normed, .. } = self.slots;
        let name = |part: &str| format!("blk.{index}.{part}");
        if layer.mixer != Mixer::None {
            let input = self.pre_norm(&name("attn_norm"), hidden, normed)?;
            self.mixer(index, layer, input)?;
            self.add_laurel(index, input)?;
        }
        if layer.feed_forward_length == 0 && !layer.has_experts {
            return Ok(());
        }
        let input = self.pre_norm(&name(self.recipe.ffn_norm), hidden, normed)?;
        self.feed_forward(index, layer, input)
    }

    /// Attention and feed-forward side by side, behind one norm or behind one each.
    fn parallel(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        let LayerSlots { hidden, normed, normed_beside, .. } = self.slots;
        let name = |part: &str| format!("blk.{index}.{part}");
        let has = |part: &str| self.builder.contains(&format!("blk.{index}.{part}.weight"));
        // Both norms come before attention changes the hidden state.
        let (attention, beside) = if has("attn_norm_2") {
            ("attn_norm_2", Some("attn_norm"))
        } else {
            ("attn_norm", Some(self.recipe.ffn_norm).filter(|ffn_norm| has(ffn_norm)))
        };
        let feed_forward_input = match beside {
            Some(norm) => self.pre_norm(&name(norm), hidden, normed_beside)?,
            None => normed,
        };
        let input = self.pre_norm(&name(attention), hidden, normed)?;
        self.mixer(index, layer, input)?;
        self.feed_forward(index, layer, feed_forward_input)
    }

    /// One of the two alone.
    fn one_part(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        let LayerSlots { hidden, normed, .. } = self.slots;
        let input = self.pre_norm(&format!("blk.{index}.attn_norm"), hidden, normed)?;
        match layer.mixer {
            Mixer::None => self.feed_forward(index, layer, input),
            _ => self.mixer(index, layer, input),
        }
    }

    /// What mixes the positions of a layer.
    pub(crate) fn mixer(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
        input: Slot,
    ) -> Result<()> {
        match layer.mixer {
            Mixer::Attention(kv_layer) => self.attention(index, kv_layer, layer, input),
            Mixer::SharedAttention(kv_layer) => {
                self.shared_attention(index, kv_layer, layer, input)
            }
            Mixer::ShortConv(state) => self.short_conv(index, state, input),
            Mixer::DeltaNet(state) => self.delta_net(index, state, input),
            Mixer::Mamba(state) => self.mamba(index, state, input),
            Mixer::Mamba2(state) => self.mamba2(index, state, input),
            Mixer::Mamba2BesideAttention { kv_layer, state } => {
                self.attention(index, kv_layer, layer, input)?;
                self.mamba2(index, state, input)
            }
            Mixer::Matrix => {
                let width = self.numbers.embedding_length;
                let output =
                    self.linear(&format!("blk.{index}.attn_output"), &[width, width], input)?;
                self.residual(index, input, output, "post_attention_norm")
            }
            Mixer::None => Ok(()),
        }
    }

    /// Copies the hidden state to `out`.
    pub(crate) fn keep_hidden(&mut self, out: Slot) {
        let (a, b) = (self.slots.hidden, self.slots.hidden);
        self.builder.push(Step::Add(Add { a, b, out, a_scale: 1.0, scale: 0.0 }));
    }

    /// The norm before a part; families without one read the hidden state.
    pub(crate) fn pre_norm(&mut self, name: &str, input: Slot, out: Slot) -> Result<Slot> {
        if !self.recipe.pre_norms {
            return Ok(input);
        }
        self.norm(name, input, out)?;
        Ok(out)
    }

    /// A part's last product, added to the hidden state: at once, or after a norm.
    fn residual(
        &mut self,
        index: usize,
        input: Slot,
        output: LinearOutput,
        post_norm: &str,
    ) -> Result<()> {
        let LayerSlots { hidden, block, .. } = self.slots;
        let scale = self.numbers.residual_scale;
        if !self.recipe.post_norms {
            let scale = scale * output.scale;
            let outputs = vec![LinearOutput { out: hidden, accumulate: true, scale, ..output }];
            self.builder.push(Step::Linear(Linear { input, outputs }));
            return Ok(());
        }
        let outputs = vec![LinearOutput { out: block, ..output }];
        self.builder.push(Step::Linear(Linear { input, outputs }));
        self.add_block(index, post_norm)
    }

    /// Adds the block slot to the hidden state, after a norm in families that have one.
    pub(crate) fn add_block(&mut self, index: usize, post_norm: &str) -> Result<()> {
        let LayerSlots { hidden, block, .. } = self.slots;
        if self.recipe.post_norms {
            self.norm(&format!("blk.{index}.{post_norm}"), block, block)?;
        }
        let scale = self.numbers.residual_scale;
        self.builder.push(Step::Add(Add { a: hidden, b: block, out: hidden, a_scale: 1.0, scale }));
        Ok(())
    }

    fn head(&mut self, table: WeightRef) -> Result<()> {
        let LayerSlots { hidden, taken, logits, .. } = self.slots;
        let shape = [self.numbers.embedding_length, self.numbers.n_vocab];
        self.builder.begin_segment();
        match self.altup.is_some() {
            true => self.merge_streams()?,
            false => self.builder.push(Step::TakeRows(TakeRows { input: hidden, out: taken })),
        }
        self.norm(self.recipe.output_norm, taken, taken)?;
        // Without an output matrix the embedding serves as one.
        let weight = self.builder.optional("output.weight", &shape)?.unwrap_or(table);
        let bias = self.builder.optional("output.bias", &shape[1..])?;
        let scale = self.numbers.logit_scale * self.builder.matrix_scale("output")?;
        let outputs = vec![LinearOutput { weight, bias, out: logits, scale, accumulate: false }];
        self.builder.push(Step::Linear(Linear { input: taken, outputs }));
        if let Some(cap) = self.numbers.logit_softcap {
            let activation = Activation::Softcap(cap);
            let step = GatedAct { gate: logits, up: None, up_offset: 0, out: logits, activation };
            self.builder.push(Step::GatedAct(step));
        }
        Ok(())
    }

    /// A norm over whole rows of the hidden state's width.
    pub(crate) fn norm(&mut self, name: &str, input: Slot, out: Slot) -> Result<()> {
        let width = self.numbers.embedding_length;
        self.norm_of(name, input, out, self.recipe.norm, (1, width), &[width])
    }

    /// A norm over `(groups, width)` of a row, with factors of `shape`.
    fn norm_of(
        &mut self,
        name: &str,
        input: Slot,
        out: Slot,
        kind: NormKind,
        (groups, width): (usize, usize),
        shape: &[usize],
    ) -> Result<()> {
        let (weight, bias) = match self.recipe.bare_norms {
            true => (None, None),
            false => {
                // Falcon H1 leaves the suffix out.
                let suffixed = format!("{name}.weight");
                let is_bare = !self.builder.contains(&suffixed) && self.builder.contains(name);
                let weight_name = if is_bare { name } else { &suffixed };
                let weight = self.builder.weight(weight_name, shape)?;
                (Some(weight), self.builder.optional(&format!("{name}.bias"), shape)?)
            }
        };
        let epsilon = self.numbers.epsilon;
        let norm = Norm { input, out, kind, groups, width, weight, bias, epsilon };
        self.builder.push(Step::Norm(norm));
        Ok(())
    }

    /// One matrix `[in, out]` and its bias, if the file has one.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        shape: &[usize; 2],
        out: Slot,
    ) -> Result<LinearOutput> {
        let weight = self.builder.weight(&format!("{name}.weight"), shape)?;
        let scale = self.builder.matrix_scale(name)?;
        let bias_name = format!("{name}.bias");
        let bias = match scale == 1.0 || !self.builder.contains(&bias_name) {
            true => self.builder.optional(&bias_name, &shape[1..])?,
            false => {
                // The step's factor is on the bias too, the file's is not.
                let values = self.builder.values(&bias_name, &shape[1..])?;
                let values: Vec<f32> = values.into_iter().map(|value| value / scale).collect();
                Some(self.builder.constant(&bias_name, &values)?)
            }
        };
        Ok(LinearOutput { weight, bias, out, scale, accumulate: false })
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
        let bias = match self.builder.contains(&bias_name) {
            true => Some(self.builder.values(&bias_name, &[rows])?),
            false => None,
        };
        let scale = self.builder.matrix_scale(name)?;
        let mut first = 0;
        let mut outputs = Vec::with_capacity(parts.len());
        for (n_rows, out) in parts {
            let range = first..first + n_rows;
            first += n_rows;
            let weight = self.builder.add_rows(&matrix, vec![range.clone()])?;
            let bias = match &bias {
                Some(bias) => {
                    let values: Vec<f32> = bias[range].iter().map(|value| value / scale).collect();
                    Some(self.builder.constant(&bias_name, &values)?)
                }
                None => None,
            };
            outputs.push(LinearOutput { weight, bias, out: *out, scale, accumulate: false });
        }
        Ok(outputs)
    }
}
