//! Who gets rows in the next batch, and who has to wait for pages.
//!
//! The oldest generation always makes progress: when pages run out, the
//! youngest gives its pages back and reads its tokens again later, which costs
//! time but changes no result.

use std::sync::Arc;

use super::Core;
use super::generation::{FinishReason, Generation};
use crate::error::{Error, Result};

/// Rows of one generation in the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// Place in the list of generations.
    pub(super) index: usize,
    /// How many of its pending tokens.
    pub(super) n_rows: usize,
}

impl Core {
    /// Ends generations that somebody wants to end.
    pub(super) fn sweep(&mut self) {
        if self.is_stopped() {
            self.fail_all(Arc::new(Error::Disposed));
        }
        for index in 0..self.generations.len() {
            if self.generations[index].is_aborted() {
                self.end(index, FinishReason::Abort);
            }
        }
        self.remove_finished();
    }

    /// Gives waiting generations their pages, first come first served. One that
    /// could not get them even with nobody else running gets an error.
    pub(super) fn admit(&mut self) {
        let mut n_admitted = self.n_admitted();
        for index in 0..self.generations.len() {
            if self.generations[index].is_admitted {
                continue;
            }
            if n_admitted == self.limits.max_outputs {
                break;
            }
            let generation = &mut self.generations[index];
            let wanted = generation.tokens.len();
            match generation.sequence.reserve(&mut self.cache, wanted) {
                Ok(true) => {
                    generation.is_admitted = true;
                    n_admitted += 1;
                    generation.times.prompt_started.get_or_insert((self.clock)());
                }
                Ok(false) if n_admitted > 0 => break,
                Ok(false) => {
                    let error = self.exhausted(&self.generations[index], wanted);
                    self.fail(index, Arc::new(error));
                }
                Err(error) => self.fail(index, Arc::new(error)),
            }
        }
        self.remove_finished();
    }

    fn n_admitted(&self) -> usize {
        self.generations.iter().filter(|g| g.is_admitted && !g.is_finished).count()
    }

    /// The rows of the next batch, oldest generation first.
    pub(super) fn plan(&mut self) -> Vec<Planned> {
        let mut planned: Vec<Planned> = Vec::new();
        for (index, n_rows) in self.share_rows().into_iter().enumerate() {
            // Whoever gave up its pages for an older one is no longer admitted.
            if !self.generations[index].is_admitted || n_rows == 0 {
                continue;
            }
            match self.secure_pages(index) {
                Ok(true) => planned.push(Planned { index, n_rows }),
                Ok(false) => {}
                Err(error) => self.fail(index, Arc::new(error)),
            }
        }
        planned
    }

    /// Rows per generation: one for each that decodes, then the rest of the batch
    /// in equal parts for those that read their prompt.
    fn share_rows(&self) -> Vec<usize> {
        let admitted = |g: &Generation| if g.is_admitted { g.n_pending() } else { 0 };
        let pending: Vec<usize> = self.generations.iter().map(admitted).collect();
        let n_decoding = pending.iter().filter(|n| **n == 1).count();
        let mut n_reading = pending.iter().filter(|n| **n > 1).count();
        let mut left = self.limits.max_rows.saturating_sub(n_decoding);
        if n_decoding > 0 {
            left = left.min(self.limits.prompt_rows_beside_decoding);
        }
        let mut share = |n: usize| {
            if n <= 1 {
                return n;
            }
            let part = n.min(left.div_ceil(n_reading));
            n_reading -= 1;
            left -= part;
            part
        };
        pending.into_iter().map(&mut share).collect()
    }

    /// Takes the pages for a generation's next rows, from younger ones if need
    /// be. False when it now waits itself.
    fn secure_pages(&mut self, index: usize) -> Result<bool> {
        loop {
            let generation = &mut self.generations[index];
            let wanted = generation.tokens.len();
            if generation.sequence.reserve(&mut self.cache, wanted)? {
                return Ok(true);
            }
            let youngest = self.generations.iter().rposition(|g| g.is_admitted && !g.is_finished);
            match youngest {
                Some(youngest) if youngest > index => self.suspend(youngest),
                _ if self.n_admitted() > 1 => {
                    self.suspend(index);
                    return Ok(false);
                }
                _ => return Err(self.exhausted(&self.generations[index], wanted)),
            }
        }
    }

    /// Frees the pages of a generation until others have ended.
    fn suspend(&mut self, index: usize) {
        let generation = &mut self.generations[index];
        generation.sequence.truncate(&mut self.cache, 0);
        generation.is_admitted = false;
    }

    fn exhausted(&self, generation: &Generation, wanted: usize) -> Error {
        let (n_free, n_pages) = (self.cache.pool.n_free(), self.cache.pool.n_pages());
        let missing = generation.sequence.n_missing(&self.cache, wanted);
        Error::kv_exhausted(format!(
            "KV cache is full: {wanted} tokens need {missing} more pages of {} tokens, {n_free} of \
             {n_pages} are free; close a sequence or load with a larger maxSequences",
            self.limits.page_tokens
        ))
    }
}
