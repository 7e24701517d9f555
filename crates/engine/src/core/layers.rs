//! One segment at a time: embedding, single layers, head.
//!
//! The same session, weights and KV cache as generating; only the range of
//! segments differs. Rows run with the adapters that are the default at the time.

use realm_ir::{BatchView, SequenceView};

use super::Core;
use super::page_table::PageTable;
use crate::error::{Error, Result};
use crate::tensor::room;

/// A sequence that a program extends layer by layer.
#[derive(Debug)]
pub(crate) struct LayerSequence {
    pages: PageTable,
    /// Positions that each layer holds.
    lengths: Vec<usize>,
    state: Option<u32>,
}

/// Rows in `hidden`.
fn n_rows(hidden: &[f32], width: usize) -> Result<usize> {
    if hidden.len().is_multiple_of(width) {
        return Ok(hidden.len() / width);
    }
    Err(Error::ShapeMismatch {
        message: format!(
            "hidden has {} values, expected a multiple of {width} (one row per token)",
            hidden.len()
        ),
    })
}

impl Core {
    /// Embeds `tokens`: `[tokens, hidden size]`. A row is what a layer reads: the hidden
    /// state, then what else the embedding leaves for the layers.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an id outside the vocabulary, `OUT_OF_MEMORY`.
    pub async fn embed_tokens(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.check_tokens(tokens)?;
        let width = self.program.row_width();
        let mut out = room(tokens.len().checked_mul(width), "the embedding")?;
        let max_rows = self.rows_without_kv();
        for (tokens, out) in tokens.chunks(max_rows).zip(out.chunks_mut(max_rows * width)) {
            self.run_without_kv(0, tokens, tokens.len(), &[])?;
            self.read_rows(out).await?;
        }
        Ok(out)
    }

    /// The head over `hidden` (`[rows, hidden size]`): `[rows, vocabulary]`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when `hidden` is not whole rows, `OUT_OF_MEMORY`,
    /// `INVALID_ARGUMENT` for an encoder.
    pub async fn compute_logits(&mut self, hidden: &[f32]) -> Result<Vec<f32>> {
        self.check_has_logits()?;
        let width = self.program.row_width();
        let logits = self.program.logits;
        let n_vocab = self.program.width(logits);
        let rows = n_rows(hidden, width)?;
        let mut out = room(rows.checked_mul(n_vocab), "the logits")?;
        let max_rows = self.rows_without_kv().min(self.limits.max_outputs);
        let head = self.program.n_layers() + 1;
        let all_rows: Vec<u32> = (0..max_rows as u32).collect();
        for (hidden, out) in hidden.chunks(max_rows * width).zip(out.chunks_mut(max_rows * n_vocab))
        {
            let rows = hidden.len() / width;
            self.write_rows(hidden)?;
            self.run_without_kv(head, &[], rows, &all_rows[..rows])?;
            self.cache.session.read(logits, 0..rows, out).await?;
        }
        Ok(out)
    }

    /// Sets the first rows of the slots that layers read to `rows`, `[rows, hidden size]`.
    fn write_rows(&mut self, rows: &[f32]) -> Result<()> {
        if self.program.carried.is_empty() {
            return Ok(self.cache.session.write(self.program.hidden, rows)?);
        }
        let row_width = self.program.row_width();
        let mut first = 0;
        for slot in self.program.row_slots() {
            let columns = first..first + self.program.width(slot);
            first = columns.end;
            let rows = rows.chunks_exact(row_width);
            let part: Vec<f32> = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
            self.cache.session.write(slot, &part)?;
        }
        Ok(())
    }

