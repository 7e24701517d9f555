//! Texts to vectors: reads whole texts and pools the hidden states of their rows.
//!
//! An embedding is one request of many texts, which it reads in their order, as many rows of
//! them in a batch as it is given. Several texts share a batch, and one that is longer than its
//! rows is read in parts; a text of an encoder cannot be, since its first row sees the last.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use realm_ir::Slot;
use realm_model::Pooling;

use super::Reply;
use crate::adapter::Adapters;
use crate::error::{Error, Result};
use crate::kv::{KvManager, Missing, Room, Sequence, Storage};

/// What of a text is wanted.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// How rows become one vector.
    pub pooling: Pooling,
    /// Scale every vector to length 1; scores are left as they are.
    pub normalize: bool,
}

/// Texts that are to become vectors.
#[derive(Clone, Debug)]
pub struct EmbeddingRequest {
    /// Token ids of each text; at least one each.
    pub texts: Vec<Vec<u32>>,
    /// What of them is wanted.
    pub options: EmbedOptions,
    /// Set by anybody at any time to end it with `ABORTED` within one step.
    pub abort: Arc<AtomicBool>,
}

/// How rows become the vectors of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    pub(crate) options: EmbedOptions,
    /// Where the head leaves the rows.
    pub(crate) slot: Slot,
    /// Values of such a row.
    pub(crate) width: usize,
    /// Whether a text's first row sees its last.
    pub(crate) is_encoder: bool,
}

impl Pool {
    /// Whether the row at `position` of a text of `len` tokens is part of its vector.
    fn counts(&self, position: usize, len: usize) -> bool {
        match self.options.pooling {
            Pooling::None | Pooling::Mean => true,
            Pooling::Cls => position == 0,
            Pooling::Last => position + 1 == len,
            Pooling::Rank if self.is_encoder => position == 0,
            Pooling::Rank => position + 1 == len,
        }
    }
}

/// The vector of one text in the making.
#[derive(Default)]
struct Pooled {
    values: Vec<f32>,
    /// Sum of the rows so far, for their mean.
    sum: Vec<f64>,
}

impl Pooled {
    fn add(&mut self, row: &[f32], pooling: Pooling) {
        if pooling != Pooling::Mean {
            return self.values.extend_from_slice(row);
        }
        self.sum.resize(row.len(), 0.0);
        self.sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }

    /// `[width]`, or `[tokens, width]` when nothing was pooled.
    ///
    /// # Errors
    /// `INTERNAL` when a value is not a number or infinite.
    fn finish(mut self, n_tokens: usize, pool: &Pool) -> Result<Vec<f32>> {
        let EmbedOptions { pooling, normalize } = pool.options;
        if pooling == Pooling::Mean {
            self.values = self.sum.iter().map(|sum| (sum / n_tokens as f64) as f32).collect();
        }
        if let Some(value) = self.values.iter().find(|value| !value.is_finite()) {
            let what = if pooling == Pooling::Rank { "a score" } else { "a value" };
            let message = format!("{what} of a text is {value}, expected a finite number");
            return Err(Error::internal(message));
        }
        if normalize && pooling != Pooling::Rank {
            self.values.chunks_exact_mut(pool.width).for_each(scale_to_one);
        }
        Ok(self.values)
    }
}

/// Scales a vector to length 1; one of zeros stays as it is.
fn scale_to_one(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if square > 0.0 {
        let scale = 1.0 / square.sqrt();
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
}

/// A text that is being read.
struct Reading {
    sequence: Sequence,
    pooled: Pooled,
    /// Rows that it has in the batch that comes next.
    n_rows: usize,
}

/// A request with its state.
pub(crate) struct Embedding {
    texts: Vec<Vec<u32>>,
    /// Vectors of the first of them.
    vectors: Vec<Vec<f32>>,
    /// The texts behind those that have vectors; between two batches at most one, read in part.
    reading: Vec<Reading>,
    /// Rows of all texts that were not read yet.
    n_unread: usize,
    adapters: Adapters,
    pool: Pool,
    reply: Option<Reply<Vec<Vec<f32>>>>,
}

/// The rows of one text in a batch.
pub(crate) struct Part<'a> {
    pub(crate) sequence: &'a Sequence,
    pub(crate) tokens: &'a [u32],
    /// Which of these rows are part of the text's vector.
    pub(crate) counted: Vec<usize>,
}

impl Embedding {
    pub(crate) fn new(
        texts: Vec<Vec<u32>>,
        adapters: Adapters,
        pool: Pool,
        reply: Reply<Vec<Vec<f32>>>,
    ) -> Self {
        Embedding {
            vectors: Vec::with_capacity(texts.len()),
            reading: Vec::new(),
            n_unread: texts.iter().map(Vec::len).sum(),
            adapters,
            pool,
            reply: Some(reply),
            texts,
        }
    }

    /// Rows that were not read yet.
    pub(crate) fn n_pending(&self) -> usize {
        self.n_unread
    }

    /// Rows of the next text, if it has to be read whole.
    pub(crate) fn whole_rows(&self) -> Option<usize> {
        self.pool.is_encoder.then(|| self.next_text().len())
    }

    /// The first text that has no vector yet; none are left when it is over.
    fn next_text(&self) -> &[u32] {
        self.texts.get(self.vectors.len()).map_or(&[], Vec::as_slice)
    }

