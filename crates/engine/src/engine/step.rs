//! One step: who ends, who is admitted, who gives up room; then a batch.

use std::sync::Arc;

use super::Engine;
use crate::error::{Error, Result};
use crate::kv::{Missing, Room};
use crate::requests::{Chunk, Event, FinishReason, Request, Work};
use crate::scheduler::{self, Candidate, Kind, Plan, Situation};

/// Who holds room without using it.
#[derive(Clone, Copy)]
enum Idle {
    /// A kept sequence.
    Kept(u32),
    /// An answer that nobody reads, by its place in the queue.
    Paused(usize),
}

/// Who gets what in one step.
struct Shares {
    /// Rows in the batch of each request in the queue.
    batch: Vec<usize>,
    /// Rows of the layer call that has its turn.
    layer_rows: usize,
}

impl Engine {
    /// Runs one batch and one part of a layer call. Does nothing when idle.
    pub async fn step(&mut self) {
        self.sweep();
        self.begin_layer_call();
        let shares = self.make_room();
        self.run_batch(&shares.batch).await;
        self.run_layer_call(shares.layer_rows).await;
        self.remove_finished();
    }

    /// Ends what somebody wants to end. Every step begins with it; whoever hands out events in
    /// between does not let those wait for a batch who wanted to be none of it.
    pub fn sweep(&mut self) {
        let is_aborted = |index: &usize| self.queue[*index].is_aborted();
        let aborted: Vec<usize> = (0..self.queue.len()).filter(is_aborted).collect();
        // Whoever ends everything says so first, and then aborts each.
        if self.is_stopped() {
            return self.fail_all(Error::Disposed);
        }
        for index in aborted {
            match self.queue[index].work {
                Work::Generation(_) => self.end(index, FinishReason::Abort),
                _ => self.fail(index, &Arc::new(Error::Aborted)),
            }
        }
        self.sweep_preparing();
        self.remove_finished();
    }

    /// Plans until nobody has to give anything up, then takes the room for everyone who runs.
    fn make_room(&mut self) -> Shares {
        loop {
            // One layer call has its turn, those behind it wait for it.
            let first_call = self.queue.iter().position(Request::is_layer_call);
            let has_turn =
                |index: &usize| !self.queue[*index].is_layer_call() || Some(*index) == first_call;
            let (paused, awake): (Vec<usize>, Vec<usize>) =
                (0..self.queue.len()).partition(|index| self.queue[*index].is_paused());
            let places: Vec<usize> = awake.into_iter().filter(has_turn).collect();
            let candidates: Vec<Candidate> =
                places.iter().map(|index| self.candidate(&self.queue[*index])).collect();
            let free = self.kv.free();
            let idle = match is_plenty(free, &candidates) {
                true => Vec::new(),
                false => self.idle(&paused),
            };
            let holdings: Vec<Room> = idle.iter().map(|(_, holds)| *holds).collect();
            let situation = Situation { candidates: &candidates, idle: &holdings, free };
            match scheduler::plan(&self.policy, &situation) {
                Plan::Suspend(index) => self.suspend(places[index]),
                Plan::Evict(index) => match idle[index].0 {
                    Idle::Kept(sequence) => self.kept.evict(sequence),
                    Idle::Paused(index) => self.suspend(index),
                },
                Plan::Refuse(index) => {
                    self.refuse(places[index], candidates[index].needs);
                    self.remove_finished();
                }
                Plan::Run { admitted, rows } => {
                    admitted.into_iter().for_each(|index| self.admit(places[index]));
                    return self.take_room(&places, &rows);
                }
            }
        }
    }

    /// Who holds room without using it: kept sequences first, the one that was used least recently
    /// in front, then the answers at `paused`.
    fn idle(&self, paused: &[usize]) -> Vec<(Idle, Room)> {
        let kept = self.kept.idle().into_iter().map(|(id, holds)| (Idle::Kept(id), holds));
        let paused = paused.iter().map(|index| {
            let holds = self.candidate(&self.queue[*index]).holds;
            (Idle::Paused(*index), holds)
        });
        kept.chain(paused.filter(|(_, holds)| *holds != Room::NONE)).collect()
    }

    /// Takes the room for the requests at `places` of the queue, as far as they have `rows`.
    fn take_room(&mut self, places: &[usize], rows: &[usize]) -> Shares {
        let mut shares = Shares { batch: vec![0; self.queue.len()], layer_rows: 0 };
        for (index, n_rows) in places.iter().copied().zip(rows.iter().copied()) {
            let request = &mut self.queue[index];
            request.was_left_out = request.is_admitted && n_rows == 0;
            let is_layer_call = request.is_layer_call();
            if n_rows == 0 || !self.has_room(index) {
                continue;
            }
            match is_layer_call {
                true => shares.layer_rows = n_rows,
                false => shares.batch[index] = n_rows,
            }
        }
        shares
    }

    fn candidate(&self, request: &Request) -> Candidate {
        let (kind, n_pending, needs, holds) = match &request.work {
            Work::Generation(generation) => (
                Kind::Generation,
                generation.n_pending(),
                generation.sequence.needs(&self.kv, generation.tokens.len()),
                generation.sequence.storage().holds(),
            ),
            Work::Embedding(embedding) => (
                Kind::Embedding { whole_rows: embedding.whole_rows() },
                embedding.n_pending(),
                embedding.needs(&self.kv),
                embedding.holds(),
            ),
            Work::Layers(call) => {
                (Kind::Layers, call.n_pending(), self.layer_needs(call), Room::NONE)
            }
        };
        let Request { is_admitted, was_left_out, .. } = *request;
        Candidate { kind, n_pending, is_admitted, needs, holds, was_left_out }
    }