    /// Fills `rows` (`[rows, hidden size]`) from these slots.
    async fn read_rows(&mut self, rows: &mut [f32]) -> Result<()> {
        let row_width = self.program.row_width();
        let n_rows = rows.len() / row_width;
        if self.program.carried.is_empty() {
            let hidden = self.program.hidden;
            return Ok(self.cache.session.read(hidden, 0..n_rows, rows).await?);
        }
        let mut first = 0;
        for slot in self.program.row_slots() {
            let columns = first..first + self.program.width(slot);
            first = columns.end;
            let mut part = room(n_rows.checked_mul(columns.len()), "a part of the rows")?;
            self.cache.session.read(slot, 0..n_rows, &mut part).await?;
            for (row, part) in
                rows.chunks_exact_mut(row_width).zip(part.chunks_exact(columns.len()))
            {
                row[columns.clone()].copy_from_slice(part);
            }
        }
        Ok(())
    }

    /// Most rows of [`Core::run_without_kv`]: those that the pages of the cache have places for.
    fn rows_without_kv(&self) -> usize {
        self.limits.max_rows.min(self.limits.n_pages.saturating_mul(self.limits.page_tokens))
    }

    /// Runs a segment that neither reads nor writes keys and values. The batch
    /// still needs a place for each row; whose it is does not matter.
    fn run_without_kv(
        &mut self,
        segment: usize,
        tokens: &[u32],
        n_rows: usize,
        output_rows: &[u32],
    ) -> Result<()> {
        let positions: Vec<u32> = (0..n_rows as u32).collect();
        let pages: Vec<u32> = (0..n_rows.div_ceil(self.limits.page_tokens) as u32).collect();
        let adapters = self.adapters.find(None)?;
        let adapters = adapters.as_slice();
        let sequences = [SequenceView { first_row: 0, n_rows, pages: &pages, state: 0, adapters }];
        let batch = BatchView {
            tokens,
            positions: &positions,
            sequences: &sequences,
            output_rows,
            interrupt: Some(&self.stop),
        };
        self.cache.session.run(segment..segment + 1, &batch).map_err(|e| self.unless_stopped(e))
    }

    /// Runs one layer over `hidden` (`[rows, hidden size]`), whose first row is at
    /// `position` of `sequence`, and keeps its keys and values. A position below
    /// what the layer holds forgets what is there from it on.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a layer that is not there or a position beyond what
    /// the layer holds, or beyond what the layer holds whose keys and values it shares,
    /// `SHAPE_MISMATCH` when `hidden` is not whole rows,
    /// `KV_EXHAUSTED` when there are no pages or the context ends; the sequence is
    /// unchanged then.
    pub async fn forward_layer(
        &mut self,
        layer: usize,
        hidden: &[f32],
        position: usize,
        sequence: u32,
    ) -> Result<Vec<f32>> {
        let n_layers = self.program.n_layers();
        if layer >= n_layers {
            return Err(Error::invalid(format!("layer is {layer}, the model has {n_layers}")));
        }
        let width = self.program.row_width();
        let rows = n_rows(hidden, width)?;
        if rows == 0 {
            return Ok(Vec::new());
        }
        self.reserve_layer(layer, position, rows, sequence)?;
        let mut out = room(Some(hidden.len()), "the hidden state")?;
        let max_rows = self.limits.max_rows;
        let mut position = position;
        for (hidden, out) in hidden.chunks(max_rows * width).zip(out.chunks_mut(max_rows * width)) {
            self.write_rows(hidden)?;
            position = self.run_layer(layer, position, hidden.len() / width, sequence)?;
            self.read_rows(out).await?;
        }
        Ok(out)
    }

