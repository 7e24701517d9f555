//! One batch: run it, read its logits, choose the next tokens.

use std::sync::Arc;

use realm_ir::{BatchView, SequenceView, Top};

use super::Core;
use super::generation::{Chunk, Event, FinishReason};
use super::schedule::Planned;
use crate::error::{Error, Result};

/// Most logits of a row that are chosen where they were computed.
const MAX_BEST: usize = 64;

/// The logits of a batch, one row for each generation that gets a token.
pub(super) enum Logits {
    /// `[rows, n_vocab]`, of which there are as many as there are rows.
    All(Vec<f32>),
    /// The best of each row: enough for every sampler of the batch.
    Best(Vec<Vec<Top>>),
}

impl Default for Logits {
    fn default() -> Self {
        Logits::All(Vec::new())
    }
}

/// The arrays of a [`BatchView`].
#[derive(Default)]
struct Rows {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    output_rows: Vec<u32>,
}

impl Core {
    /// Runs one batch and chooses the tokens that follow from it. Does nothing when idle.
    pub async fn step(&mut self) {
        self.sweep();
        self.admit();
        let planned = self.plan();
        if !planned.is_empty() {
            match self.run_batch(&planned).await {
                Ok(()) => self.choose_tokens(&planned),
                Err(error) => self.give_up_batch(&planned, error),
            }
        }
        self.remove_finished();
    }

    /// Runs the batch and leaves one row of logits for each planned generation
    /// that has no tokens left to read.
    async fn run_batch(&mut self, planned: &[Planned]) -> Result<()> {
        let rows = self.rows(planned);
        let n_outputs = rows.output_rows.len();
        let mut first_row = 0;
        let sequences: Vec<SequenceView<'_>> = planned
            .iter()
            .map(|plan| {
                let sequence = &self.generations[plan.index].sequence;
                let (pages, state) = (sequence.pages(), sequence.state());
                let (n_rows, adapters) = (plan.n_rows, sequence.adapters());
                let view = SequenceView { first_row, n_rows, pages, state, adapters };
                first_row += plan.n_rows;
                view
            })
            .collect();
        // A generation that is alone can be given up in the middle of a step.
        let interrupt = match planned {
            [alone] => self.generations[alone.index].abort.clone(),
            _ => self.stop.clone(),
        };
        let batch = BatchView {
            tokens: &rows.tokens,
            positions: &rows.positions,
            sequences: &sequences,
            output_rows: &rows.output_rows,
            interrupt: Some(&interrupt),
        };
        let head = usize::from(n_outputs > 0);
        self.cache.session.run(0..self.program.n_layers() + 1 + head, &batch)?;

        for plan in planned {
            let generation = &mut self.generations[plan.index];
            let from = generation.sequence.len();
            generation.sequence.extend(&generation.tokens[from..from + plan.n_rows]);
        }
        self.read_logits(planned, n_outputs).await
    }

    /// Reads what the samplers of a batch need to know.
    async fn read_logits(&mut self, planned: &[Planned], n_outputs: usize) -> Result<()> {
        let slot = self.program.logits;
        let n_vocab = self.program.width(slot);
        if n_outputs == 0 {
            return Ok(());
        }
        if let Some(n) = self.n_best(planned).filter(|n| *n <= MAX_BEST.min(n_vocab))
            && let Some(best) = self.cache.session.read_top(slot, n_outputs, n)
        {
            self.logits = Logits::Best(best.await?);
            return Ok(());
        }
        let mut values = match std::mem::take(&mut self.logits) {
            Logits::All(values) => values,
            Logits::Best(_) => Vec::new(),
        };
        values.resize(n_outputs * n_vocab, 0.0);
        self.cache.session.read(slot, 0..n_outputs, &mut values).await?;
        self.logits = Logits::All(values);
        Ok(())
    }

    /// How many of the best logits are enough for every generation that gets a token.
    fn n_best(&self, planned: &[Planned]) -> Option<usize> {
        let generations = planned.iter().map(|plan| &self.generations[plan.index]);
        let choosing = generations.filter(|generation| generation.n_pending() == 0);
        let ends = self.vocabulary.end_of_generation_tokens().len();
        let suppressed = self.vocabulary.suppressed_tokens().len();
        let mut most = 0;
        for generation in choosing {
            let n_forbidden = suppressed + if generation.forbids_end() { ends } else { 0 };
            most = most.max(generation.sampler.n_enough(n_forbidden)?);
        }
        Some(most)
    }

