//! The feed-forward part: dense, or a mixture of experts.

use realm_ir::{
    Activation, Add, ExpertWeights, GatedAct, Linear, LinearOutput, Moe, Slot, Sparsify, Step,
    WeightRef,
};

use super::{LayerBuilder, LayerSlots};
use crate::error::Result;
use crate::hyperparameters::{ExpertHyperparameters, LayerHyperparameters};
use crate::recipe::FeedForward;

impl LayerBuilder<'_> {
    /// A layer's feed-forward part.
    pub(crate) fn feed_forward(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
        input: Slot,
    ) -> Result<()> {
        match self.recipe.own_feed_forward {
            Some(build) => build(self, index, layer, input),
            None => self.dense_or_experts(index, layer, [input, input]),
        }
    }

    /// The common feed-forward part: dense, or experts in the layers that have some.
    pub(crate) fn dense_or_experts(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
        [input, router_input]: [Slot; 2],
    ) -> Result<()> {
        match self.numbers.experts.filter(|_| layer.has_experts) {
            Some(experts) => self.experts(index, &experts, layer, [input, router_input]),
            None => self.dense(index, layer, input),
        }
    }

    /// A feed-forward part without experts.
    pub(crate) fn dense(
        &mut self,
        index: usize,
        layer: &LayerHyperparameters,
        input: Slot,
    ) -> Result<()> {
        let inner = layer.feed_forward_length;
        self.gated(index, "", inner, layer.activation, input)?;
        let gate = self.slots.gate;
        if self.recipe.sub_norms {
            let name = format!("blk.{index}.ffn_sub_norm");
            self.norm_of(&name, gate, gate, self.recipe.norm, (1, inner), &[inner])?;
        }
        let shape = [inner, self.numbers.embedding_length];
        let down = self.linear(&format!("blk.{index}.ffn_down"), &shape, gate)?;
        self.residual(index, gate, down, "post_ffw_norm")
    }

    /// Everything before the down matrix, into the gate slot. `suffix` is that of
    /// the tensors' names.
    pub(crate) fn gated(
        &mut self,
        index: usize,
        suffix: &str,
        inner: usize,
        activation: Activation,
        input: Slot,
    ) -> Result<()> {
        let LayerSlots { gate, up, .. } = self.slots;
        let width = self.numbers.embedding_length;
        let name = |part: &str| format!("blk.{index}.ffn_{part}{suffix}");
        let (outputs, up) = match self.recipe.feed_forward {
            FeedForward::Plain(_) | FeedForward::PlainXielu => {
                (vec![self.linear(&name("up"), &[width, inner], gate)?], None)
            }
            // Without a gate of its own, the up matrix begins with the gate's rows.
            FeedForward::Gated(_)
                if !self.builder.contains(&format!("{}.weight", name("gate"))) =>
            {
                (self.split_linear(&name("up"), width, &[(inner, gate), (inner, up)])?, Some(up))
            }
            FeedForward::Gated(_) => {
                let gate = self.linear(&name("gate"), &[width, inner], gate)?;
                (vec![gate, self.linear(&name("up"), &[width, inner], up)?], Some(up))
            }
        };
        self.builder.push(Step::Linear(Linear { input, outputs }));
        if let Some(deviations) = self.numbers.layers[index].gate_sparsity {
            let step = Sparsify { values: gate, width: inner, deviations };
            self.builder.push(Step::Sparsify(step));
        }
        self.builder.push(Step::GatedAct(GatedAct {
            gate,
            up,
            up_offset: 0,
            out: gate,
            activation,
        }));
        Ok(())
    }

    fn experts(
        &mut self,
        index: usize,
        experts: &ExpertHyperparameters,
        layer: &LayerHyperparameters,
        [input, router_input]: [Slot; 2],
    ) -> Result<()> {
        let block = self.slots.block;
        self.moe(index, experts, layer, [input, router_input], block)?;
        if self.builder.contains(&format!("blk.{index}.ffn_up_shexp.weight")) {
            let inner = experts.shared_feed_forward_length;
            self.shared_expert(index, inner, layer.activation, input)?;
        }
        self.add_block(index, "post_ffw_norm")
    }

    /// Routes rows to experts and leaves their sum in `out`.
    pub(crate) fn moe(
        &mut self,
        index: usize,
        experts: &ExpertHyperparameters,
        layer: &LayerHyperparameters,
        [input, router_input]: [Slot; 2],
        out: Slot,
    ) -> Result<()> {
        let width = self.numbers.embedding_length;
        let name = |part: &str| format!("blk.{index}.{part}");
        let n = experts.n_experts;
        let router = self.builder.weight(&name("ffn_gate_inp.weight"), &[width, n])?;
        let router_bias = self.builder.optional(&name("ffn_gate_inp.bias"), &[n])?;
        let choice_bias = match self.builder.optional(&name("exp_probs_b.bias"), &[n])? {
            Some(bias) => Some(bias),
            None => self.builder.optional(&name("exp_probs_b"), &[n])?,
        };
        let weights = self.expert_weights(index, experts)?;
        self.builder.push(Step::Moe(Box::new(Moe {
            input,
            router_input,
            out,
            accumulate: false,
            router,
            router_bias,
            choice_bias,
            gating: experts.gating,
            normalize: experts.normalize,
            scale: experts.scale,
            n_experts: n,
            n_used: experts.n_used,
            n_groups: experts.n_groups,
            n_groups_used: experts.n_groups_used,
            experts: weights,
            activation: layer.activation,
            weigh_input: self.recipe.experts_weigh_input,
        })));
        Ok(())
    }

    fn expert_weights(
        &mut self,
        index: usize,
        experts: &ExpertHyperparameters,
    ) -> Result<ExpertWeights> {
        let (n, inner) = (experts.n_experts, experts.feed_forward_length);
        let width = self.numbers.embedding_length;
        let name = |part: &str, kind: &str| format!("blk.{index}.ffn_{part}_exps.{kind}");
        let is_gated = matches!(self.recipe.feed_forward, FeedForward::Gated(_));
        let is_joined = is_gated && self.builder.contains(&name("gate_up", "weight"));
        let down = self.builder.weight(&name("down", "weight"), &[inner, width, n])?;
        let down_bias = self.builder.optional(&name("down", "bias"), &[width, n])?;
        let down_scale = self.builder.optional(&name("down", "scale"), &[n])?;
        if is_joined {
            let both = self.builder.weight(&name("gate_up", "weight"), &[width, 2 * inner, n])?;
            let (gate_bias, up_bias) = self.joined_bias(&name("gate_up", "bias"), inner, n)?;
            // Both are multiplied by the same factor, which goes by either name.
            let scale = match self.builder.optional(&name("gate_up", "scale"), &[n])? {
                Some(scale) => Some(scale),
                None => self.builder.optional(&name("up", "scale"), &[n])?,
            };
            return Ok(ExpertWeights {
                gate: Some(both),
                up: both,
                down,
                gate_bias,
                up_bias,
                down_bias,
                gate_scale: scale,
                up_scale: scale,
                down_scale,
            });
        }
        let gate = match is_gated {
            true => Some(self.builder.weight(&name("gate", "weight"), &[width, inner, n])?),
            false => None,
        };
        Ok(ExpertWeights {
            gate,
            up: self.builder.weight(&name("up", "weight"), &[width, inner, n])?,
            down,
            gate_bias: self.builder.optional(&name("gate", "bias"), &[inner, n])?,
            up_bias: self.builder.optional(&name("up", "bias"), &[inner, n])?,
            down_bias,
            gate_scale: self.builder.optional(&name("gate", "scale"), &[n])?,
            up_scale: self.builder.optional(&name("up", "scale"), &[n])?,
            down_scale,
        })
    }

    /// The terms of gate and up, which a file may hold as `[2 * inner, n]`.
    fn joined_bias(
        &mut self,
        name: &str,
        inner: usize,
        n: usize,
    ) -> Result<(Option<WeightRef>, Option<WeightRef>)> {
        if !self.builder.contains(name) {
            return Ok((None, None));
        }
        let values = self.builder.values(name, &[2 * inner, n])?;
        let mut part = |first: usize| {
            let rows = values.chunks_exact(2 * inner);
            let part: Vec<f32> = rows.flat_map(|row| &row[first..][..inner]).copied().collect();
            self.builder.constant_rows(name, &[inner, n], &part).map(Some)
        };
        Ok((part(0)?, part(inner)?))
    }

    /// The expert that every row uses, added to the block slot; behind a gate of
    /// one value per row where the file has one.
    fn shared_expert(
        &mut self,
        index: usize,
        inner: usize,
        activation: Activation,
        input: Slot,
    ) -> Result<()> {
        let LayerSlots { gate, block, .. } = self.slots;
        let width = self.numbers.embedding_length;
        self.gated(index, "_shexp", inner, activation, input)?;
        let down = self.linear(&format!("blk.{index}.ffn_down_shexp"), &[inner, width], gate)?;
        let gate_name = format!("blk.{index}.ffn_gate_inp_shexp.weight");
        if !self.builder.contains(&gate_name) {
            let outputs = vec![LinearOutput { out: block, accumulate: true, ..down }];
            self.builder.push(Step::Linear(Linear { input: gate, outputs }));
            return Ok(());
        }
        // sigmoid(row_gate . input) * down(...)
        let (result, scaled) = (self.builder.batch_slot(width), self.builder.batch_slot(width));
        let outputs = vec![LinearOutput { out: result, ..down }];
        self.builder.push(Step::Linear(Linear { input: gate, outputs }));
        let weight = self.builder.weight(&gate_name, &[width])?;
        let out = self.builder.batch_slot(1);
        let outputs = vec![LinearOutput { weight, bias: None, out, scale: 1.0, accumulate: false }];
        self.builder.push(Step::Linear(Linear { input, outputs }));
        let activation = Activation::Sigmoid;
        let step = GatedAct { gate: out, up: Some(result), up_offset: 0, out: scaled, activation };
        self.builder.push(Step::GatedAct(step));
        let add = Add { a: block, b: scaled, out: block, a_scale: 1.0, scale: 1.0 };
        self.builder.push(Step::Add(add));
        Ok(())
    }
}
