//! One batch: rows of everyone who has some, what comes out, and what follows from it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use realm_ir::{Coded, Slot};

use super::Engine;
use crate::code::ErrorCode;
use crate::error::{Error, Result};
use crate::requests::{Chunk, Event, FinishReason, Request, SpecialTokens, Work};
use crate::runner::Batch;

/// A request with rows in the batch.
struct Member {
    /// Place in the queue.
    index: usize,
    /// How many of its pending rows.
    n_rows: usize,
}

/// What of the rows of texts the head left in one slot.
struct Pooled {
    slot: Slot,
    /// `[rows, width]`, in the order of the batch.
    values: Vec<f32>,
}

impl Engine {
    /// Runs the batch that gives each request in the queue its `rows`, if there are any.
    pub(super) async fn run_batch(&mut self, rows: &[usize]) {
        let members = self.members(rows);
        if members.is_empty() {
            return;
        }
        // One that is alone can be given up in the middle of a step.
        let interrupt = match &members[..] {
            [alone] => self.queue[alone.index].abort.clone(),
            _ => self.stop.clone(),
        };
        match self.forward(&members, &interrupt).await {
            Ok(pooled) => self.take_results(&members, &pooled),
            Err(error) => self.give_up_batch(&members, error),
        }
    }

    /// Those with rows: generations first, so that their output rows lie together.
    fn members(&mut self, rows: &[usize]) -> Vec<Member> {
        let mut members = Vec::new();
        let mut texts = Vec::new();
        for (index, n_rows) in rows.iter().copied().enumerate().filter(|(_, n)| *n > 0) {
            match &mut self.queue[index].work {
                Work::Generation(_) => members.push(Member { index, n_rows }),
                Work::Embedding(embedding) => {
                    embedding.share_out(&self.kv, n_rows);
                    texts.push(Member { index, n_rows });
                }
                Work::Layers(_) => {}
            }
        }
        members.extend(texts);
        members
    }

    /// Runs the batch. Leaves one row of logits for each generation that has no tokens left to
    /// read, and gives the rows of texts that are part of their vectors.
    async fn forward(&mut self, members: &[Member], interrupt: &AtomicBool) -> Result<Vec<Pooled>> {
        let Engine { queue, runner, logits, vocabulary, .. } = self;
        let special = SpecialTokens {
            ends: vocabulary.end_of_generation_tokens(),
            suppressed: vocabulary.suppressed_tokens(),
        };
        let mut batch = Batch::default();
        let mut output_rows = Vec::new();
        // How many of the best logits are enough for every generation that gets a token.
        let mut n_enough = Some(0);
        // Rows of texts by the slot in which the head leaves what is wanted of them.
        let mut text_rows: Vec<(Slot, Vec<u32>)> = Vec::new();
        for member in members {
            match &queue[member.index].work {
                Work::Generation(generation) => {
                    let tokens = generation.next_tokens(member.n_rows);
                    let rows = batch.push(&generation.sequence, tokens);
                    if generation.wants_logits(member.n_rows) {
                        output_rows.push(rows.end as u32 - 1);
                        let enough = generation.n_enough(special);
                        n_enough = n_enough.zip(enough).map(|(a, b)| a.max(b));
                    }
                }
                Work::Embedding(embedding) => {
                    let slot = embedding.slot();
                    let place = text_rows.iter().position(|(other, _)| *other == slot);
                    let place = place.unwrap_or_else(|| {
                        text_rows.push((slot, Vec::new()));
                        text_rows.len() - 1
                    });
                    for part in embedding.parts() {
                        let rows = batch.push(part.sequence, part.tokens);
                        let counted = part.counted.iter().map(|row| (rows.start + row) as u32);
                        text_rows[place].1.extend(counted);
                    }
                }
                Work::Layers(_) => {}
            }
        }
        runner.forward(&batch, &output_rows, interrupt)?;
        if !output_rows.is_empty() {
            runner.read_logits(output_rows.len(), n_enough, logits).await?;
        }
        let mut pooled = Vec::new();
        for (slot, rows) in text_rows {
            let mut values = Vec::new();
            for rows in rows.chunks(self.limits.max_outputs) {
                runner.outputs(&batch, rows, slot, &mut values, interrupt).await?;
            }
            pooled.push(Pooled { slot, values });
        }
        Ok(pooled)
    }

