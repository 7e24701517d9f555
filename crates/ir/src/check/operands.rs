//! What every step's check is made of: slots and how much of them is there, weights, numbers.

use std::fmt::Display;

use realm_gguf::TensorData;

use crate::config::{KvLayer, SessionConfig};
use crate::error::{Error, Result};
use crate::operands::{Activation, Slot, WeightRef};
use crate::program::{Program, Rows};
use crate::step::Step;

/// Goes through a program step by step.
pub(super) struct Checker<'a> {
    pub program: &'a Program,
    pub config: &'a SessionConfig,
    segment: Option<usize>,
    /// Which step of the segment it is, and its name.
    step: Option<(usize, &'static str)>,
    /// Steps of the segment so far.
    n_steps: usize,
    /// Values of a row of each slot that are there at this point.
    held: Vec<usize>,
    /// Layers of the KV cache that a step so far has stored.
    stored: Vec<bool>,
    /// Recurrent states that a step so far has.
    kept: Vec<bool>,
}

impl<'a> Checker<'a> {
    pub fn new(program: &'a Program, config: &'a SessionConfig) -> Self {
        Checker {
            program,
            config,
            segment: None,
            step: None,
            n_steps: 0,
            held: program.slots.iter().map(|slot| slot.width).collect(),
            stored: vec![false; config.kv.layers.len()],
            kept: vec![false; config.states.widths.len()],
        }
    }

    pub fn begin_segment(&mut self, segment: usize) {
        (self.segment, self.step, self.n_steps) = (Some(segment), None, 0);
    }

    pub fn begin_step(&mut self, step: &Step) {
        self.step = Some((self.n_steps, step.name()));
        self.n_steps += 1;
    }

    pub fn leave_step(&mut self) {
        self.step = None;
    }

