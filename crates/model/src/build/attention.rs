//! Attention: queries, keys and values, their norms and rotation, the output matrix.

use realm_ir::{
    Activation, Attend, GatedAct, HeadNorm, Linear, LinearOutput, Norm, NormKind, Rope, RopeSpec,
    RopeStore, Slot, Step, Temperature,
};

use super::{LayerBuilder, LayerSlots};
use crate::error::{Error, Result};
use crate::hyperparameters::LayerHyperparameters;
use crate::recipe::{AttentionGate, QkNorm, QueryTemperature, Sinks};

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
        let LayerSlots { q, k, v, .. } = self.slots;
        let outputs = self.qkv(index, layer)?;
        self.builder.push(Step::Linear(Linear { input, outputs }));
        if let Some(bound) = self.numbers.qkv_clamp {
            for slot in [q, k, v] {
                let activation = Activation::Clamp(bound);
                let step = GatedAct { gate: slot, up: None, up_offset: 0, out: slot, activation };
                self.builder.push(Step::GatedAct(step));
            }
        }
        self.qk_norm(index, layer)?;
        if self.recipe.value_norm {
            self.value_norm(index, layer)?;
        }
        let head_norm = self.head_norm(index, layer)?;
        let (n_heads, rope) = (layer.n_heads, self.rope(layer));
        let temperature = self.temperature(layer);
        let store = RopeStore { q, k, v, kv_layer, n_heads, head_norm, rope, temperature };
        self.builder.push(Step::RopeStore(store));
        self.attend_and_project(index, kv_layer, layer, input)
    }

    /// Attention to the keys and values that an earlier layer stores: queries alone.
    pub(super) fn shared_attention(
        &mut self,
        index: usize,
        kv_layer: usize,
        layer: &LayerHyperparameters,
        input: Slot,
    ) -> Result<()> {
        let heads = self.slots.q;
        let (n_heads, head_width) = (layer.n_heads, layer.key_length);
        let name = |part: &str| format!("blk.{index}.{part}");
        let shape = [self.numbers.embedding_length, n_heads * head_width];
        let outputs = vec![self.linear(&name("attn_q"), &shape, heads)?];
        self.builder.push(Step::Linear(Linear { input, outputs }));
        if self.recipe.qk_norm == QkNorm::Heads {
            let (norm, groups) = (name("attn_q_norm"), (n_heads, head_width));
            self.norm_of(&norm, heads, heads, NormKind::Rms, groups, &[head_width])?;
        }
        if let Some(rope) = self.rope(layer) {
            self.builder.push(Step::Rope(Rope { heads, n_heads, head_width, rope }));
        }
        // Checkpoints may still hold what such a layer had before it shared.
        for part in ["attn_k", "attn_v", "attn_k_norm"] {
            self.builder.ignore(name(&format!("{part}.weight")));
        }
        self.attend_and_project(index, kv_layer, layer, input)
    }

    /// Everything behind the rotation of the queries.
    fn attend_and_project(
        &mut self,
        index: usize,
        kv_layer: usize,
        layer: &LayerHyperparameters,
        input: Slot,
    ) -> Result<()> {
        let LayerSlots { q_gate, mixed, .. } = self.slots;
        self.attend(index, kv_layer, layer)?;
        let width = layer.n_heads * layer.value_length;
        let result = match self.recipe.attention_gate {
            AttentionGate::None => mixed,
            AttentionGate::Matrix => self.gate_attention(index, width, input)?,
            AttentionGate::Queries => self.apply_gate(q_gate),
        };
        if self.recipe.sub_norms {
            let name = format!("blk.{index}.attn_sub_norm");
            self.norm_of(&name, result, result, self.recipe.norm, (1, width), &[width])?;
        }
        let shape = [width, self.numbers.embedding_length];
        let mut output = self.linear(&format!("blk.{index}.attn_output"), &shape, result)?;
        output.scale *= self.numbers.attention_output_scale;
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
        self.builder.push(Step::GatedAct(GatedAct {
            gate,
            up,
            up_offset: 0,
            out: gate,
            activation,
        }));
        gate
    }

    /// The rotation of a layer's queries and keys.
    pub(super) fn rope(&self, layer: &LayerHyperparameters) -> Option<RopeSpec> {
        let (whole, windowed) = &self.ropes;
        let rope = if layer.window.is_some() { windowed } else { whole };
        layer.rotates.then(|| rope.clone())
    }

    /// The growing factor on a layer's queries.
    pub(super) fn temperature(&self, layer: &LayerHyperparameters) -> Option<Temperature> {
        let grows = match self.recipe.query_temperature {
            QueryTemperature::Key => true,
            QueryTemperature::Unrotated(_) => !layer.rotates,
        };
        self.numbers.query_temperature.filter(|_| grows)
    }

    pub(super) fn attend(
        &mut self,
        index: usize,
        kv_layer: usize,
        layer: &LayerHyperparameters,
    ) -> Result<()> {
        let name = format!("blk.{index}.attn_sinks.weight");
        let sinks = match self.recipe.sinks {
            Sinks::None => None,
            Sinks::Required => Some(self.builder.weight(&name, &[layer.n_heads])?),
            Sinks::IfPresent => self.builder.optional(&name, &[layer.n_heads])?,
        };
        self.builder.push(Step::Attend(Attend {
            q: self.slots.q,
            out: self.slots.mixed,
            kv_layer,
            n_heads: layer.n_heads,
            scale: self.numbers.attention_scale,
            window: layer.window,
            chunked: self.recipe.chunked_window,
            softcap: self.numbers.attention_softcap,
            sinks,
            alibi_max_bias: self.numbers.alibi_max_bias,
            causal: self.numbers.is_causal,
        }));
        Ok(())
    }

    fn qkv(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<Vec<LinearOutput>> {
        let LayerSlots { q, k, v, .. } = self.slots;
        let width = self.numbers.embedding_length;
        let parts = [
            ("q", layer.n_heads * layer.key_length, q),
            ("k", layer.n_kv_heads * layer.key_length, k),
            ("v", layer.n_kv_heads * layer.value_length, v),
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
            let name = format!("blk.{index}.attn_{letter}");
            let takes_keys = self.recipe.value_norm && letter == "v";
            if is_gated && letter == "q" || takes_keys && !self.has_matrix(&name) {
                continue;
            }
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
        let (width, head) = (self.numbers.embedding_length, layer.key_length);
        if layer.value_length != head {
            let key = format!("{}.attention.value_length", self.recipe.name);
            let expected =
                format!("{head}, the width of a key: queries come with a gate for each value");
            return Err(Error::invalid(key, layer.value_length, expected));
        }
        let name = format!("blk.{index}.attn_q");
        let scale = self.builder.matrix_scale(&name)?;
        let matrix =
            self.builder.tensor(&format!("{name}.weight"), &[width, 2 * layer.n_heads * head])?;
        let mut output = |first: usize, out: Slot| -> Result<LinearOutput> {
            let firsts = (0..layer.n_heads).map(|index| 2 * index * head + first);
            let rows = firsts.map(|row| row..row + head).collect();
            let weight = self.builder.add_rows(&matrix, rows)?;
            Ok(LinearOutput { weight, bias: None, out, scale, accumulate: false })
        };
        Ok([output(0, self.slots.q)?, output(head, self.slots.q_gate)?])
    }

    /// RMS norm of each head, joined with the rotation.
    fn head_norm(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
    ) -> Result<Option<HeadNorm>> {
        let [q_name, k_name] =
            ["q", "k"].map(|letter| format!("blk.{index}.attn_{letter}_norm.weight"));
        let (has_norm, has_factors) = match self.recipe.qk_norm {
            QkNorm::Heads | QkNorm::HeadsAfterRope => (true, true),
            QkNorm::HeadsIfPresent => (self.builder.contains(&q_name), true),
            QkNorm::BareHeads => (layer.rotates, false),
            QkNorm::None | QkNorm::Row | QkNorm::RowIfPresent | QkNorm::EachHeadIfPresent => {
                (false, false)
            }
        };
        if !has_norm {
            return Ok(None);
        }
        let width = layer.key_length;
        let mut factors = |name: &str| match has_factors {
            true => self.builder.weight(name, &[width]),
            false => self.builder.constant(name, &vec![1.0; width]),
        };
        Ok(Some(HeadNorm {
            q_weight: factors(&q_name)?,
            k_weight: factors(&k_name)?,
            epsilon: self.numbers.epsilon,
            after_rope: matches!(self.recipe.qk_norm, QkNorm::HeadsAfterRope),
        }))
    }

    /// RMS norm of each value head, without factors; of each key head, where the layer
    /// has no matrix for values.
    fn value_norm(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        let LayerSlots { k, v, .. } = self.slots;
        let name = format!("blk.{index}.attn_v");
        let is_fused = self.has_matrix(&format!("blk.{index}.attn_qkv"));
        let input = if is_fused || self.has_matrix(&name) { v } else { k };
        let fits = layer.key_length == layer.value_length
            && self.builder.width(k) == self.builder.width(v);
        if input == k && !fits {
            let expected = "a matrix: keys are not as wide as values";
            return Err(Error::invalid(format!("{name}.weight"), "nothing", expected));
        }
        self.builder.push(Step::Norm(Norm {
            input,
            out: v,
            kind: NormKind::Rms,
            groups: layer.n_kv_heads,
            width: layer.value_length,
            weight: None,
            bias: None,
            epsilon: self.numbers.epsilon,
        }));
        Ok(())
    }

    fn has_matrix(&self, name: &str) -> bool {
        self.builder.contains(&format!("{name}.weight"))
    }

    /// Norms of queries and keys that are steps of their own.
    fn qk_norm(&mut self, index: usize, layer: &LayerHyperparameters) -> Result<()> {
        let width = layer.key_length;
        let parts = [
            ("attn_q_norm", layer.n_heads, self.slots.q),
            ("attn_k_norm", layer.n_kv_heads, self.slots.k),
        ];
        for (part, heads, slot) in parts {
            let name = format!("blk.{index}.{part}");
            match self.recipe.qk_norm {
                QkNorm::None
                | QkNorm::Heads
                | QkNorm::HeadsIfPresent
                | QkNorm::HeadsAfterRope
                | QkNorm::BareHeads => {}
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
