//! Sequences that keep their KV cache between generations.
//!
//! What a kept sequence holds is worth time and nothing else: one that gave up its pages, or
//! that never got any, is read again at its next use, with the same result. So opening and
//! forking always succeed, and idle sequences give way when there is no room otherwise.

use std::collections::BTreeMap;

use super::Engine;
use crate::adapter::Adapters;
use crate::error::{Error, Result};
use crate::kv::{Room, Sequence, Storage};
use crate::requests::Work;

/// A kept sequence.
#[derive(Debug)]
struct Kept {
    /// None while a generation has it.
    sequence: Option<Sequence>,
    /// Whether a generation is going to have it, whose prompt is not there yet.
    is_claimed: bool,
    /// Whether it is closed when that generation ends.
    is_closing: bool,
    /// When it was used, as a number that grows with each use.
    last_use: u64,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(super) struct KeptSequences {
    sequences: BTreeMap<u32, Kept>,
    n_uses: u64,
}

fn unknown(id: u32) -> Error {
    Error::invalid(format!("sequence {id} is not open"))
}

impl KeptSequences {
    fn insert(&mut self, id: u32, sequence: Sequence) -> Result<()> {
        if self.sequences.contains_key(&id) {
            return Err(Error::invalid(format!("sequence {id} is open already")));
        }
        self.n_uses += 1;
        let (sequence, last_use) = (Some(sequence), self.n_uses);
        let kept = Kept { sequence, is_claimed: false, is_closing: false, last_use };
        self.sequences.insert(id, kept);
        Ok(())
    }

    /// One that is open and not about to be closed.
    fn open(&mut self, id: u32) -> Result<&mut Kept> {
        self.sequences.get_mut(&id).filter(|kept| !kept.is_closing).ok_or_else(|| unknown(id))
    }

    /// Sets it aside for a generation. Until that takes it, it may still give way to others.
    pub(super) fn claim(&mut self, id: u32) -> Result<()> {
        let kept = self.open(id)?;
        if kept.is_claimed || kept.sequence.is_none() {
            return Err(Error::invalid(format!(
                "sequence {id} is busy with another generation; wait for it or fork the sequence"
            )));
        }
        kept.is_claimed = true;
        Ok(())
    }

    /// The generation that claimed it is not going to take it.
    pub(super) fn unclaim(&mut self, id: u32) {
        let Some(kept) = self.sequences.get_mut(&id) else { return };
        kept.is_claimed = false;
        if kept.is_closing {
            self.sequences.remove(&id);
        }
    }

    /// Lends a claimed sequence to its generation, cut to what it has in common with the
    /// prompt, and to nothing when it ran with other adapters. At least one token of the prompt
    /// is left to compute logits from.
    pub(super) fn take(&mut self, id: u32, prompt: &[u32], adapters: Adapters) -> Result<Sequence> {
        let kept = self.sequences.get_mut(&id).ok_or_else(|| unknown(id))?;
        let mut sequence = kept.sequence.take().ok_or_else(|| unknown(id))?;
        kept.is_claimed = false;
        sequence.set_adapters(adapters);
        let reused = sequence.common_prefix(prompt).min(prompt.len() - 1);
        sequence.truncate(reused);
        Ok(sequence)
    }

    /// Takes back the sequence of a generation that is over.
    pub(super) fn put_back(&mut self, id: u32, sequence: Sequence) {
        let Some(kept) = self.sequences.get_mut(&id) else { return };
        if kept.is_closing {
            self.sequences.remove(&id);
            return;
        }
        self.n_uses += 1;
        (kept.sequence, kept.last_use) = (Some(sequence), self.n_uses);
    }

    fn close(&mut self, id: u32) -> Result<()> {
        let kept = self.open(id)?;
        if kept.is_claimed || kept.sequence.is_none() {
            kept.is_closing = true;
        } else {
            self.sequences.remove(&id);
        }
        Ok(())
    }

    /// The idle ones that hold anything, least recently used first, with what they hold.
    pub(super) fn idle(&self) -> Vec<(u32, Room)> {
        let holds = |kept: &Kept| kept.sequence.as_ref().map(|s| s.storage().holds());
        let idle = self.sequences.iter().filter_map(|(id, kept)| {
            let holds = holds(kept).filter(|holds| *holds != Room::NONE)?;
            Some((kept.last_use, *id, holds))
        });
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable_by_key(|(last_use, ..)| *last_use);
        idle.into_iter().map(|(_, id, holds)| (id, holds)).collect()
    }

    /// Takes from an idle one all that it holds.
    pub(super) fn evict(&mut self, id: u32) {
        if let Some(sequence) = self.sequences.get_mut(&id).and_then(|k| k.sequence.as_mut()) {
            sequence.clear();
        }
    }

    /// Takes from all of them what they hold.
    pub(super) fn clear_all(&mut self) {
        let idle = self.sequences.values_mut().filter_map(|kept| kept.sequence.as_mut());
        idle.for_each(Sequence::clear);
    }

    /// Where the idle ones lie.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.sequences.values().filter_map(|kept| Some(kept.sequence.as_ref()?.storage()))
    }

    /// Checks that those that are lent are those that generations have: `used`. For tests.
    pub(super) fn check(&self, used: impl Iterator<Item = u32>) -> Result<(), String> {
        let mut used: Vec<u32> = used.collect();
        used.sort_unstable();
        let lent = self.sequences.iter().filter(|(_, kept)| kept.sequence.is_none());
        let lent: Vec<u32> = lent.map(|(id, _)| *id).collect();
        match lent == used {
            true => Ok(()),
            false => Err(format!("sequences {lent:?} are lent, generations have {used:?}")),
        }
    }
}

impl Engine {
    /// Opens an empty sequence that keeps its KV cache between generations.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `id` is in use.
    pub fn open_sequence(&mut self, id: u32) -> Result<()> {
        self.kept.insert(id, Sequence::new(&self.kv, Adapters::default()))
    }

    /// Opens `to` with what `from` holds. Pages are shared until one side writes. Where a
    /// recurrent state is needed and none is free, `to` is empty, and is read again at its first
    /// use.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `from` is not open or `to` is in use.
    pub fn fork_sequence(&mut self, from: u32, to: u32) -> Result<()> {
        let of_generation = self.queue.iter().find_map(|request| match &request.work {
            Work::Generation(generation) if generation.kept == Some(from) => {
                Some(&generation.sequence)
            }
            _ => None,
        });
        let source = match &self.kept.open(from)?.sequence {
            Some(sequence) => sequence,
            None => of_generation.ok_or_else(|| unknown(from))?,
        };
        let fork = source.fork(&self.kv).and_then(|(fork, copy)| {
            // What is wrong with the session shows at the next batch.
            let copied = copy.map_or(Ok(()), |copy| self.runner.copy_state(copy));
            copied.is_ok().then_some(fork)
        });
        let empty = || Sequence::new(&self.kv, Adapters::default());
        self.kept.insert(to, fork.unwrap_or_else(empty))
    }

    /// Frees a sequence; one that a generation is using, at its end.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `id` is not open.
    pub fn close_sequence(&mut self, id: u32) -> Result<()> {
        self.kept.close(id)
    }
}