    /// Tokens of its next text.
    pub(crate) fn n_wanted(&self) -> usize {
        self.next_text().len()
    }

    /// Whether it has room for its next text. Between two texts it has none, and waits for it as
    /// everybody does.
    pub(crate) fn has_room(&self) -> bool {
        !self.reading.is_empty()
    }

    /// What it takes to read the next text.
    pub(crate) fn needs(&self, kv: &KvManager) -> Room {
        match self.reading.first() {
            Some(reading) => reading.sequence.needs(kv, self.next_text().len()),
            None => kv.room_for(self.next_text().len()),
        }
    }

    /// What the text holds that is read in part.
    pub(crate) fn holds(&self) -> Room {
        self.reading.first().map_or(Room::NONE, |reading| reading.sequence.storage().holds())
    }

    /// Where its texts lie.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.reading.iter().map(|reading| reading.sequence.storage())
    }

    /// Takes the room for the next text, unless it has it.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn reserve(&mut self, kv: &KvManager) -> Result<(), Missing> {
        match self.reading.is_empty() {
            true => self.open_text(kv, 0),
            false => Ok(()),
        }
    }

    /// Takes the room for the text that is `n_after` the first without a vector.
    fn open_text(&mut self, kv: &KvManager, n_after: usize) -> Result<(), Missing> {
        let mut sequence = Sequence::new(kv, self.adapters.clone());
        // A sequence that nobody shares has nothing to copy.
        let _ = sequence.reserve(kv, self.texts[self.vectors.len() + n_after].len())?;
        self.reading.push(Reading { sequence, pooled: Pooled::default(), n_rows: 0 });
        Ok(())
    }

    /// Gives it `n_rows` in the next batch: those of the text that has room, then those of
    /// texts behind it, as far as there is room for these now.
    pub(crate) fn share_out(&mut self, kv: &KvManager, n_rows: usize) {
        let mut left = n_rows;
        let n_texts = self.texts.len() - self.vectors.len();
        for place in 0..n_texts {
            if left == 0 || (place == self.reading.len() && self.open_text(kv, place).is_err()) {
                return;
            }
            let len = self.texts[self.vectors.len() + place].len();
            let reading = &mut self.reading[place];
            let unread = len - reading.sequence.len();
            if self.pool.is_encoder && unread > left {
                // It has to wait for a batch in which it fits; the first one always does.
                self.reading.truncate(place);
                return;
            }
            reading.n_rows = unread.min(left);
            left -= reading.n_rows;
        }
    }

    /// The rows that it has in the next batch.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let texts = &self.texts[self.vectors.len()..];
        self.reading.iter().zip(texts).map(|(reading, text)| {
            let positions = reading.positions();
            let counts = |position: &usize| self.pool.counts(*position, text.len());
            let counted = positions.clone().filter(counts).map(|p| p - positions.start);
            Part {
                sequence: &reading.sequence,
                tokens: &text[positions.clone()],
                counted: counted.collect(),
            }
        })
    }

    /// Where the head leaves its rows.
    pub(crate) fn slot(&self) -> Slot {
        self.pool.slot
    }

    /// Takes the values of the rows that count, of which `values` has those of this batch at
    /// its front, and moves on. True when all texts have their vectors.
    ///
    /// # Errors
    /// `INTERNAL` when a value of a vector is not a number or infinite; its rows are taken then.
    pub(crate) fn advance(&mut self, values: &mut &[f32]) -> Result<bool> {
        let first = self.vectors.len();
        for (reading, text) in self.reading.iter_mut().zip(&self.texts[first..]) {
            let positions = reading.positions();
            for position in positions.clone() {
                if self.pool.counts(position, text.len()) {
                    let (row, rest) = values.split_at(self.pool.width);
                    reading.pooled.add(row, self.pool.options.pooling);
                    *values = rest;
                }
            }
            reading.sequence.extend(&text[positions.clone()]);
            reading.n_rows = 0;
            self.n_unread -= positions.len();
        }
        while let Some(reading) = self.reading.first()
            && reading.sequence.len() == self.texts[self.vectors.len()].len()
        {
            let Reading { sequence, pooled, .. } = self.reading.remove(0);
            self.vectors.push(pooled.finish(sequence.len(), &self.pool)?);
        }
        Ok(self.vectors.len() == self.texts.len())
    }

    /// Gives up the room of texts that were read in part; they are read again.
    pub(crate) fn start_over(&mut self) {
        for reading in self.reading.drain(..) {
            self.n_unread += reading.sequence.len();
        }
    }

    /// Answers with the vectors of all texts.
    pub(crate) fn finish(&mut self) {
        let vectors = std::mem::take(&mut self.vectors);
        self.answer(Ok(vectors));
    }

    /// Answers with an error.
    pub(crate) fn fail(&mut self, error: Error) {
        self.answer(Err(error));
    }

    fn answer(&mut self, result: Result<Vec<Vec<f32>>>) {
        self.reading.clear();
        if let Some(reply) = self.reply.take() {
            reply.send(result);
        }
    }
}

impl Reading {
    /// Positions of its rows in the next batch.
    fn positions(&self) -> Range<usize> {
        self.sequence.len()..self.sequence.len() + self.n_rows
    }
}