    fn admit(&mut self, index: usize) {
        let now = (self.clock)();
        let request = &mut self.queue[index];
        request.is_admitted = true;
        if let Work::Generation(generation) = &mut request.work {
            generation.begin(now);
        }
    }

    /// Takes the room for what a request reads next, which is there: it was planned so.
    /// False when that failed, and ended the request.
    fn has_room(&mut self, index: usize) -> bool {
        let result = self.reserve(index);
        if let Err(error) = result {
            self.fail(index, &Arc::new(error));
            return false;
        }
        true
    }

    fn reserve(&mut self, index: usize) -> Result<()> {
        let unplanned = |missing: Missing| Error::internal(format!("no room: {missing:?}"));
        match &mut self.queue[index].work {
            Work::Generation(generation) => {
                let sequence = &mut generation.sequence;
                let copies = sequence.reserve(&self.kv, generation.tokens.len());
                let copied = self.runner.copy_pages(&copies.map_err(unplanned)?);
                copied.inspect_err(|_| sequence.clear())
            }
            Work::Embedding(embedding) => embedding.reserve(&self.kv).map_err(unplanned),
            Work::Layers(_) => self.reserve_layer(index),
        }
    }

    /// Frees what a request holds until others have ended.
    fn suspend(&mut self, index: usize) {
        let request = &mut self.queue[index];
        request.is_admitted = false;
        match &mut request.work {
            Work::Generation(generation) => generation.sequence.clear(),
            Work::Embedding(embedding) => embedding.start_over(),
            Work::Layers(_) => {}
        }
    }

    /// Ends a request for which there is no room and can be none.
    fn refuse(&mut self, index: usize, needs: Room) {
        let error = match &self.queue[index].work {
            Work::Generation(generation) => self.exhausted(generation.tokens.len(), needs),
            Work::Embedding(embedding) => self.exhausted(embedding.n_wanted(), needs),
            Work::Layers(call) => self.layer_exhausted(call, needs),
        };
        self.fail(index, &Arc::new(error));
    }

    /// Why `n_tokens` of a sequence find no room, which has to get `needs` more.
    fn exhausted(&self, n_tokens: usize, needs: Room) -> Error {
        let what = self.shortage(needs, &format!("{n_tokens} tokens need"));
        Error::kv_exhausted(format!("{what}; {}", self.remedy(needs)))
    }

    /// What to do when there is no room for `needs`. Kept sequences give theirs up by themselves;
    /// those of layer calls hold it until they are dropped, whether somebody thinks of them or not.
    pub(super) fn remedy(&self, needs: Room) -> String {
        let larger = "load with a larger maxSequences";
        let held = || self.layer_sequences.values().map(|sequence| sequence.storage.holds());
        let (n, what) = match needs.pages <= self.kv.free().pages {
            true => (held().map(|holds| holds.states).sum::<usize>(), "of the states"),
            false => (held().map(|holds| holds.pages).sum(), "of the pages"),
        };
        match n {
            0 => larger.to_owned(),
            _ => format!(
                "sequences of forwardLayer hold {n} {what}: free them with dropLayerSequence, or \
                 {larger}"
            ),
        }
    }

    /// What is missing, with what is free and what there is.
    pub(super) fn shortage(&self, needs: Room, who_needs: &str) -> String {
        let (free, total) = (self.kv.free(), self.kv.total());
        let missing = Missing::of(needs, free).unwrap_or(Missing { pages: 0, states: 0 });
        let mut parts = Vec::new();
        if missing.pages > 0 {
            parts.push(format!(
                "KV cache is full: {who_needs} {} more pages of {} tokens, {} of {} are free",
                missing.pages, self.limits.page_tokens, free.pages, total.pages
            ));
        }
        if missing.states > 0 {
            parts.push(format!(
                "all recurrent states are in use: {who_needs} one, {} of {} are free",
                free.states, total.states
            ));
        }
        parts.join("; ")
    }

    /// Ends a generation that gets no more tokens: text held back comes out.
    pub(super) fn end(&mut self, index: usize, reason: FinishReason) {
        let Request { id, work: Work::Generation(generation), .. } = &mut self.queue[index] else {
            return;
        };
        let text = generation.answer.finish();
        if !text.is_empty() {
            let chunk_index = generation.answer.tokens.len();
            let chunk = Chunk { text, tokens: Vec::new(), index: chunk_index };
            self.events.push((*id, Event::Chunk(chunk)));
        }
        self.finish(index, reason);
    }

    /// Ends a generation that has handed out all its text.
    pub(super) fn finish(&mut self, index: usize, reason: FinishReason) {
        let now = (self.clock)();
        let request = &mut self.queue[index];
        if let Work::Generation(generation) = &mut request.work {
            request.is_finished = true;
            let completion = generation.completion(reason, now);
            self.events.push((request.id, Event::End(completion)));
        }
    }
}

/// Whether all get what they need, so that nobody has to give anything up.
fn is_plenty(free: Room, candidates: &[Candidate]) -> bool {
    let needs = candidates.iter().map(|candidate| candidate.needs);
    let sum = needs.fold(Room::NONE, |sum, needs| Room {
        pages: sum.pages + needs.pages,
        states: sum.states + needs.states,
    });
    free.has(sum)
}
