//! Attention: queries, keys and values, their norms and rotation, the output matrix.

use realm_gguf::TensorData;
use realm_ir::{
    Activation, Attend, GatedAct, HeadNorm, Linear, LinearOutput, NormKind, RopeSpec, RopeStore,
    Slot, Step,
};

use super::{LayerBuilder, Slots};
use crate::error::{Error, Result};
use crate::hyperparameters::LayerHyperparameters;
use crate::recipe::{AttentionGate, QkNorm};

impl LayerBuilder<'_> {
    pub(super) fn attention(
        &mut self,
        index: usize,
        kv_layer: usize,
        layer: &LayerHyperparameters,
        input: Slot,
    ) -> Result<()> {
        if self.numbers.latent.is_some() {
            return self.latent_attention(index, kv_layer, layer, input);
        }
        let Slots { q, q_gate, k, v, mixed, .. } = self.slots;
        let numbers = self.numbers;
        let outputs = self.qkv(index, layer)?;
        self.builder.push(Step::Linear(Linear { input, outputs }));
        self.qk_norm(index, layer)?;
        let has_norm = self.builder.contains(&format!("blk.{index}.attn_q_norm.weight"));
        let head_norm = match self.recipe.qk_norm {
            QkNorm::Heads => Some(self.head_norm(index)?),
            QkNorm::HeadsIfPresent if has_norm => Some(self.head_norm(index)?),
            _ => None,
        };
        let (n_heads, rope) = (layer.n_heads, self.rope(layer));
        let store = RopeStore { q, k, v, kv_layer, n_heads, head_norm, rope, temperature: None };
        self.builder.push(Step::RopeStore(store));
        self.attend(index, kv_layer, layer)?;
        let width = layer.n_heads * numbers.value_length;
        let result = match self.recipe.attention_gate {
            AttentionGate::None => mixed,
            AttentionGate::Matrix => self.gate_attention(index, width, input)?,
            AttentionGate::Queries => self.apply_gate(q_gate),
        };
        if self.recipe.sub_norms {
            let name = format!("blk.{index}.attn_sub_norm");
            self.norm_of(&name, result, result, self.recipe.norm, (1, width), &[width])?;
        }
        let shape = [width, numbers.embedding_length];
        let output = self.linear(&format!("blk.{index}.attn_output"), &shape, result)?;
        self.residual(index, result, output, "post_attention_norm")
    }

    /// Multiplies attention's result by a sigmoid of its input.
    fn gate_attention(&mut self, index: usize, width: usize, input: Slot) -> Result<Slot> {
        let gate = self.builder.batch_slot(width);
        let shape = [self.numbers.embedding_length, width];
        let outputs = vec![self.linear(&format!("blk.{index}.attn_gate"), &shape, gate)?];
        self.builder.push(Step::Linear(Linear { input, outputs }));
        Ok(self.apply_gate(gate))
    }

    /// Multiplies attention's result by the sigmoid of a gate, in the gate's place.
    fn apply_gate(&mut self, gate: Slot) -> Slot {
        let (up, activation) = (Some(self.slots.mixed), Activation::Sigmoid);
        self.builder.push(Step::GatedAct(GatedAct { gate, up, out: gate, activation }));
        gate
    }

    /// The rotation of a layer's queries and keys.
    pub(super) fn rope(&self, layer: &LayerHyperparameters) -> Option<RopeSpec> {
        let (whole, windowed) = &self.ropes;
        let rope = if layer.window.is_some() { windowed } else { whole };
        layer.rotates.then(|| rope.clone())
    }

    pub(super) fn attend(
        &mut self,
        index: usize,
        kv_layer: usize,
        layer: &LayerHyperparameters,
    ) -> Result<()> {
        let sinks = match self.recipe.sinks {
            true => {
                let name = format!("blk.{index}.attn_sinks.weight");
                Some(self.builder.weight(&name, &[layer.n_heads])?)
            }
            false => None,
        };
        self.builder.push(Step::Attend(Attend {
            q: self.slots.q,
            out: self.slots.mixed,
            kv_layer,
            n_heads: layer.n_heads,
            scale: self.numbers.attention_scale,
            window: layer.window,
            chunked: false,
            softcap: self.numbers.attention_softcap,
            sinks,
            alibi_max_bias: self.numbers.alibi_max_bias,
            causal: self.numbers.is_causal,
        }));
        Ok(())
    }

    fn qkv(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<Vec<LinearOutput>> {
        let Slots { q, k, v, .. } = self.slots;
        let width = self.numbers.embedding_length;
        let parts = [
            ("q", layer.n_heads * self.numbers.key_length, q),
            ("k", layer.n_kv_heads * self.numbers.key_length, k),
            ("v", layer.n_kv_heads * self.numbers.value_length, v),
        ];
        let fused = format!("blk.{index}.attn_qkv");
        if self.builder.contains(&format!("{fused}.weight")) {
            return self.split_linear(&fused, width, &parts.map(|(_, rows, slot)| (rows, slot)));
        }
        let mut outputs = Vec::with_capacity(parts.len());
        let is_gated = self.recipe.attention_gate == AttentionGate::Queries;
        if is_gated {
            outputs.extend(self.gated_queries(index, layer)?);
        }
        for (letter, rows, slot) in parts {
            if is_gated && letter == "q" {
                continue;
            }
            let name = format!("blk.{index}.attn_{letter}");
            let output = self.linear(&name, &[width, rows], slot)?;
            if self.recipe.qkv_bias && output.bias.is_none() {
                let expected = "a bias: this family has one";
                return Err(Error::invalid(format!("{name}.bias"), "nothing", expected));
            }
            outputs.push(output);
        }
        Ok(outputs)
    }

    /// Queries, and last the gate: each head's rows of the matrix are its query's,
    /// then its gate's.
    fn gated_queries(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
    ) -> Result<[LinearOutput; 2]> {
        let (width, head) = (self.numbers.embedding_length, self.numbers.key_length);
        let name = format!("blk.{index}.attn_q.weight");
        let matrix = self.builder.tensor(&name, &[width, 2 * layer.n_heads * head])?;
        let row_bytes = matrix.row_bytes();
        let part = |first: usize| -> Vec<u8> {
            let heads = matrix.bytes().chunks_exact(2 * head * row_bytes);
            heads
                .flat_map(|bytes| &bytes[first * row_bytes..][..head * row_bytes])
                .copied()
                .collect()
        };
        let (queries, gates) = (part(0), part(head));
        let shape = [width, layer.n_heads * head];
        let mut output = |bytes: Vec<u8>, out: Slot| -> Result<LinearOutput> {
            let weight = TensorData::from_vec(&name, &shape, matrix.ty(), bytes)?;
            let weight = self.builder.add(weight);
            Ok(LinearOutput { weight, bias: None, out, scale: 1.0, accumulate: false })
        };
        Ok([output(queries, self.slots.q)?, output(gates, self.slots.q_gate)?])
    }

    /// RMS norm of each head, joined with the rotation.
    fn head_norm(&mut self, index: usize) -> Result<HeadNorm> {
        let shape = [self.numbers.key_length];
        Ok(HeadNorm {
            q_weight: self.builder.weight(&format!("blk.{index}.attn_q_norm.weight"), &shape)?,
            k_weight: self.builder.weight(&format!("blk.{index}.attn_k_norm.weight"), &shape)?,
            epsilon: self.numbers.epsilon,
            after_rope: false,
        })
    }

    /// Norms of queries and keys that are steps of their own.
    fn qk_norm(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        let width = self.numbers.key_length;
        let parts = [
            ("attn_q_norm", layer.n_heads, self.slots.q),
            ("attn_k_norm", layer.n_kv_heads, self.slots.k),
        ];
        for (part, heads, slot) in parts {
            let name = format!("blk.{index}.{part}");
            match self.recipe.qk_norm {
                QkNorm::None | QkNorm::Heads | QkNorm::HeadsIfPresent => {}
                QkNorm::RowIfPresent if !self.builder.contains(&format!("{name}.weight")) => {}
                QkNorm::Row | QkNorm::RowIfPresent => {
                    let row = heads * width;
                    self.norm_of(&name, slot, slot, self.recipe.norm, (1, row), &[row])?;
                }
                QkNorm::EachHeadIfPresent => {
                    if self.builder.contains(&format!("{name}.weight")) {
                        let (groups, shape) = ((heads, width), [width, heads]);
                        self.norm_of(&name, slot, slot, NormKind::Layer, groups, &shape)?;
                    }
                }
            }
        }
        Ok(())
    }
}