    /// The error for an operand that is not what it should be.
    pub fn refuse(
        &self,
        operand: impl Display,
        found: impl Display,
        expected: impl Display,
    ) -> Error {
        let segment = match self.segment {
            None => "program".to_owned(),
            Some(0) => "embedding".to_owned(),
            Some(segment) if segment + 1 == self.program.segments.len() => "head".to_owned(),
            Some(segment) => format!("layer {}", segment - 1),
        };
        let step = match self.step {
            Some((index, name)) => format!(", step {index} ({name})"),
            None => String::new(),
        };
        Error::InvalidProgram {
            place: format!("{segment}{step}: {operand}"),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    /// The slot's width in the program, of which not all may be there; 0 for no slot.
    pub fn width(&self, slot: Slot) -> usize {
        self.program.slots.get(slot.0).map_or(0, |slot| slot.width)
    }

    /// Values of a row that are there; 0 for no slot.
    pub fn held(&self, slot: Slot) -> usize {
        self.held.get(slot.0).copied().unwrap_or(0)
    }

    /// That there is such a slot, with a row per token or per row that is wanted.
    pub fn is_of(&self, operand: &str, slot: Slot, rows: Rows) -> Result<()> {
        let Some(info) = self.program.slots.get(slot.0) else {
            let n = self.program.slots.len();
            return Err(self.refuse(operand, format!("slot {}", slot.0), format!("one of {n}")));
        };
        if info.rows != rows {
            let name = |rows| match rows {
                Rows::Batch => "a row for every row of the batch",
                Rows::Outputs => "a row for every output row",
            };
            return Err(self.refuse(operand, name(info.rows), name(rows)));
        }
        if info.width == 0 {
            return Err(self.refuse(operand, "rows of no values", "rows of 1 or more"));
        }
        Ok(())
    }

    /// That the slots have as many rows as each other.
    pub fn have_equal_rows(&self, slots: &[(&str, Slot)]) -> Result<()> {
        let first = slots.first().and_then(|(_, slot)| self.program.slots.get(slot.0));
        let rows = first.map_or(Rows::Batch, |slot| slot.rows);
        slots.iter().try_for_each(|(operand, slot)| self.is_of(operand, *slot, rows))
    }

    /// That the slots have a row per token of the batch.
    pub fn are_of_batch(&self, slots: &[(&str, Slot)]) -> Result<()> {
        slots.iter().try_for_each(|(operand, slot)| self.is_of(operand, *slot, Rows::Batch))
    }

    /// That the first `n` values of the slot's rows are there, to be read or to be changed.
    pub fn reads(&self, operand: &str, slot: Slot, n: usize) -> Result<()> {
        if n == 0 {
            return Err(self.refuse(operand, "no values to read", "1 or more"));
        }
        let held = self.held(slot);
        if held < n {
            let found = format!("{held} values per row in slot {}", slot.0);
            return Err(self.refuse(operand, found, format!("at least {n}")));
        }
        Ok(())
    }

    /// That the slot's rows have room for `n` values, which are there from now on and no others.
    pub fn writes(&mut self, operand: &str, slot: Slot, n: usize) -> Result<()> {
        if n == 0 {
            return Err(self.refuse(operand, "no values to write", "1 or more"));
        }
        let width = self.width(slot);
        if width < n {
            let found = format!("room for {width} values per row in slot {}", slot.0);
            return Err(self.refuse(operand, found, format!("at least {n}")));
        }
        self.held[slot.0] = n;
        Ok(())
    }

    /// Says that nothing of a slot can be relied on any more.
    pub fn forget(&mut self, slot: Slot) {
        self.held[slot.0] = 0;
    }

    /// That the slots' rows are equally wide.
    pub fn have_width(&self, slots: &[(&str, Slot)], width: usize) -> Result<()> {
        for (operand, slot) in slots {
            if self.width(*slot) != width {
                let found = format!("rows of {} values", self.width(*slot));
                return Err(self.refuse(operand, found, format!("rows of {width}")));
            }
        }
        Ok(())
    }

    pub fn are_distinct(&self, operand: &str, slots: &[Slot]) -> Result<()> {
        let repeated = slots.iter().enumerate().find(|(at, slot)| slots[..*at].contains(slot));
        match repeated {
            Some((_, slot)) => {
                let found = format!("slot {} twice", slot.0);
                Err(self.refuse(operand, found, "distinct slots"))
            }
            None => Ok(()),
        }
    }

    /// That a step does not write to what it reads.
    pub fn is_none_of(&self, operand: &str, slot: Slot, inputs: &[Slot]) -> Result<()> {
        match inputs.contains(&slot) {
            true => {
                let found = format!("slot {}, which the step reads", slot.0);
                Err(self.refuse(operand, found, "another slot"))
            }
            false => Ok(()),
        }
    }

    pub fn weight(&self, operand: &str, weight: WeightRef) -> Result<&'a TensorData> {
        self.program.weights.get(weight.0).ok_or_else(|| {
            let n = self.program.weights.len();
            self.refuse(operand, format!("weight {}", weight.0), format!("one of {n}"))
        })
    }

    /// That a weight is `n_rows` rows of `row_len` values.
    pub fn matrix(
        &self,
        operand: &str,
        weight: WeightRef,
        row_len: usize,
        n_rows: usize,
    ) -> Result<()> {
        let tensor = self.weight(operand, weight)?;
        if (tensor.row_len(), tensor.n_rows()) != (row_len, n_rows) {
            let found = format!("shape {:?}", tensor.shape());
            let expected = format!("{n_rows} rows of {row_len}");
            return Err(self.refuse(format!("{operand} {}", tensor.name()), found, expected));
        }
        Ok(())
    }

    /// That a weight is `n` values in any shape.
    pub fn vector(&self, operand: &str, weight: WeightRef, n: usize) -> Result<()> {
        let tensor = self.weight(operand, weight)?;
        if tensor.row_len() * tensor.n_rows() != n {
            let found = format!("shape {:?}", tensor.shape());
            let expected = format!("{n} values");
            return Err(self.refuse(format!("{operand} {}", tensor.name()), found, expected));
        }
        Ok(())
    }

    pub fn optional_vector(
        &self,
        operand: &str,
        weight: Option<WeightRef>,
        n: usize,
    ) -> Result<()> {
        weight.map_or(Ok(()), |weight| self.vector(operand, weight, n))
    }

    /// A product of sizes, each 1 or more, which is small enough to be one itself.
    pub fn product<const N: usize>(&self, operand: &str, factors: [usize; N]) -> Result<usize> {
        if factors.contains(&0) {
            return Err(self.refuse(operand, "0", "1 or more"));
        }
        let product = factors.iter().try_fold(1usize, |n, factor| n.checked_mul(*factor));
        product.ok_or_else(|| {
            let found = factors.map(|factor| factor.to_string()).join(" x ");
            self.refuse(operand, found, "a product that can be counted")
        })
    }

    /// A sum of sizes.
    pub fn sum<const N: usize>(&self, operand: &str, terms: [usize; N]) -> Result<usize> {
        let sum = terms.iter().try_fold(0usize, |sum, term| sum.checked_add(*term));
        sum.ok_or_else(|| {
            let found = terms.map(|term| term.to_string()).join(" + ");
            self.refuse(operand, found, "a sum that can be counted")
        })
    }

    /// That `n` is a multiple of `divisor`, neither of them 0.
    pub fn divides(&self, operand: &str, n: usize, divisor: usize) -> Result<()> {
        match n > 0 && divisor > 0 && n.is_multiple_of(divisor) {
            true => Ok(()),
            false => {
                let expected = format!("1 or more that are a multiple of {divisor}");
                Err(self.refuse(operand, n, expected))
            }
        }
    }

    pub fn is_within(&self, operand: &str, n: usize, most: usize) -> Result<()> {
        match (1..=most).contains(&n) {
            true => Ok(()),
            false => Err(self.refuse(operand, n, format!("1 to {most}"))),
        }
    }

    pub fn is_finite(&self, operand: &str, number: f32) -> Result<()> {
        match number.is_finite() {
            true => Ok(()),
            false => Err(self.refuse(operand, number, "a finite number")),
        }
    }

    pub fn is_positive(&self, operand: &str, number: f32) -> Result<()> {
        match number.is_finite() && number > 0.0 {
            true => Ok(()),
            false => Err(self.refuse(operand, number, "a positive finite number")),
        }
    }

    /// That the numbers of an activation make sense.
    pub fn activation(&self, activation: Activation) -> Result<()> {
        match activation {
            Activation::Softcap(cap) => self.is_positive("the cap", cap),
            Activation::Clamp(bound) => self.is_positive("the bound", bound),
            Activation::Xielu { positive, negative, beta, epsilon } => {
                let numbers = [positive, negative, beta, epsilon];
                numbers.into_iter().try_for_each(|n| self.is_finite("a number of xIELU", n))
            }
            Activation::Identity
            | Activation::Silu
            | Activation::GeluTanh
            | Activation::GeluErf
            | Activation::Relu
            | Activation::ReluSquared
            | Activation::Sigmoid
            | Activation::ClampedSwiglu => Ok(()),
        }
    }

    /// A layer of the KV cache.
    pub fn kv_layer(&self, kv_layer: usize) -> Result<KvLayer> {
        self.config.kv.layers.get(kv_layer).copied().ok_or_else(|| {
            let n = self.config.kv.layers.len();
            self.refuse("layer of the KV cache", kv_layer, format!("one of {n}"))
        })
    }

    /// That no other step stores keys and values there.
    pub fn stores(&mut self, kv_layer: usize) -> Result<()> {
        match std::mem::replace(&mut self.stored[kv_layer], true) {
            true => Err(self.refuse("layer of the KV cache", "stored twice", "one step for each")),
            false => Ok(()),
        }
    }

    /// That a step before this one stores keys and values there.
    pub fn is_stored(&self, kv_layer: usize) -> Result<()> {
        match self.stored[kv_layer] {
            true => Ok(()),
            false => {
                let found = format!("layer {kv_layer}, which no step has stored so far");
                Err(self.refuse("layer of the KV cache", found, "one that is"))
            }
        }
    }

    /// That the step has a recurrent state of so many values to itself.
    pub fn keeps(&mut self, state: usize, width: usize) -> Result<()> {
        let Some(found) = self.config.states.widths.get(state) else {
            let n = self.config.states.widths.len();
            return Err(self.refuse("recurrent state", state, format!("one of {n}")));
        };
        if *found != width {
            let found = format!("{found} values");
            return Err(self.refuse("recurrent state", found, format!("{width}")));
        }
        if self.config.states.n_states == 0 {
            return Err(self.refuse("recurrent state", "none in the session", "1 or more"));
        }
        match std::mem::replace(&mut self.kept[state], true) {
            true => Err(self.refuse("recurrent state", "one of another step", "one of its own")),
            false => Ok(()),
        }
    }
}
