//! Texts to vectors: runs whole texts, pools the hidden states of their rows.
//!
//! Several texts share a batch. A decoder reads a text that is longer than a batch
//! in parts; an encoder cannot, since its first row sees the last.

use std::ops::Range;

use realm_ir::{BatchView, SequenceView, Slot};
use realm_model::Pooling;

use super::Core;
use super::sequence::{Sequence, StatePool};
use crate::error::{Error, Result};

/// What of a text is wanted.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// How rows become one vector.
    pub pooling: Pooling,
    /// Scale every vector to length 1; scores are left as they are.
    pub normalize: bool,
}

/// The vector of one text in the making.
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
    fn finish(mut self, n_tokens: usize, width: usize, options: EmbedOptions) -> Vec<f32> {
        if options.pooling == Pooling::Mean {
            self.values = self.sum.iter().map(|sum| (sum / n_tokens as f64) as f32).collect();
        }
        if options.normalize && options.pooling != Pooling::Rank {
            self.values.chunks_exact_mut(width).for_each(normalize);
        }
        self.values
    }
}

/// Scales a vector to length 1; one of zeros stays as it is.
fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if square > 0.0 {
        let scale = 1.0 / square.sqrt();
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
}

impl Core {
    /// The pooling that the model's file asks for.
    pub fn default_pooling(&self) -> Pooling {
        self.embedding.pooling
    }

    /// One vector per text: `[embedding_length]`, `[tokens, embedding_length]` without
    /// pooling, or `[classes]` scores.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a text without tokens, an id outside the vocabulary, or
    /// scores from a model that has none; `KV_EXHAUSTED` for a text longer than the
    /// context, or when generations hold the pages it needs.
    pub async fn embed(
        &mut self,
        texts: &[Vec<u32>],
        options: EmbedOptions,
    ) -> Result<Vec<Vec<f32>>> {
        let slot = self.result_slot(options.pooling)?;
        self.check_texts(texts)?;
        let adapters = self.adapters.find(None)?;
        let mut out = Vec::with_capacity(texts.len());
        while out.len() < texts.len() {
            let group = self.texts_of_a_batch(&texts[out.len()..]);
            let place = |_: &Vec<u32>| Sequence::with(adapters.clone());
            let mut places: Vec<Sequence> = group.iter().map(place).collect();
            let vectors = match self.reserve_texts(group, &mut places) {
                Ok(()) => self.embed_group(group, &places, slot, options).await,
                Err(error) => Err(error),
            };
            for place in &mut places {
                place.truncate(&mut self.cache, 0);
            }
            out.extend(vectors?);
        }
        Ok(out)
    }

    fn result_slot(&self, pooling: Pooling) -> Result<Slot> {
        match pooling {
            Pooling::Rank => self.embedding.scores.ok_or_else(|| {
                Error::invalid(
                    "the model has no head for scores (cls.output.weight): it cannot rank",
                )
            }),
            _ => Ok(self.embedding.hidden),
        }
    }

    fn check_texts(&self, texts: &[Vec<u32>]) -> Result<()> {
        let context = match self.embedding.is_encoder {
            true => self.limits.context_length.min(self.limits.max_rows),
            false => self.limits.context_length,
        };
        for (index, text) in texts.iter().enumerate() {
            if text.is_empty() {
                return Err(Error::invalid(format!("text {index} has no tokens")));
            }
            self.check_tokens(text)?;
            if text.len() > context {
                return Err(Error::kv_exhausted(format!(
                    "text {index} has {} tokens and the context takes {context}; shorten it or \
                     load with a larger contextLength",
                    text.len()
                )));
            }
        }
        Ok(())
    }

