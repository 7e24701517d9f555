//! Inputs that every layer has of its own, beside the hidden state: of each token, a row
//! of a second table and a projection of its embedding (Gemma 3n and the small sizes of
//! Gemma 4, which keep most of their parameters there).
//!
//! They are made in segment 0 for all layers at once and carried along.

use realm_ir::{Add, Embed, GatedAct, Linear, NormKind, Slot, Step};

use super::LayerBuilder;
use crate::error::Result;
use crate::hyperparameters::Hyperparameters;
use crate::program_builder::ProgramBuilder;

/// The buffers for such inputs.
#[derive(Clone, Copy)]
pub(super) struct PerLayer {
    /// Values of one layer.
    width: usize,
    /// Those of all layers, one after another.
    pub inputs: Slot,
    /// A projection of the hidden state that gates them.
    gate: Slot,
}

impl PerLayer {
    pub fn new(builder: &mut ProgramBuilder<'_>, numbers: &Hyperparameters) -> Option<Self> {
        let width = numbers.per_layer_input_length?;
        let inputs = builder.batch_slot(width * numbers.layers.len());
        Some(PerLayer { width, inputs, gate: builder.batch_slot(width) })
    }
}

impl LayerBuilder<'_> {
    /// `(norm(projection of the embedding) + row of the table) / sqrt(2)`
    pub(super) fn embed_per_layer(&mut self) -> Result<()> {
        let Some(PerLayer { width, inputs, .. }) = self.per_layer else { return Ok(()) };
        let (embedding, n_layers) = (self.numbers.embedding_length, self.numbers.layers.len());
        let all = width * n_layers;
        let shape = [all, self.numbers.n_vocab];
        let table = self.builder.weight("per_layer_token_embd.weight", &shape)?;
        let scale = (width as f32).sqrt();
        let embed = Embed { table, out: inputs, scale, positions: None, constant: None };
        self.builder.push(Step::Embed(embed));

        let projected = self.builder.batch_slot(all);
        let mut output = self.linear("per_layer_model_proj", &[embedding, all], projected)?;
        output.scale /= (embedding as f32).sqrt();
        let input = self.slots.hidden;
        self.builder.push(Step::Linear(Linear { input, outputs: vec![output] }));
        let (name, groups) = ("per_layer_proj_norm", (n_layers, width));
        self.norm_of(name, projected, projected, NormKind::Rms, groups, &[width])?;
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let add = Add { a: inputs, b: projected, out: inputs, a_scale: half, scale: half };
        self.builder.push(Step::Add(add));
        Ok(())
    }

    /// Adds `norm(proj(act(inp_gate(hidden)) * input of the layer))` to the hidden state; of
    /// several streams, what the scaled first one gives is added to the others.
    pub(super) fn add_per_layer_input(&mut self, index: usize) -> Result<()> {
        let Some(PerLayer { width, inputs, gate }) = self.per_layer else { return Ok(()) };
        let block = self.slots.block;
        let (input, targets) = match self.altup.clone() {
            Some(altup) => (self.scale_stream(index, &altup)?, altup.streams[1..].to_vec()),
            None => (self.slots.hidden, vec![self.slots.hidden]),
        };
        let embedding = self.numbers.embedding_length;
        let name = |part: &str| format!("blk.{index}.{part}");
        let outputs = vec![self.linear(&name("inp_gate"), &[embedding, width], gate)?];
        self.builder.push(Step::Linear(Linear { input, outputs }));
        self.builder.push(Step::GatedAct(GatedAct {
            gate,
            up: Some(inputs),
            up_offset: index * width,
            out: gate,
            activation: self.numbers.layers[index].activation,
        }));
        let outputs = vec![self.linear(&name("proj"), &[width, embedding], block)?];
        self.builder.push(Step::Linear(Linear { input: gate, outputs }));
        self.norm(&name("post_norm"), block, block)?;
        for target in targets {
            let add = Add { a: target, b: block, out: target, a_scale: 1.0, scale: 1.0 };
            self.builder.push(Step::Add(add));
        }
        Ok(())
    }

    /// Multiplies what a layer leaves by the file's number for it (`layer_output_scale`).
    pub(super) fn scale_layer(&mut self, index: usize) -> Result<()> {
        let name = format!("blk.{index}.layer_output_scale.weight");
        if !self.builder.contains(&name) {
            return Ok(());
        }
        let a_scale = self.builder.values(&name, &[1])?[0];
        let hidden = self.slots.hidden;
        let add = Add { a: hidden, b: self.slots.block, out: hidden, a_scale, scale: 0.0 };
        self.builder.push(Step::Add(add));
        Ok(())
    }
}
