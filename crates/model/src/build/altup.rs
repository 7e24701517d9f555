//! Streams beside the hidden state (AltUp, arXiv 2301.13310): a layer predicts all of them
//! from each other, runs on the first alone, and corrects all by what it made of that one.
//! And what comes with them in Gemma 3n: a low-rank part beside attention (Laurel, arXiv
//! 2411.07501).
//!
//! Between layers the streams are all there is: the first stands where other families have
//! the hidden state, the others are carried. Within a layer, the slot of the hidden state
//! begins as the first stream's prediction.

use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Activation, Add, GatedAct, Linear, LinearOutput, Mix, Norm, NormKind, Rows, Slot, Step,
    TakeRows, WeightRef,
};

use super::{LayerBuilder, LayerSlots};
use crate::error::Result;
use crate::hyperparameters::Hyperparameters;
use crate::program_builder::ProgramBuilder;

/// Under the root of a stream's magnitude, which is divided by: far below any real one.
const MAGNITUDE_EPSILON: f32 = 1e-12;

/// The buffers of streams, and constants that all layers use.
#[derive(Clone)]
pub(super) struct AltUp {
    /// The streams, the one that layers run on first.
    pub streams: Vec<Slot>,
    /// What the factors are made of, `[rows, streams]`.
    modalities: Slot,
    /// Factors of a prediction, `[rows, streams * streams]`.
    predict: Slot,
    /// Factors of a correction, `[rows, streams]`.
    correct: Slot,
    /// The low-rank part, `[rows, rank]`.
    laurel: Slot,
    /// A row of factors, the same in every row.
    factors: Slot,
    /// Ones where a prediction begins with the stream itself, `[streams * streams]`.
    identity: WeightRef,
    /// `[streams]`
    ones: WeightRef,
    /// `[streams, embedding length]`
    zeros: WeightRef,
}

impl AltUp {
    pub fn new(
        builder: &mut ProgramBuilder<'_>,
        numbers: &Hyperparameters,
    ) -> Result<Option<Self>> {
        let Some(altup) = numbers.altup else { return Ok(None) };
        let (n, width) = (altup.n_streams, numbers.embedding_length);
        let identity: Vec<f32> =
            (0..n * n).map(|at| if at / n == at % n { 1.0 } else { 0.0 }).collect();
        let zeros = vec![0; n * width * size_of::<f32>()];
        let zeros = TensorData::from_vec("zeros", &[n, width], TensorType::F32, zeros)?;
        Ok(Some(AltUp {
            streams: (0..n).map(|_| builder.batch_slot(width)).collect(),
            modalities: builder.batch_slot(n),
            predict: builder.batch_slot(n * n),
            correct: builder.batch_slot(n),
            laurel: builder.batch_slot(altup.laurel_rank),
            factors: builder.batch_slot(width),
            identity: builder.constant("identity", &identity)?,
            ones: builder.constant("ones", &vec![1.0; n])?,
            zeros: builder.add(zeros),
        }))
    }
}

