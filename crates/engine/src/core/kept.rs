//! Sequences that keep their KV cache between generations.

use std::collections::BTreeMap;

use super::Core;
use super::adapters::Adapters;
use super::sequence::{Cache, Sequence};
use crate::error::{Error, Result};

/// A kept sequence.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Ready for a generation.
    Idle(Sequence),
    /// A generation has it; freed at its end when `is_closing`.
    Busy { is_closing: bool },
}

/// Takes back the sequence of a generation that is over.
pub(crate) fn put_back(
    kept: &mut BTreeMap<u32, Kept>,
    cache: &mut Cache,
    id: u32,
    mut sequence: Sequence,
) {
    match kept.get_mut(&id) {
        Some(state @ Kept::Busy { is_closing: false }) => *state = Kept::Idle(sequence),
        _ => {
            sequence.truncate(cache, 0);
            kept.remove(&id);
        }
    }
}

fn unknown(id: u32) -> Error {
    Error::invalid(format!("sequence {id} is not open"))
}

impl Core {
    /// Opens an empty sequence that keeps its KV cache between generations.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `id` is in use.
    pub fn open_sequence(&mut self, id: u32) -> Result<()> {
        self.insert_kept(id, Sequence::default())
    }

    /// Opens `to` with what `from` holds. Pages are shared until one side writes.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `from` is not open or `to` is in use, `KV_EXHAUSTED`
    /// without a free recurrent state.
    pub fn fork_sequence(&mut self, from: u32, to: u32) -> Result<()> {
        let source = match self.kept.get(&from) {
            Some(Kept::Idle(sequence)) => sequence,
            Some(Kept::Busy { is_closing: false }) => self
                .generations
                .iter()
                .find(|generation| generation.kept == Some(from))
                .map(|generation| &generation.sequence)
                .ok_or_else(|| unknown(from))?,
            _ => return Err(unknown(from)),
        };
        let fork = source.fork(&mut self.cache)?.ok_or_else(|| {
            Error::kv_exhausted("all recurrent states are in use; close a sequence".to_owned())
        })?;
        self.insert_kept(to, fork)
    }

    fn insert_kept(&mut self, id: u32, mut sequence: Sequence) -> Result<()> {
        if self.kept.contains_key(&id) {
            sequence.truncate(&mut self.cache, 0);
            return Err(Error::invalid(format!("sequence {id} is open already")));
        }
        self.kept.insert(id, Kept::Idle(sequence));
        Ok(())
    }

    /// Frees a sequence; one that a generation is using, at its end.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `id` is not open.
    pub fn close_sequence(&mut self, id: u32) -> Result<()> {
        match self.kept.get_mut(&id) {
            Some(Kept::Busy { is_closing: is_closing @ false }) => *is_closing = true,
            Some(Kept::Idle(sequence)) => {
                sequence.truncate(&mut self.cache, 0);
                self.kept.remove(&id);
            }
            _ => return Err(unknown(id)),
        }
        Ok(())
    }

    /// Lends a sequence to a generation, cut to what it has in common with the
    /// prompt, and to nothing when it ran with other adapters. At least one token of the prompt is left to compute logits from.
    pub(super) fn take_kept(
        &mut self,
        id: u32,
        prompt: &[u32],
        adapters: Adapters,
    ) -> Result<Sequence> {
        match self.kept.get_mut(&id) {
            Some(kept @ Kept::Idle(_)) => {
                let busy = Kept::Busy { is_closing: false };
                let Kept::Idle(mut sequence) = std::mem::replace(kept, busy) else {
                    return Err(unknown(id));
                };
                sequence.set_adapters(&mut self.cache, adapters);
                let reused = sequence.common_prefix(prompt).min(prompt.len() - 1);
                sequence.truncate(&mut self.cache, reused);
                Ok(sequence)
            }
            Some(Kept::Busy { is_closing: false }) => Err(Error::invalid(format!(
                "sequence {id} is busy with another generation; wait for it or fork the sequence"
            ))),
            _ => Err(unknown(id)),
        }
    }
}