    /// Moves everyone on who was in the batch.
    fn take_results(&mut self, members: &[Member], pooled: &[Pooled]) {
        let now = (self.clock)();
        let mut values: Vec<(Slot, &[f32])> =
            pooled.iter().map(|pooled| (pooled.slot, &pooled.values[..])).collect();
        let mut next_row = 0;
        for member in members {
            let request = &mut self.queue[member.index];
            match &mut request.work {
                Work::Generation(generation) => {
                    let gets_token = generation.wants_logits(member.n_rows);
                    generation.advance(member.n_rows, now);
                    if gets_token {
                        self.choose_token(member.index, next_row);
                        next_row += 1;
                    } else if generation.n_pending() == 0 {
                        self.end(member.index, FinishReason::Length);
                    }
                }
                Work::Embedding(embedding) => {
                    let slot = embedding.slot();
                    let own = values.iter_mut().find(|(other, _)| *other == slot);
                    let mut none: &[f32] = &[];
                    let own = own.map_or(&mut none, |(_, values)| values);
                    let advanced = embedding.advance(own);
                    request.is_admitted = embedding.has_room();
                    match advanced {
                        Ok(false) => {}
                        Ok(true) => {
                            embedding.finish();
                            request.is_finished = true;
                        }
                        Err(error) => self.fail(member.index, &Arc::new(error)),
                    }
                }
                Work::Layers(_) => {}
            }
        }
    }

    /// Chooses the next token of a generation from an output row and hands it out.
    fn choose_token(&mut self, index: usize, row: usize) {
        let Engine { queue, logits, vocabulary, runner, .. } = self;
        let Work::Generation(generation) = &mut queue[index].work else { return };
        let n_vocab = runner.program().width(runner.program().logits);
        let special = SpecialTokens {
            ends: vocabulary.end_of_generation_tokens(),
            suppressed: vocabulary.suppressed_tokens(),
        };
        match generation.choose(logits, row, n_vocab, special) {
            Ok(token) => self.take_token(index, token),
            Err(error) => self.fail(index, &Arc::new(error)),
        }
    }

    /// Hands out a token and ends the generation if it was its last.
    fn take_token(&mut self, index: usize, token: u32) {
        if self.vocabulary.end_of_generation_tokens().contains(&token) {
            return self.end(index, FinishReason::Stop);
        }
        let now = (self.clock)();
        let Request { id, work: Work::Generation(generation), is_admitted, .. } =
            &mut self.queue[index]
        else {
            return;
        };
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
        self.events.push((*id, Event::Chunk(chunk)));
        if let Some(reason) = reason {
            self.finish(index, reason);
        } else if generation.is_paused() {
            // It is admitted again when it goes on.
            *is_admitted = false;
            generation.pause(now);
        }
    }

    /// Ends those whose batch did not complete. What was asked for with an abort or a stop is
    /// left to the next sweep.
    fn give_up_batch(&mut self, members: &[Member], error: Error) {
        if error.code() == ErrorCode::ModelLost {
            return self.recover(Error::internal(error.to_string()));
        }
        let is_wanted = error.is_interrupted();
        let error = Arc::new(error);
        for member in members {
            let request = &mut self.queue[member.index];
            match &mut request.work {
                Work::Generation(generation) => generation.sequence.drop_unfinished_page(&self.kv),
                Work::Embedding(embedding) => {
                    embedding.start_over();
                    request.is_admitted = false;
                }
                Work::Layers(_) => {}
            }
            if !is_wanted {
                self.fail(member.index, &error);
            }
        }
        self.sweep();
    }
}
