//! Calls of single segments: their checks, their room, and one part of one at a time.

use std::sync::Arc;

use realm_ir::Coded;

use super::Engine;
use crate::code::ErrorCode;
use crate::error::{Error, Result};
use crate::kv::{Missing, Room};
use crate::requests::{LayerCall, LayerSequence, LayerWork, Request, Work};
use crate::tensor::room;

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

impl Engine {
    /// Gives the oldest layer call its turn, if it has not had it yet. Those that need nothing
    /// run, or cannot be run, are answered at once.
    pub(super) fn begin_layer_call(&mut self) {
        while let Some(index) = self.queue.iter().position(Request::is_layer_call)
            && let Work::Layers(call) = &self.queue[index].work
            && !call.has_begun
        {
            let begun = match call.work {
                LayerWork::Drop { sequence } => {
                    self.layer_sequences.remove(&sequence);
                    Ok((0, Vec::new()))
                }
                _ => self.check_layer_call(call),
            };
            match begun {
                Ok((n_rows, out)) => {
                    let request = &mut self.queue[index];
                    let Work::Layers(call) = &mut request.work else { return };
                    (call.has_begun, call.n_rows, call.out) = (true, n_rows, out);
                    if n_rows == 0 {
                        call.finish();
                        request.is_finished = true;
                    }
                }
                Err(error) => self.fail(index, &Arc::new(error)),
            }
            self.remove_finished();
        }
    }

    /// The rows of a call whose turn has come, and the room for its result.
    fn check_layer_call(&self, call: &LayerCall) -> Result<(usize, Vec<f32>)> {
        let program = self.runner.program();
        let width = program.row_width();
        match &call.work {
            LayerWork::EmbedTokens { tokens, position } => {
                if program.embeds_positions() {
                    self.check_end(*position, tokens.len())?;
                }
                let out = room(tokens.len().checked_mul(width), "the embedding")?;
                Ok((tokens.len(), out))
            }
            LayerWork::ComputeLogits(hidden) => {
                self.check_has_logits()?;
                let rows = n_rows(hidden, width)?;
                let n_vocab = program.width(program.logits);
                Ok((rows, room(rows.checked_mul(n_vocab), "the logits")?))
            }
            LayerWork::Forward { layer, hidden, position, sequence } => {
                let n_layers = program.n_layers();
                if *layer >= n_layers {
                    let message = format!("layer is {layer}, the model has {n_layers}");
                    return Err(Error::invalid(message));
                }
                let rows = n_rows(hidden, width)?;
                if rows > 0 {
                    self.check_position(*layer, *position, rows, *sequence)?;
                }
                Ok((rows, room(Some(hidden.len()), "the hidden state")?))
            }
            LayerWork::Drop { .. } => Ok((0, Vec::new())),
        }
    }

    /// That `rows` rows at `position` go on where the layer is, or go back.
    fn check_position(&self, layer: usize, position: usize, rows: usize, id: u32) -> Result<()> {
        let held_by = |layer: usize| self.layer_sequences.get(&id).map_or(0, |s| s.lengths[layer]);
        let held = held_by(layer);
        if position > held {
            return Err(Error::invalid(format!(
                "position is {position}, but layer {layer} of sequence {id} holds {held} positions; \
                 expected at most {held}"
            )));
        }
        if self.kv.is_recurrent() && position != held && position != 0 {
            return Err(Error::invalid(format!(
                "position is {position}, but layer {layer} of sequence {id} holds {held} positions and \
                 a recurrent model cannot go back; expected {held} or 0"
            )));
        }
        let end = position.saturating_add(rows);
        let source = self.runner.program().kv_source(layer);
        let stored = held_by(source);
        if source != layer && end > stored {
            return Err(Error::invalid(format!(
                "the rows end at position {end}, but layer {layer} reads the keys and values of \
                 layer {source}, which holds {stored} positions of sequence {id}; run it first"
            )));
        }
        self.check_end(position, rows)
    }

    /// That the context has the positions of so many rows.
    fn check_end(&self, position: usize, rows: usize) -> Result<()> {
        let (context, end) = (self.limits.context_length, position.saturating_add(rows));
        if end <= context {
            return Ok(());
        }
        Err(Error::kv_exhausted(format!(
            "{rows} rows at position {position} end at {end}, the context takes {context}; \
             load with a larger contextLength"
        )))
    }

    /// What a call takes before it can run.
    pub(super) fn layer_needs(&self, call: &LayerCall) -> Room {
        match call.writes() {
            None => Room::NONE,
            Some((id, positions)) => match self.layer_sequences.get(&id) {
                Some(sequence) => self.kv.needs(&sequence.storage, positions.start, positions.end),
                None => self.kv.room_for(positions.end),
            },
        }
    }