    fn rows(&self, planned: &[Planned]) -> Rows {
        let mut rows = Rows::default();
        for plan in planned {
            let generation = &self.generations[plan.index];
            let from = generation.sequence.len();
            let to = from + plan.n_rows;
            rows.tokens.extend_from_slice(&generation.tokens[from..to]);
            rows.positions.extend(from as u32..to as u32);
            if to == generation.tokens.len() && generation.max_tokens > 0 {
                rows.output_rows.push(rows.positions.len() as u32 - 1);
            }
        }
        rows
    }

    /// One token for each generation that has logits.
    fn choose_tokens(&mut self, planned: &[Planned]) {
        let mut next_row = 0;
        for plan in planned {
            let generation = &mut self.generations[plan.index];
            if generation.n_pending() > 0 {
                continue;
            }
            generation.times.prompt_ended.get_or_insert((self.clock)());
            if generation.max_tokens == 0 {
                self.end(plan.index, FinishReason::Length);
                continue;
            }
            match self.choose_token(plan.index, next_row) {
                Ok(token) => self.take_token(plan.index, token),
                Err(error) => self.fail(plan.index, Arc::new(error)),
            }
            next_row += 1;
        }
    }

    fn choose_token(&mut self, index: usize, row: usize) -> Result<u32> {
        let generation = &mut self.generations[index];
        let n_vocab = self.program.width(self.program.logits);
        let ends = self.vocabulary.end_of_generation_tokens();
        let ends = if generation.forbids_end() { ends } else { &[] };
        let forbidden = self.vocabulary.suppressed_tokens().iter().chain(ends);
        match &mut self.logits {
            Logits::Best(rows) => generation.sampler.sample_best(&rows[row], forbidden),
            Logits::All(values) => {
                let logits = &mut values[row * n_vocab..][..n_vocab];
                generation.sampler.sample(logits, &generation.tokens, forbidden)
            }
        }
    }

    /// Hands out a token and ends the generation if it was its last.
    fn take_token(&mut self, index: usize, token: u32) {
        if self.vocabulary.end_of_generation_tokens().contains(&token) {
            return self.end(index, FinishReason::Stop);
        }
        let now = (self.clock)();
        let generation = &mut self.generations[index];
        let chunk_index = generation.answer.tokens.len();
        let mut text = generation.accept(token, now);
        let reason = if generation.answer.stop_text.is_some() {
            Some(FinishReason::Stop)
        } else if generation.answer.tokens.len() == generation.max_tokens
            || generation.tokens.len() == self.limits.context_length
        {
            text.push_str(&generation.answer.finish());
            Some(FinishReason::Length)
        } else {
            None
        };
        let chunk = Chunk { text, tokens: vec![token], index: chunk_index };
        self.events.push((generation.id, Event::Chunk(chunk)));
        if let Some(reason) = reason {
            self.finish(index, reason);
        }
    }

    /// Ends a generation that gets no more tokens: text held back comes out.
    pub(super) fn end(&mut self, index: usize, reason: FinishReason) {
        let generation = &mut self.generations[index];
        let text = generation.answer.finish();
        if !text.is_empty() {
            let chunk_index = generation.answer.tokens.len();
            let chunk = Chunk { text, tokens: Vec::new(), index: chunk_index };
            self.events.push((generation.id, Event::Chunk(chunk)));
        }
        self.finish(index, reason);
    }

    /// Ends the generations of a batch that did not complete. What was asked for
    /// with an abort or a stop is left to the next sweep.
    fn give_up_batch(&mut self, planned: &[Planned], error: Error) {
        let is_wanted = matches!(&error, Error::Backend(cause)
            if matches!(**cause, realm_ir::Error::Interrupted));
        let error = Arc::new(error);
        for plan in planned {
            self.generations[plan.index].sequence.drop_unfinished_page(&mut self.cache);
            if !is_wanted {
                self.fail(plan.index, error.clone());
            }
        }
        self.sweep();
    }
}
