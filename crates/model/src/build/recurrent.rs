//! What stands in for attention in recurrent layers.

use realm_ir::{Activation, Conv, DeltaNet, GatedAct, Linear, LinearOutput, NormKind, Slot, Step};

use super::LayerBuilder;
use crate::error::Result;

impl LayerBuilder<'_> {
    /// `out(c * conv(b * x))` of three parts of one product (`shortconv.in_proj`).
    pub(super) fn short_conv(&mut self, index: usize, state: usize, input: Slot) -> Result<()> {
        let width = self.numbers.embedding_length;
        let taps = self.numbers.conv_taps;
        let name = |part: &str| format!("blk.{index}.shortconv.{part}");
        let [b, c, x, convolved] = std::array::from_fn(|_| self.builder.batch_slot(width));
        let parts = [(width, b), (width, c), (width, x)];
        let outputs = self.split_linear(&name("in_proj"), width, &parts)?;
        self.builder.push(Step::Linear(Linear { input, outputs }));
        let activation = Activation::Identity;
        let step = GatedAct { gate: b, up: Some(x), up_offset: 0, out: b, activation };
        self.builder.push(Step::GatedAct(step));
        let weight = self.builder.weight(&name("conv.weight"), &[taps, width])?;
        self.builder.push(Step::Conv(Conv {
            input: b,
            out: convolved,
            weight,
            bias: None,
            activation,
            state,
        }));
        let step = GatedAct { gate: c, up: Some(convolved), up_offset: 0, out: c, activation };
        self.builder.push(Step::GatedAct(step));
        let output = self.linear(&name("out_proj"), &[width, width], c)?;
        self.residual(index, c, output, "post_attention_norm")
    }

    /// A gated delta rule between a convolution and a gated norm.
    pub(super) fn delta_net(&mut self, index: usize, state: usize, input: Slot) -> Result<()> {
        let numbers = self.numbers;
        let net = numbers.delta_net.expect("layers of this kind have its numbers");
        let (width, heads) = (numbers.embedding_length, net.n_value_heads);
        let value_width = heads * net.value_width;
        let name = |part: &str| format!("blk.{index}.{part}");
        let [mixed, convolved] = std::array::from_fn(|_| self.builder.batch_slot(net.qkv_width()));
        let [alpha, beta] = std::array::from_fn(|_| self.builder.batch_slot(heads));
        let [z, out] = std::array::from_fn(|_| self.builder.batch_slot(value_width));
        let mut outputs = vec![
            self.linear(&name("attn_qkv"), &[width, net.qkv_width()], mixed)?,
            self.linear(&name("attn_gate"), &[width, value_width], z)?,
        ];
        if self.builder.contains(&name("ssm_ba.weight")) {
            // Of each key head, the rows of its value heads' beta, then of their alpha.
            let per_key_head = heads / net.n_key_heads;
            let joint = name("ssm_ba");
            let parts = [per_key_head, per_key_head];
            let parts = self.builder.row_groups(&joint, width, net.n_key_heads, &parts)?;
            let scale = self.builder.matrix_scale(&joint)?;
            for (weight, out) in parts.into_iter().zip([beta, alpha]) {
                let weight = self.builder.add(weight);
                outputs.push(LinearOutput { weight, bias: None, out, scale, accumulate: false });
            }
        } else {
            outputs.push(self.linear(&name("ssm_alpha"), &[width, heads], alpha)?);
            outputs.push(self.linear(&name("ssm_beta"), &[width, heads], beta)?);
        }
        self.builder.push(Step::Linear(Linear { input, outputs }));

        let shape = [numbers.conv_taps, net.qkv_width()];
        let weight = self.builder.weight(&name("ssm_conv1d.weight"), &shape)?;
        let activation = Activation::Silu;
        let conv = Conv { input: mixed, out: convolved, weight, bias: None, activation, state };
        self.builder.push(Step::Conv(conv));
        let decay = self.builder.weight(&name("ssm_a"), &[heads])?;
        let bias = self.builder.weight(&name("ssm_dt.bias"), &[heads])?;
        self.builder.push(Step::DeltaNet(DeltaNet {
            qkv: convolved,
            alpha,
            beta,
            out,
            decay,
            bias,
            n_key_heads: net.n_key_heads,
            n_value_heads: heads,
            grouped: net.grouped,
            key_width: net.key_width,
            value_width: net.value_width,
            epsilon: 1e-6,
            state: state + 1,
        }));
        let groups = (heads, net.value_width);
        self.norm_of(&name("ssm_norm"), out, out, NormKind::Rms, groups, &[net.value_width])?;
        let step = GatedAct { gate: z, up: Some(out), up_offset: 0, out: z, activation };
        self.builder.push(Step::GatedAct(step));
        let output = self.linear(&name("ssm_out"), &[value_width, width], z)?;
        self.residual(index, z, output, "post_attention_norm")
    }
}