    /// Takes the room for a call, which is there.
    pub(super) fn reserve_layer(&mut self, index: usize) -> Result<()> {
        let Work::Layers(call) = &self.queue[index].work else { return Ok(()) };
        let (Some((id, positions)), LayerWork::Forward { layer, .. }, 0) =
            (call.writes(), &call.work, call.n_done)
        else {
            return Ok(());
        };
        let new = || LayerSequence {
            storage: self.kv.storage(),
            lengths: vec![0; self.runner.program().n_layers()],
        };
        let sequence = self.layer_sequences.entry(id).or_insert_with(new);
        // What was there from `position` on is about to be overwritten.
        sequence.lengths[*layer] = positions.start;
        let copies = self.kv.reserve(&mut sequence.storage, positions.start, positions.end);
        let unplanned = |missing: Missing| Error::internal(format!("no room: {missing:?}"));
        self.runner.copy_pages(&copies.map_err(unplanned)?)
    }

    /// Why there is no room for a call.
    pub(super) fn layer_exhausted(&self, call: &LayerCall, needs: Room) -> Error {
        let (id, end) = call.writes().map_or((0, 0), |(id, positions)| (id, positions.end));
        let free = self.kv.free();
        if needs.pages <= free.pages {
            let what = self.shortage(needs, &format!("sequence {id} needs"));
            return Error::kv_exhausted(format!("{what}; {}", self.remedy(needs)));
        }
        let has = self.layer_sequences.get(&id).map_or(0, |s| s.storage.holds().pages);
        let page_tokens = self.limits.page_tokens;
        Error::kv_exhausted(format!(
            "KV cache is full: sequence {id} needs {} pages of {page_tokens} tokens and has {has}, \
             {} of {} are free; {}",
            end.div_ceil(page_tokens),
            free.pages,
            self.kv.total().pages,
            self.remedy(needs),
        ))
    }

    /// Runs the next `n_rows` of the layer call that has its turn.
    pub(super) async fn run_layer_call(&mut self, n_rows: usize) {
        let has_turn = |request: &Request| {
            request.is_layer_call() && request.is_admitted && !request.is_finished
        };
        let Some(index) = self.queue.iter().position(has_turn).filter(|_| n_rows > 0) else {
            return;
        };
        match self.run_part(index, n_rows).await {
            Ok(()) => {
                let request = &mut self.queue[index];
                let Work::Layers(call) = &mut request.work else { return };
                if call.n_pending() == 0 {
                    call.finish();
                    request.is_finished = true;
                }
            }
            Err(error) if error.code() == ErrorCode::ModelLost => {
                self.recover(Error::internal(error.to_string()));
            }
            Err(error) if error.is_interrupted() => self.sweep(),
            Err(error) => self.fail(index, &Arc::new(error)),
        }
    }

    async fn run_part(&mut self, index: usize, n_rows: usize) -> Result<()> {
        let Work::Layers(call) = &self.queue[index].work else { return Ok(()) };
        if let LayerWork::EmbedTokens { tokens, .. } = &call.work {
            // Part by part, as everything that takes time in proportion to a call.
            self.check_tokens(&tokens[call.n_done..call.n_done + n_rows], call.n_done)?;
        }
        let Engine { queue, runner, layer_sequences, limits, kv, .. } = self;
        let Request { work: Work::Layers(call), abort, .. } = &mut queue[index] else {
            return Ok(());
        };
        let n_rows = match call.work {
            LayerWork::ComputeLogits(_) => n_rows.min(limits.max_outputs),
            _ => n_rows,
        };
        let program = runner.program();
        let width = program.row_width();
        let out_width = match call.work {
            LayerWork::ComputeLogits(_) => program.width(program.logits),
            _ => width,
        };
        let rows = call.n_done..call.n_done + n_rows;
        let values = rows.start * width..rows.end * width;
        // There is room for the whole, of which one part is touched at a time.
        call.out.resize(rows.end * out_width, 0.0);
        let out = &mut call.out[rows.start * out_width..];
        let adapters = &call.adapters;
        match &call.work {
            LayerWork::EmbedTokens { tokens, position } => {
                let position = position + rows.start;
                runner.embed_tokens(&tokens[rows], position, adapters, out, abort).await?;
            }
            LayerWork::ComputeLogits(hidden) => {
                runner.compute_logits(&hidden[values], adapters, out, abort).await?;
            }
            LayerWork::Forward { layer, hidden, position, sequence } => {
                let Some(sequence) = layer_sequences.get_mut(sequence) else {
                    return Err(Error::internal(format!("sequence {sequence} has no pages")));
                };
                let positions = position + rows.start..position + rows.end;
                let end = positions.end;
                let hidden = &hidden[values];
                let storage = &sequence.storage;
                let run =
                    runner.run_layer(*layer, hidden, positions, storage, adapters, out, abort);
                let result = run.await;
                match &result {
                    Ok(()) => sequence.lengths[*layer] = end,
                    // A recurrent state that was left half way holds nothing.
                    Err(_) if kv.is_recurrent() => sequence.lengths[*layer] = 0,
                    Err(_) => {}
                }
                result?;
            }
            LayerWork::Drop { .. } => {}
        }
        call.n_done += n_rows;
        Ok(())
    }
}