impl LayerBuilder<'_> {
    /// Makes the streams of the embedding: itself, and projections of it that are as large.
    pub(super) fn embed_streams(&mut self) -> Result<()> {
        let Some(altup) = self.altup.clone() else { return Ok(()) };
        let hidden = self.slots.hidden;
        self.copy(hidden, altup.streams[0]);
        let targets = &altup.streams[1..];
        let outputs = self.stream_matrices("altup_proj", targets)?;
        self.builder.push(Step::Linear(Linear { input: hidden, outputs }));
        self.match_magnitude(hidden, targets, Rows::Batch)
    }

    /// Replaces all streams by predictions, `stream + sum of factors * streams`, and begins
    /// the layer with the first.
    pub(super) fn predict_streams(&mut self, index: usize) -> Result<()> {
        let Some(altup) = self.altup.clone() else { return Ok(()) };
        let (first, n) = (altup.streams[0], altup.streams.len());
        self.modalities(index, first, &altup)?;
        let name = format!("blk.{index}.altup_predict_coef");
        let output = self.linear(&name, &[n, n * n], altup.predict)?;
        let outputs = vec![LinearOutput { bias: Some(altup.identity), ..output }];
        self.builder.push(Step::Linear(Linear { input: altup.modalities, outputs }));
        self.builder.push(Step::Mix(Mix {
            inputs: altup.streams.clone(),
            outputs: altup.streams,
            weights: altup.predict,
            accumulate: false,
        }));
        self.copy(first, self.slots.hidden);
        Ok(())
    }

    /// Adds to each stream its share of what the layer changed in the first:
    /// `(1 + factor) * (hidden - first stream)`.
    pub(super) fn correct_streams(&mut self, index: usize) -> Result<()> {
        let Some(altup) = self.altup.clone() else { return Ok(()) };
        let LayerSlots { hidden, block, .. } = self.slots;
        let n = altup.streams.len();
        self.modalities(index, hidden, &altup)?;
        let name = format!("blk.{index}.altup_correct_coef");
        let output = self.linear(&name, &[n, n], altup.correct)?;
        let outputs = vec![LinearOutput { bias: Some(altup.ones), ..output }];
        self.builder.push(Step::Linear(Linear { input: altup.modalities, outputs }));
        let (a, b) = (hidden, altup.streams[0]);
        self.builder.push(Step::Add(Add { a, b, out: block, a_scale: 1.0, scale: -1.0 }));
        self.builder.push(Step::Mix(Mix {
            inputs: vec![block],
            outputs: altup.streams,
            weights: altup.correct,
            accumulate: true,
        }));
        Ok(())
    }

    /// `tanh(router(norm(input)) / embedding length)`, what factors are made of.
    fn modalities(&mut self, index: usize, input: Slot, altup: &AltUp) -> Result<()> {
        let (normed, width) = (self.slots.normed, self.numbers.embedding_length);
        self.norm(&format!("blk.{index}.altup_router_norm"), input, normed)?;
        let (n, gate) = (altup.streams.len(), altup.modalities);
        let mut output = self.linear(&format!("blk.{index}.altup_router"), &[width, n], gate)?;
        output.scale /= width as f32;
        self.builder.push(Step::Linear(Linear { input: normed, outputs: vec![output] }));
        // A cap of 1 is the hyperbolic tangent.
        let activation = Activation::Softcap(1.0);
        let tanh = GatedAct { gate, up: None, up_offset: 0, out: gate, activation };
        self.builder.push(Step::GatedAct(tanh));
        Ok(())
    }

    /// The first stream times the layer's factors for it. A product with zeros and a bias
    /// brings them into every row.
    pub(super) fn scale_stream(&mut self, index: usize, altup: &AltUp) -> Result<Slot> {
        let (scaled, width) = (self.slots.normed, self.numbers.embedding_length);
        let name = format!("blk.{index}.altup_correct_scale.weight");
        let bias = Some(self.builder.weight(&name, &[width])?);
        let (weight, out) = (altup.zeros, altup.factors);
        let outputs = vec![LinearOutput { weight, bias, out, scale: 1.0, accumulate: false }];
        self.builder.push(Step::Linear(Linear { input: altup.modalities, outputs }));
        self.multiply(altup.streams[0], altup.factors, scaled);
        Ok(scaled)
    }

    /// Adds what attention's input gives by a product of low rank, and that input itself;
    /// the sum is divided by the root of 2.
    pub(super) fn add_laurel(&mut self, index: usize, input: Slot) -> Result<()> {
        let Some(altup) = &self.altup else { return Ok(()) };
        let LayerSlots { hidden, block, .. } = self.slots;
        let (laurel, rank) = (altup.laurel, self.builder.width(altup.laurel));
        let width = self.numbers.embedding_length;
        let name = |part: &str| format!("blk.{index}.laurel_{part}");
        let outputs = vec![self.linear(&name("l"), &[width, rank], laurel)?];
        self.builder.push(Step::Linear(Linear { input, outputs }));
        let outputs = vec![self.linear(&name("r"), &[rank, width], block)?];
        self.builder.push(Step::Linear(Linear { input: laurel, outputs }));
        self.norm(&name("post_norm"), block, block)?;
        let add = Add { a: block, b: input, out: block, a_scale: 1.0, scale: 1.0 };
        self.builder.push(Step::Add(add));
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let add = Add { a: hidden, b: block, out: hidden, a_scale: half, scale: half };
        self.builder.push(Step::Add(add));
        Ok(())
    }

    /// The mean of the streams, those behind the first projected and made as large as it,
    /// for the rows that are wanted.
    pub(super) fn merge_streams(&mut self) -> Result<()> {
        let Some(altup) = self.altup.clone() else { return Ok(()) };
        let (taken, width) = (self.slots.taken, self.numbers.embedding_length);
        let mut output_slots = || -> Vec<Slot> {
            altup.streams[1..].iter().map(|_| self.builder.slot(Rows::Outputs, width)).collect()
        };
        let (inputs, projected) = (output_slots(), output_slots());
        let all = std::iter::once(taken).chain(inputs.iter().copied());
        for (input, out) in altup.streams.iter().zip(all) {
            self.builder.push(Step::TakeRows(TakeRows { input: *input, out }));
        }
        let outputs = self.stream_matrices("altup_unembd_proj", &projected)?;
        for (input, output) in inputs.into_iter().zip(outputs) {
            self.builder.push(Step::Linear(Linear { input, outputs: vec![output] }));
        }
        self.match_magnitude(taken, &projected, Rows::Outputs)?;
        let scale = 1.0 / altup.streams.len() as f32;
        for (index, b) in projected.into_iter().enumerate() {
            let a_scale = if index == 0 { scale } else { 1.0 };
            self.builder.push(Step::Add(Add { a: taken, b, out: taken, a_scale, scale }));
        }
        Ok(())
    }

    /// One matrix of a tensor `[width, width, streams - 1]` for each of `outs`.
    fn stream_matrices(&mut self, name: &str, outs: &[Slot]) -> Result<Vec<LinearOutput>> {
        let width = self.numbers.embedding_length;
        let tensor = self.builder.tensor(&format!("{name}.weight"), &[width, width, outs.len()])?;
        let scale = self.builder.matrix_scale(name)?;
        let matrix = |(index, out): (usize, &Slot)| {
            let rows = index * width..(index + 1) * width;
            let weight = self.builder.add_rows(&tensor, vec![rows])?;
            Ok(LinearOutput { weight, bias: None, out: *out, scale, accumulate: false })
        };
        outs.iter().enumerate().map(matrix).collect()
    }

    /// Scales the rows of `targets` to the root mean square of those of `like`, which is
    /// the mean product of a row with its norm.
    fn match_magnitude(&mut self, like: Slot, targets: &[Slot], rows: Rows) -> Result<()> {
        let width = self.numbers.embedding_length;
        let (unit, gate) = (self.builder.slot(rows, width), self.builder.slot(rows, 1));
        self.unit(like, unit);
        self.multiply(unit, like, unit);
        let weight = self.builder.constant("ones", &vec![1.0; width])?;
        let scale = 1.0 / width as f32;
        let outputs =
            vec![LinearOutput { weight, bias: None, out: gate, scale, accumulate: false }];
        self.builder.push(Step::Linear(Linear { input: unit, outputs }));
        for target in targets {
            self.unit(*target, unit);
            self.multiply(gate, unit, *target);
        }
        Ok(())
    }

    /// `out = input / root mean square of input`
    fn unit(&mut self, input: Slot, out: Slot) {
        self.builder.push(Step::Norm(Norm {
            input,
            out,
            kind: NormKind::Rms,
            groups: 1,
            width: self.numbers.embedding_length,
            weight: None,
            bias: None,
            epsilon: MAGNITUDE_EPSILON,
        }));
    }

    /// `out = gate * up`; `out` may be `gate`.
    fn multiply(&mut self, gate: Slot, up: Slot, out: Slot) {
        let activation = Activation::Identity;
        let step = GatedAct { gate, up: Some(up), up_offset: 0, out, activation };
        self.builder.push(Step::GatedAct(step));
    }

    /// `to = from`
    fn copy(&mut self, from: Slot, to: Slot) {
        self.builder.push(Step::Add(Add { a: from, b: from, out: to, a_scale: 1.0, scale: 0.0 }));
    }
}
