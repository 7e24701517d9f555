//! One segment at a time: embedding, single layers, head.
//!
//! The same session, weights and KV cache as whole batches; only the range of segments differs.
//! Rows between two segments are `[rows, row width]`: the hidden state, then what else the
//! program hands on from layer to layer.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use realm_ir::{BatchView, SequenceView};

use super::{Adapters, ModelRunner};
use crate::error::Result;
use crate::kv::Storage;
use crate::tensor::room;

impl ModelRunner {
    /// Embeds `tokens`, at most as many as a batch takes, from `position` on into `out`.
    pub(crate) async fn embed_tokens(
        &mut self,
        tokens: &[u32],
        position: usize,
        adapters: &Adapters,
        out: &mut [f32],
        interrupt: &AtomicBool,
    ) -> Result<()> {
        // Where no position is looked up there may be more tokens than the cache has positions.
        let first = if self.program.embeds_positions() { position } else { 0 };
        let positions = first..first + tokens.len();
        self.run_without_kv(0, tokens, positions, &[], adapters, interrupt)?;
        self.read_rows(out).await
    }

    /// Runs one layer over `rows`, which are at `positions` of the sequence in `storage`, into
    /// `out`. At most as many rows as a batch takes.
    #[expect(clippy::too_many_arguments, reason = "each is one thing that a layer depends on")]
    pub(crate) async fn run_layer(
        &mut self,
        layer: usize,
        rows: &[f32],
        positions: Range<usize>,
        storage: &Storage,
        adapters: &Adapters,
        out: &mut [f32],
        interrupt: &AtomicBool,
    ) -> Result<()> {
        self.write_rows(rows)?;
        let sequences = [SequenceView {
            first_row: 0,
            n_rows: positions.len(),
            pages: storage.pages(),
            state: storage.state(),
            adapters: adapters.as_slice(),
        }];
        let positions: Vec<u32> = (positions.start as u32..positions.end as u32).collect();
        let batch = BatchView {
            tokens: &[],
            positions: &positions,
            sequences: &sequences,
            output_rows: &[],
            interrupt: Some(interrupt),
        };
        self.session()?.run(layer + 1..layer + 2, &batch)?;
        self.read_rows(out).await
    }

    /// The head over `rows`, at most as many as a batch takes output rows: their logits into
    /// `out`, `[rows, vocabulary]`.
    pub(crate) async fn compute_logits(
        &mut self,
        rows: &[f32],
        adapters: &Adapters,
        out: &mut [f32],
        interrupt: &AtomicBool,
    ) -> Result<()> {
        let n_rows = rows.len() / self.program.row_width();
        let output_rows: Vec<u32> = (0..n_rows as u32).collect();
        self.write_rows(rows)?;
        self.run_without_kv(self.head(), &[], 0..n_rows, &output_rows, adapters, interrupt)?;
        let logits = self.program.logits;
        Ok(self.session()?.read(logits, 0..n_rows, out).await?)
    }

    /// Runs a segment that neither reads nor writes keys and values. The batch still needs a
    /// place for each row; whose it is does not matter.
    fn run_without_kv(
        &mut self,
        segment: usize,
        tokens: &[u32],
        positions: Range<usize>,
        output_rows: &[u32],
        adapters: &Adapters,
        interrupt: &AtomicBool,
    ) -> Result<()> {
        let n_rows = positions.len();
        let pages: Vec<u32> = (0..positions.end.div_ceil(self.page_tokens) as u32).collect();
        let positions: Vec<u32> = (positions.start as u32..positions.end as u32).collect();
        let adapters = adapters.as_slice();
        let sequences = [SequenceView { first_row: 0, n_rows, pages: &pages, state: 0, adapters }];
        let batch = BatchView {
            tokens,
            positions: &positions,
            sequences: &sequences,
            output_rows,
            interrupt: Some(interrupt),
        };
        Ok(self.session()?.run(segment..segment + 1, &batch)?)
    }

    /// Sets the first rows of the slots that layers read to `rows`.
    fn write_rows(&mut self, rows: &[f32]) -> Result<()> {
        let program = self.program.clone();
        let session = self.session()?;
        if program.carried.is_empty() {
            return Ok(session.write(program.hidden, rows)?);
        }
        let row_width = program.row_width();
        let mut first = 0;
        for slot in program.row_slots() {
            let columns = first..first + program.width(slot);
            first = columns.end;
            let rows = rows.chunks_exact(row_width);
            let part: Vec<f32> = rows.flat_map(|row| &row[columns.clone()]).copied().collect();
            session.write(slot, &part)?;
        }
        Ok(())
    }

    /// Fills `rows` from these slots.
    async fn read_rows(&mut self, rows: &mut [f32]) -> Result<()> {
        let program = self.program.clone();
        let session = self.session()?;
        let row_width = program.row_width();
        let n_rows = rows.len() / row_width;
        if program.carried.is_empty() {
            return Ok(session.read(program.hidden, 0..n_rows, rows).await?);
        }
        let mut first = 0;
        for slot in program.row_slots() {
            let columns = first..first + program.width(slot);
            first = columns.end;
            let mut part = room(n_rows.checked_mul(columns.len()), "a part of the rows")?;
            part.resize(n_rows * columns.len(), 0.0);
            session.read(slot, 0..n_rows, &mut part).await?;
            for (row, part) in
                rows.chunks_exact_mut(row_width).zip(part.chunks_exact(columns.len()))
            {
                row[columns.clone()].copy_from_slice(part);
            }
        }
        Ok(())
    }
}