    /// The first texts: as many as fit a batch together, at least one.
    fn texts_of_a_batch<'a>(&self, texts: &'a [Vec<u32>]) -> &'a [Vec<u32>] {
        let mut rows = 0;
        let mut pages = 0;
        let states = self.cache.states.as_ref().map_or(usize::MAX, StatePool::n_free);
        let fitting = texts.iter().take(states).take_while(|text| {
            rows += text.len();
            pages += text.len().div_ceil(self.limits.page_tokens);
            rows <= self.limits.max_rows && pages <= self.cache.pool.n_free()
        });
        &texts[..fitting.count().max(1)]
    }

    fn reserve_texts(&mut self, texts: &[Vec<u32>], places: &mut [Sequence]) -> Result<()> {
        let page_tokens = self.limits.page_tokens;
        for (text, place) in texts.iter().zip(places) {
            if !place.reserve(&mut self.cache, text.len())? {
                return Err(Error::kv_exhausted(format!(
                    "KV cache is full: {} tokens need {} pages, {} of {} are free; wait for \
                     generations to end or load with a larger maxSequences",
                    text.len(),
                    text.len().div_ceil(page_tokens),
                    self.cache.pool.n_free(),
                    self.cache.pool.n_pages(),
                )));
            }
        }
        Ok(())
    }

    /// Vectors of texts that share a batch, or of one that takes several.
    async fn embed_group(
        &mut self,
        texts: &[Vec<u32>],
        places: &[Sequence],
        slot: Slot,
        options: EmbedOptions,
    ) -> Result<Vec<Vec<f32>>> {
        let new = |_: &Vec<u32>| Pooled { values: Vec::new(), sum: Vec::new() };
        let mut pooled: Vec<Pooled> = texts.iter().map(new).collect();
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        for from in (0..longest).step_by(self.limits.max_rows) {
            let part = from..from + self.limits.max_rows;
            self.embed_part(texts, places, part, slot, options.pooling, &mut pooled).await?;
        }
        let width = self.program.width(slot);
        let vectors = pooled.into_iter().zip(texts);
        Ok(vectors.map(|(pooled, text)| pooled.finish(text.len(), width, options)).collect())
    }

    /// Runs the positions `part` of each text and adds the rows that count to `pooled`.
    async fn embed_part(
        &mut self,
        texts: &[Vec<u32>],
        places: &[Sequence],
        part: Range<usize>,
        slot: Slot,
        pooling: Pooling,
        pooled: &mut [Pooled],
    ) -> Result<()> {
        let (mut tokens, mut positions, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
        // Rows of the batch that count, and the texts they belong to.
        let (mut rows, mut owners) = (Vec::new(), Vec::new());
        for (index, (text, place)) in texts.iter().zip(places).enumerate() {
            let first_row = tokens.len();
            let here = part.start.min(text.len())..part.end.min(text.len());
            tokens.extend_from_slice(&text[here.clone()]);
            positions.extend(here.start as u32..here.end as u32);
            let (pages, state, adapters) = (place.pages(), place.state(), place.adapters());
            let n_rows = here.len();
            sequences.push(SequenceView { first_row, n_rows, pages, state, adapters });
            for position in here.clone().filter(|p| self.counts(pooling, *p, text.len())) {
                rows.push((first_row + position - here.start) as u32);
                owners.push(index);
            }
        }
        let batch = BatchView {
            tokens: &tokens,
            positions: &positions,
            sequences: &sequences,
            output_rows: &[],
            interrupt: Some(&self.stop),
        };
        let head = self.program.n_layers() + 1;
        self.cache.session.run(0..head, &batch).map_err(|error| self.unless_stopped(error))?;
        let max_outputs = self.limits.max_outputs;
        let width = self.program.width(slot);
        let mut values = vec![0.0; rows.len().min(max_outputs) * width];
        for (rows, owners) in rows.chunks(max_outputs).zip(owners.chunks(max_outputs)) {
            let batch = BatchView { output_rows: rows, ..batch };
            let run = self.cache.session.run(head..head + 1, &batch);
            run.map_err(|error| self.unless_stopped(error))?;
            let values = &mut values[..rows.len() * width];
            self.cache.session.read(slot, 0..rows.len(), values).await?;
            for (row, owner) in values.chunks_exact(width).zip(owners) {
                pooled[*owner].add(row, pooling);
            }
        }
        Ok(())
    }

    /// Whether the row at `position` of a text of `len` tokens is part of its vector.
    fn counts(&self, pooling: Pooling, position: usize, len: usize) -> bool {
        match pooling {
            Pooling::None | Pooling::Mean => true,
            Pooling::Cls => position == 0,
            Pooling::Last => position + 1 == len,
            Pooling::Rank if self.embedding.is_encoder => position == 0,
            Pooling::Rank => position + 1 == len,
        }
    }
}
