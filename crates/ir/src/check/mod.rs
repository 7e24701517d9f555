//! Whether a program can be run at all: every index, width, shape and number that steps promise.
//!
//! A program comes from a file that nobody vouches for. It is checked once, when a session is
//! opened ([`crate::Backend::session`]), so that no backend has to: behind the check, weights
//! and slots are as large as their steps say, and what is left to refuse is what a backend
//! cannot do. A file whose numbers make a program that contradicts itself is `MODEL_INVALID`.
//!
//! Steps are gone through in their order. Of each slot the check knows how many values of a row
//! there are at that point: all of them at first, then as many as the last step wrote. So a step
//! cannot read columns that another layer left behind.

mod attention;
mod operands;
mod products;
mod recurrent;
mod row_by_row;

use crate::config::SessionConfig;
use crate::error::{Error, Result};
use crate::program::{Program, Rows};
use crate::step::Step;

use operands::Checker;

impl Program {
    /// Whether every step gets what it promises to read, has room for what it writes, and
    /// computes with numbers that make sense, in a session of this configuration.
    ///
    /// # Errors
    /// `InvalidProgram` naming segment, step and operand, with what was found and what was
    /// expected; `OutOfMemory` for memory whose size cannot even be counted.
    pub fn check(&self, config: &SessionConfig) -> Result<()> {
        check_config(config)?;
        let mut checker = Checker::new(self, config);
        if self.segments.len() < 2 {
            let found = format!("{} segments", self.segments.len());
            return Err(checker.refuse("segments", found, "2 or more: an embedding and a head"));
        }
        checker.api_slots()?;
        for segment in 0..self.segments.len() {
            checker.begin_segment(segment);
            for step in &self.segments[segment] {
                checker.begin_step(step);
                checker.step(step)?;
            }
            checker.end_segment()?;
        }
        checker.sizes()
    }
}

/// Head counts, widths and pages of the cache.
fn check_config(config: &SessionConfig) -> Result<()> {
    let refuse = |what: String, found: usize| Error::InvalidProgram {
        place: what,
        found: found.to_string(),
        expected: "1 or more".to_owned(),
    };
    if config.kv.page_tokens == 0 {
        return Err(refuse("positions of a page of the KV cache".to_owned(), 0));
    }
    for (index, layer) in config.kv.layers.iter().enumerate() {
        let numbers = [
            ("key and value heads", layer.n_kv_heads),
            ("width of a key", layer.key_width),
            ("width of a value", layer.value_width),
        ];
        if let Some((what, found)) = numbers.into_iter().find(|(_, number)| *number == 0) {
            return Err(refuse(format!("layer {index} of the KV cache: {what}"), found));
        }
    }
    Ok(())
}

impl Checker<'_> {
    /// The slots that callers read and write.
    fn api_slots(&self) -> Result<()> {
        for slot in self.program.row_slots() {
            self.is_of("a slot of the layer-level API", slot, Rows::Batch)?;
        }
        let rows: Vec<_> = self.program.row_slots().collect();
        self.are_distinct("slots of the layer-level API", &rows)?;
        self.is_of("the slot of the logits", self.program.logits, Rows::Outputs)
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Embed(step) => self.embed(step),
            Step::Norm(step) => self.norm(step),
            Step::Linear(step) => self.linear(step),
            Step::RopeStore(step) => self.rope_store(step),
            Step::Rope(step) => self.rope(step),
            Step::Attend(step) => self.attend(step),
            Step::GatedAct(step) => self.gated_act(step),
            Step::Add(step) => self.add(step),
            Step::TakeRows(step) => self.take_rows(step),
            Step::Moe(step) => self.moe(step),
            Step::HeadLinear(step) => self.head_linear(step),
            Step::Mix(step) => self.mix(step),
            Step::Sparsify(step) => self.sparsify(step),
            Step::Conv(step) => self.conv(step),
            Step::DeltaNet(step) => self.delta_net(step),
            Step::SelectiveScan(step) => self.selective_scan(step),
        }
    }

    /// What a caller may read or write between two segments is there as a whole.
    fn end_segment(&mut self) -> Result<()> {
        self.leave_step();
        for slot in self.program.row_slots() {
            self.reads("a row of the layer-level API", slot, self.width(slot))?;
        }
        Ok(())
    }

    /// That what a session allocates can be counted in bytes.
    fn sizes(&self) -> Result<()> {
        let SessionConfig { kv, states, max_rows, max_outputs, .. } = self.config;
        let bytes = |factors: &[usize]| {
            let product = factors.iter().try_fold(1usize, |n, factor| n.checked_mul(*factor));
            product.filter(|bytes| isize::try_from(*bytes).is_ok())
        };
        let counted = |bytes: Option<usize>, what: &str| match bytes {
            Some(_) => Ok(()),
            None => Err(Error::OutOfMemory { what: what.to_owned(), bytes: usize::MAX }),
        };
        for slot in &self.program.slots {
            let rows = match slot.rows {
                Rows::Batch => *max_rows,
                Rows::Outputs => *max_outputs,
            };
            counted(bytes(&[slot.width, rows, size_of::<f32>()]), "activations")?;
        }
        let width = states.widths.iter().try_fold(0usize, |sum, width| sum.checked_add(*width));
        let state = width.and_then(|width| bytes(&[width, states.n_states, size_of::<f32>()]));
        counted(state, "recurrent states")?;
        let mut layers = kv.layers.iter();
        let position = layers.try_fold(0usize, |sum, layer| sum.checked_add(layer.bytes(kv.ty)?));
        let cache = position.and_then(|bytes_| bytes(&[bytes_, kv.page_tokens, kv.n_pages]));
        counted(cache, "the KV cache")
    }
}
