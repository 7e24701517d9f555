//! A model as data: slots, weights, and segments of steps.

use std::ops::Range;

use realm_gguf::TensorData;

use crate::error::{Error, Result};
use crate::operands::{Slot, WeightRef};
use crate::step::Step;

/// How many rows a slot can have to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One per token of the batch.
    Batch,
    /// One per entry of [`crate::BatchView::output_rows`].
    Outputs,
}

/// Shape of a slot: f32, row-major, `[rows, width]`. Where layers differ, a step
/// may use fewer values of a row than there are: its weights and heads say how many.
#[derive(Clone, Copy, Debug)]
pub struct SlotInfo {
    /// Values per row.
    pub width: usize,
    /// What its rows stand for.
    pub rows: Rows,
}

/// Everything a backend needs to know about a model.
#[derive(Clone, Debug)]
pub struct Program {
    /// Shapes of the slots.
    pub slots: Vec<SlotInfo>,
    /// Weights in the file's own storage; [`crate::Backend::upload`] takes each once.
    pub weights: Vec<TensorData>,
    /// Embedding, layers, head.
    pub segments: Vec<Vec<Step>>,
    /// Hidden state `[rows, embedding_length]`: written by segment 0, read and
    /// written by every layer, read by the head.
    pub hidden: Slot,
    /// What else segment 0 leaves for the layers and, where they change it, layers for each
    /// other and for the head: a row of the layer-level API is a row of the hidden state and
    /// then of each of these.
    pub carried: Vec<Slot>,
    /// Result of the head, `[output rows, n_vocab]`; for an encoder, which has no output
    /// matrix, the hidden state `[output rows, embedding_length]`.
    pub logits: Slot,
}

impl Program {
    /// Number of layers: segments without the first and the last.
    pub fn n_layers(&self) -> usize {
        self.segments.len() - 2
    }

    /// Refuses a range of segments that the program does not have.
    ///
    /// # Errors
    /// `InvalidBatch` naming the range and how many there are.
    pub fn check_range(&self, segments: &Range<usize>) -> Result<()> {
        match self.segments.get(segments.clone()) {
            Some(_) => Ok(()),
            None => {
                let message = format!("segments {segments:?} of {}", self.segments.len());
                Err(Error::InvalidBatch { message })
            }
        }
    }

    /// The tensor behind a reference.
    pub fn weight(&self, weight: WeightRef) -> &TensorData {
        &self.weights[weight.0]
    }

    /// Entries of the embedding table, which token ids are checked against; `None` for a program
    /// that embeds no tokens.
    pub fn n_vocab(&self) -> Option<usize> {
        self.segments.iter().flatten().find_map(|step| match step {
            Step::Embed(embed) => Some(self.weights.get(embed.table.0)?.n_rows()),
            _ => None,
        })
    }

    /// All weights, each once: those that one step multiplies with the same input together, all
    /// others alone.
    pub fn weights_together(&self) -> Vec<Vec<WeightRef>> {
        let mut is_taken = vec![false; self.weights.len()];
        let mut take = |weight: &WeightRef| !std::mem::replace(&mut is_taken[weight.0], true);
        let mut together = Vec::new();
        for step in self.segments.iter().flatten() {
            if let Step::Linear(linear) = step {
                let weights = linear.outputs.iter().map(|output| output.weight);
                together.push(weights.filter(&mut take).collect());
            }
        }
        let all = (0..self.weights.len()).map(WeightRef);
        together.extend(all.filter(&mut take).map(|weight| vec![weight]));
        // As near as can be to the order in which they were found.
        together.retain(|weights: &Vec<WeightRef>| !weights.is_empty());
        together.sort_by_key(|weights| weights.iter().map(|weight| weight.0).min());
        together
    }

    /// Whether what segment 0 makes of a token depends on its position.
    pub fn embeds_positions(&self) -> bool {
        let steps = self.segments.first().into_iter().flatten();
        steps
            .into_iter()
            .any(|step| matches!(step, Step::Embed(embed) if embed.positions.is_some()))
    }

    /// The slots that a row of the layer-level API consists of, in its order.
    pub fn row_slots(&self) -> impl Iterator<Item = Slot> {
        std::iter::once(self.hidden).chain(self.carried.iter().copied())
    }

    /// Values of such a row.
    pub fn row_width(&self) -> usize {
        self.row_slots().map(|slot| self.width(slot)).sum()
    }

    /// The layer that stores the keys and values which `layer` reads: itself for most,
    /// an earlier one where several layers share them.
    pub fn kv_source(&self, layer: usize) -> usize {
        let kv_layer = self.segments[layer + 1].iter().find_map(|step| match step {
            Step::Attend(attend) => Some(attend.kv_layer),
            _ => None,
        });
        let stores = |steps: &Vec<Step>| {
            let mut steps = steps.iter();
            steps.any(|step| matches!(step, Step::RopeStore(s) if Some(s.kv_layer) == kv_layer))
        };
        let layers = &self.segments[1..=self.n_layers()];
        layers.iter().position(stores).unwrap_or(layer)
    }

    /// Bytes of weights that are read to make one token: all of them but the rows of embedding
    /// tables that other tokens have and the experts that it is not sent to.
    pub fn bytes_per_token(&self) -> u64 {
        // What a step reads of a weight; the last word has a step that reads all of it.
        let mut read: Vec<u64> = self.weights.iter().map(|w| w.n_bytes() as u64).collect();
        for step in self.segments.iter().flatten() {
            match step {
                Step::Embed(embed) => {
                    for table in std::iter::once(&embed.table).chain(&embed.positions) {
                        read[table.0] = self.weight(*table).row_bytes() as u64;
                    }
                }
                Step::Moe(moe) => {
                    let experts = &moe.experts;
                    let matrices = [&experts.up, &experts.down].into_iter().chain(&experts.gate);
                    for matrix in matrices {
                        let bytes = self.weight(*matrix).n_bytes();
                        read[matrix.0] = (bytes / moe.n_experts * moe.n_used) as u64;
                    }
                }
                _ => {}
            }
        }
        let linears = self.segments.iter().flatten().filter_map(|step| match step {
            Step::Linear(linear) => Some(&linear.outputs),
            _ => None,
        });
        for output in linears.flatten() {
            read[output.weight.0] = self.weight(output.weight).n_bytes() as u64;
        }
        read.iter().sum()
    }

    /// Values per row of a slot.
    pub fn width(&self, slot: Slot) -> usize {
        self.slots[slot.0].width
    }
}
