//! What encoders have that decoders do not: token types, a norm of the embedding,
//! norms behind the residual, and no output matrix.
//!
//! The order of BERT (arXiv 1810.04805). Source of the tensors' names and of the
//! head that ranks: `llm_build_bert` and `build_pooling` in llama.cpp.

use realm_ir::{Activation, GatedAct, Linear, Rows, Slot, Step, TakeRows, WeightRef};

use super::{LayerBuilder, LayerSlots};
use crate::error::Result;
use crate::hyperparameters::LayerHyperparameters;

/// A layer whose norms come after each residual.
pub(crate) fn norms_behind(
    layers: &mut LayerBuilder<'_>,
    index: usize,
    layer: &LayerHyperparameters,
) -> Result<()> {
    let hidden = layers.slots.hidden;
    layers.mixer(index, layer, hidden)?;
    layers.norm(&format!("blk.{index}.attn_output_norm"), hidden, hidden)?;
    layers.feed_forward(index, layer, hidden)?;
    layers.norm(&format!("blk.{index}.layer_output_norm"), hidden, hidden)
}

impl LayerBuilder<'_> {
    /// The vector of token type 0, which every token of a text has.
    pub(super) fn token_type(&mut self) -> Result<Option<WeightRef>> {
        let name = "token_types.weight";
        if !self.builder.contains(name) {
            return Ok(None);
        }
        let width = self.numbers.embedding_length;
        let n_types = self.builder.metadata().require_u32("tokenizer.ggml.token_type_count")?;
        let values = self.builder.values(name, &[width, n_types.max(1) as usize])?;
        self.builder.constant(name, &values[..width]).map(Some)
    }

    /// The rows somebody wants, as the last layer left them; where norms come before a
    /// layer's parts, after one more.
    pub(super) fn encoder_head(&mut self) -> Result<()> {
        let LayerSlots { hidden, taken, .. } = self.slots;
        self.builder.begin_segment();
        self.builder.push(Step::TakeRows(TakeRows { input: hidden, out: taken }));
        match self.recipe.pre_norms {
            true => self.norm(self.recipe.output_norm, taken, taken),
            false => Ok(()),
        }
    }

    /// Scores of the rows in the taken slot, for models that rank:
    /// `out(tanh(dense(x)))`, either matrix of which may be missing.
    pub(super) fn scores(&mut self) -> Result<Option<Slot>> {
        let width = self.numbers.embedding_length;
        let has_dense = self.builder.contains("cls.weight");
        let has_out = self.builder.contains("cls.output.weight");
        let labels_key = format!("{}.classifier.output_labels", self.recipe.name);
        let labels = self.builder.metadata().string_array(&labels_key)?;
        let n_classes = labels.map_or(1, |labels| labels.len()).max(1);
        let mut input = self.slots.taken;
        if has_dense {
            let out_width = if has_out { width } else { n_classes };
            let out = self.builder.slot(Rows::Outputs, out_width);
            let outputs = vec![self.linear("cls", &[width, out_width], out)?];
            self.builder.push(Step::Linear(Linear { input, outputs }));
            let activation = Activation::Softcap(1.0); // tanh
            let step = GatedAct { gate: out, up: None, up_offset: 0, out, activation };
            self.builder.push(Step::GatedAct(step));
            input = out;
        }
        if has_out {
            let out = self.builder.slot(Rows::Outputs, n_classes);
            let outputs = vec![self.linear("cls.output", &[width, n_classes], out)?];
            self.builder.push(Step::Linear(Linear { input, outputs }));
            input = out;
        }
        Ok((has_dense || has_out).then_some(input))
    }
}
