//! The selective scans of Mamba (arXiv 2312.00752) and Mamba 2 (arXiv 2405.21060).

use realm_ir::{
    Activation, Conv, GatedAct, Linear, LinearOutput, Norm, NormKind, SelectiveScan, Slot, Step,
};

use super::LayerBuilder;
use crate::error::Result;
use crate::hyperparameters::ScanHyperparameters;

/// What a scan reads.
struct ScanSlots {
    x: Slot,
    dt: Slot,
    b: Slot,
    c: Slot,
}

impl LayerBuilder<'_> {
    /// Mamba: time steps and what writes and reads the state come from the convolved
    /// values, the former by way of a latent.
    pub(super) fn mamba(&mut self, index: usize, state: usize, input: Slot) -> Result<()> {
        let scan = self.numbers.scan.expect("layers of this kind have its numbers");
        let (inner, rank, n) = (scan.inner(), scan.time_rank, scan.state_width);
        let name = |part: &str| format!("blk.{index}.{part}");
        let [x, z, convolved, dt] = std::array::from_fn(|_| self.builder.batch_slot(inner));
        let [latent, b, c] = [rank, n, n].map(|width| self.builder.batch_slot(width));
        let width = self.numbers.embedding_length;
        let outputs = self.split_linear(&name("ssm_in"), width, &[(inner, x), (inner, z)])?;
        self.builder.push(Step::Linear(Linear { input, outputs }));
        self.scan_conv(index, 0..inner, inner, (x, convolved), state)?;

        let parts = [(rank, latent), (n, b), (n, c)];
        let outputs = self.split_linear(&name("ssm_x"), inner, &parts)?;
        self.builder.push(Step::Linear(Linear { input: convolved, outputs }));
        for (part, slot, width) in
            [("ssm_dt_norm", latent, rank), ("ssm_b_norm", b, n), ("ssm_c_norm", c, n)]
        {
            if self.builder.contains(&name(&format!("{part}.weight"))) {
                self.norm_of(&name(part), slot, slot, NormKind::Rms, (1, width), &[width])?;
            } else if scan.bare_norms {
                self.bare_norm(slot, width);
            }
        }
        // The scan adds the term of the time steps.
        let weight = self.builder.weight(&name("ssm_dt.weight"), &[rank, inner])?;
        let scale = self.builder.matrix_scale(&name("ssm_dt"))?;
        let outputs = vec![LinearOutput { weight, bias: None, out: dt, scale, accumulate: false }];
        self.builder.push(Step::Linear(Linear { input: latent, outputs }));

        let slots = ScanSlots { x: convolved, dt, b, c };
        self.scan(index, &scan, &slots, n, (x, state + 1))?;
        self.scan_output(index, &scan, x, z)
    }

    /// Mamba 2: all of it comes from one product.
    pub(super) fn mamba2(&mut self, index: usize, state: usize, input: Slot) -> Result<()> {
        let scan = self.numbers.scan.expect("layers of this kind have its numbers");
        let (inner, written) = (scan.inner(), scan.group_values());
        let [z, x, convolved] = std::array::from_fn(|_| self.builder.batch_slot(inner));
        let [b, c, b_convolved, c_convolved] =
            std::array::from_fn(|_| self.builder.batch_slot(written));
        let dt = self.builder.batch_slot(scan.n_heads);
        let parts = [(inner, z), (inner, x), (written, b), (written, c), (scan.n_heads, dt)];
        let width = self.numbers.embedding_length;
        let outputs = self.split_linear(&format!("blk.{index}.ssm_in"), width, &parts)?;
        self.builder.push(Step::Linear(Linear { input, outputs }));

        let convolutions = [
            (0..inner, x, convolved),
            (inner..inner + written, b, b_convolved),
            (inner + written..inner + 2 * written, c, c_convolved),
        ];
        for (i, (columns, from, to)) in convolutions.into_iter().enumerate() {
            self.scan_conv(index, columns, inner + 2 * written, (from, to), state + i)?;
        }
        let slots = ScanSlots { x: convolved, dt, b: b_convolved, c: c_convolved };
        self.scan(index, &scan, &slots, 1, (x, state + 3))?;
        self.scan_output(index, &scan, x, z)
    }

    /// The convolution of some of the `width` columns that `ssm_conv1d` has.
    fn scan_conv(
        &mut self,
        index: usize,
        columns: std::ops::Range<usize>,
        width: usize,
        (input, out): (Slot, Slot),
        state: usize,
    ) -> Result<()> {
        let name = format!("blk.{index}.ssm_conv1d");
        let taps = self.numbers.conv_taps;
        let weight = self.builder.tensor(&format!("{name}.weight"), &[taps, width])?;
        let weight = self.builder.add(weight.rows(columns.clone())?);
        let bias_name = format!("{name}.bias");
        let bias = match self.builder.contains(&bias_name) {
            true => {
                let values = self.builder.values(&bias_name, &[width])?;
                Some(self.builder.constant(&bias_name, &values[columns])?)
            }
            false => None,
        };
        let activation = Activation::Silu;
        self.builder.push(Step::Conv(Conv { input, out, weight, bias, activation, state }));
        Ok(())
    }

    fn scan(
        &mut self,
        index: usize,
        scan: &ScanHyperparameters,
        slots: &ScanSlots,
        n_decays: usize,
        (out, state): (Slot, usize),
    ) -> Result<()> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let heads = scan.n_heads;
        let decay = self.builder.weight(&name("ssm_a"), &[n_decays, heads])?;
        // Heads of one value have a vector here, others a row of one column.
        let skip_shape = if scan.head_width == 1 { vec![heads] } else { vec![1, heads] };
        let skip = self.builder.weight(&name("ssm_d"), &skip_shape)?;
        let bias = self.builder.weight(&name("ssm_dt.bias"), &[heads])?;
        self.builder.push(Step::SelectiveScan(SelectiveScan {
            x: slots.x,
            dt: slots.dt,
            b: slots.b,
            c: slots.c,
            out,
            decay,
            bias,
            skip,
            n_heads: heads,
            head_width: scan.head_width,
            state_width: scan.state_width,
            n_groups: scan.n_groups,
            state,
        }));
        Ok(())
    }

    /// `out(norm(silu(z) * y))`; Mamba has no norm there.
    fn scan_output(
        &mut self,
        index: usize,
        scan: &ScanHyperparameters,
        y: Slot,
        z: Slot,
    ) -> Result<()> {
        let (inner, n_groups) = (scan.inner(), scan.n_groups);
        let name = |part: &str| format!("blk.{index}.{part}");
        let activation = Activation::Silu;
        self.builder.push(Step::GatedAct(GatedAct {
            gate: z,
            up: Some(y),
            up_offset: 0,
            out: z,
            activation,
        }));
        if self.builder.contains(&name("ssm_norm.weight")) {
            let (groups, shape) = ((n_groups, inner / n_groups), [inner / n_groups, n_groups]);
            self.norm_of(&name("ssm_norm"), z, z, NormKind::Rms, groups, &shape)?;
        }
        let shape = [inner, self.numbers.embedding_length];
        let output = self.linear(&name("ssm_out"), &shape, z)?;
        self.residual(index, z, output, "post_attention_norm")
    }

    fn bare_norm(&mut self, slot: Slot, width: usize) {
        let epsilon = self.numbers.epsilon;
        self.builder.push(Step::Norm(Norm {
            input: slot,
            out: slot,
            kind: NormKind::Rms,
            groups: 1,
            width,
            weight: None,
            bias: None,
            epsilon,
        }));
    }
}