    /// Takes the pages for `rows` at `position`.
    fn reserve_layer(&mut self, layer: usize, position: usize, rows: usize, id: u32) -> Result<()> {
        let n_layers = self.program.n_layers();
        let context = self.limits.context_length;
        let held = self.layer_sequences.get(&id).map_or(0, |s| s.lengths[layer]);
        if position > held {
            return Err(Error::invalid(format!(
                "position is {position}, but layer {layer} of sequence {id} holds {held} positions; \
                 expected at most {held}"
            )));
        }
        if self.cache.states.is_some() && position != held && position != 0 {
            return Err(Error::invalid(format!(
                "position is {position}, but layer {layer} of sequence {id} holds {held} positions and \
                 a recurrent model cannot go back; expected {held} or 0"
            )));
        }
        let end = position.saturating_add(rows);
        let source = self.program.kv_source(layer);
        let stored = self.layer_sequences.get(&id).map_or(0, |s| s.lengths[source]);
        if source != layer && end > stored {
            return Err(Error::invalid(format!(
                "the rows end at position {end}, but layer {layer} reads the keys and values of \
                 layer {source}, which holds {stored} positions of sequence {id}; run it first"
            )));
        }
        if end > context {
            return Err(Error::kv_exhausted(format!(
                "{rows} rows at position {position} end at {end}, the context takes {context}; \
                 load with a larger contextLength"
            )));
        }
        let (n_free, n_pages) = (self.cache.pool.n_free(), self.cache.pool.n_pages());
        let page_tokens = self.limits.page_tokens;
        let mut new =
            LayerSequence { pages: PageTable::default(), lengths: vec![0; n_layers], state: None };
        let sequence = self.layer_sequences.get_mut(&id).unwrap_or(&mut new);
        let (pool, session) = (&mut self.cache.pool, self.cache.session.as_mut());
        if !sequence.pages.reserve(pool, session, page_tokens, position, end)? {
            return Err(Error::kv_exhausted(format!(
                "KV cache is full: sequence {id} needs {} pages of {page_tokens} tokens and has {}, \
                 {n_free} of {n_pages} are free; drop a sequence or load with a larger maxSequences",
                end.div_ceil(page_tokens),
                sequence.pages.as_slice().len(),
            )));
        }
        if let Some(states) = &mut self.cache.states
            && sequence.state.is_none()
        {
            sequence.state = states.take();
            if sequence.state.is_none() {
                sequence.pages.truncate(&mut self.cache.pool, page_tokens, 0);
                return Err(Error::kv_exhausted(
                    "all recurrent states are in use; drop a sequence".to_owned(),
                ));
            }
        }
        // What was there from `position` on is about to be overwritten.
        sequence.lengths[layer] = position;
        if !new.pages.as_slice().is_empty() {
            self.layer_sequences.insert(id, new);
        }
        Ok(())
    }

    /// Runs one layer over the rows in the hidden slot; gives the position after them.
    fn run_layer(&mut self, layer: usize, position: usize, rows: usize, id: u32) -> Result<usize> {
        let end = position + rows;
        let positions: Vec<u32> = (position as u32..end as u32).collect();
        let Some(sequence) = self.layer_sequences.get_mut(&id) else {
            return Err(Error::internal(format!("sequence {id} has no pages")));
        };
        let pages = sequence.pages.as_slice();
        let state = sequence.state.unwrap_or(0);
        let adapters = self.adapters.find(None)?;
        let adapters = adapters.as_slice();
        let views = [SequenceView { first_row: 0, n_rows: rows, pages, state, adapters }];
        let batch = BatchView {
            tokens: &[],
            positions: &positions,
            sequences: &views,
            output_rows: &[],
            interrupt: Some(&self.stop),
        };
        match self.cache.session.run(layer + 1..layer + 2, &batch) {
            Ok(()) => sequence.lengths[layer] = end,
            Err(error) => return Err(self.unless_stopped(error)),
        }
        Ok(end)
    }

    /// The error of a run; when it was interrupted, the reason why.
    pub(super) fn unless_stopped(&self, error: realm_ir::Error) -> Error {
        match error {
            realm_ir::Error::Interrupted if self.is_stopped() => Error::Disposed,
            error => error.into(),
        }
    }

    /// Frees the pages of a sequence of [`Core::forward_layer`]. One that is not
    /// there is empty already.
    pub fn drop_layer_sequence(&mut self, id: u32) {
        if let Some(mut sequence) = self.layer_sequences.remove(&id) {
            sequence.pages.truncate(&mut self.cache.pool, self.limits.page_tokens, 0);
            if let (Some(states), Some(state)) = (&mut self.cache.states, sequence.state) {
                states.release(state);
            }
        }
    }
}
