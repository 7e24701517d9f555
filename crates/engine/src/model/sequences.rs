//! Sequences of a model that keep their KV cache: numbers here, contents on the engine's thread.

use super::{ModelHandle, lock};
use crate::error::Result;

impl ModelHandle {
    /// Opens a sequence that keeps its KV cache between generations.
    ///
    /// # Errors
    /// `DISPOSED`.
    pub fn open_sequence(&self) -> Result<u32> {
        self.loaded()?;
        let id = lock(&self.sequences).add();
        self.tell("open a sequence", move |engine| engine.open_sequence(id));
        Ok(id)
    }

    /// Opens a sequence with what `sequence` holds; pages are shared until one of them changes.
    /// It always succeeds: where there is no room for what the other holds, this one is empty,
    /// and is read again at its first use.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `sequence` is not open, `DISPOSED`.
    pub fn fork_sequence(&self, sequence: u32) -> Result<u32> {
        self.loaded()?;
        let mut sequences = lock(&self.sequences);
        sequences.check("sequence", sequence)?;
        let id = sequences.add();
        self.tell("fork a sequence", move |engine| engine.fork_sequence(sequence, id));
        Ok(id)
    }

    /// Frees a sequence; one that is generating, when that ends.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when `sequence` is not open, `DISPOSED`.
    pub fn close_sequence(&self, sequence: u32) -> Result<()> {
        self.loaded()?;
        let mut sequences = lock(&self.sequences);
        sequences.check("sequence", sequence)?;
        sequences.open.remove(&sequence);
        self.tell("close a sequence", move |engine| engine.close_sequence(sequence));
        Ok(())
    }
}
