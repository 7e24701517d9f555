//! What samplers choose from.

use realm_ir::Top;

use super::ModelRunner;
use crate::error::Result;

/// Most logits of a row that are chosen where they were computed.
const MAX_BEST: usize = 64;

/// The logits of a batch, by output row.
#[derive(Debug)]
pub(crate) enum Logits {
    /// `[rows, n_vocab]`.
    All(Vec<f32>),
    /// The best of each row.
    Best(Vec<Vec<Top>>),
}

impl Default for Logits {
    fn default() -> Self {
        Logits::All(Vec::new())
    }
}

impl ModelRunner {
    /// Reads the logits of the `n_outputs` output rows of the last batch into `logits`; only the
    /// best `n_enough` of each, if that is said and the backend can choose them.
    ///
    /// # Errors
    /// Those of the session.
    pub(crate) async fn read_logits(
        &mut self,
        n_outputs: usize,
        n_enough: Option<usize>,
        logits: &mut Logits,
    ) -> Result<()> {
        let slot = self.program.logits;
        let n_vocab = self.program.width(slot);
        let session = self.session()?;
        if let Some(n) = n_enough.filter(|n| *n <= MAX_BEST.min(n_vocab))
            && let Some(best) = session.read_top(slot, n_outputs, n)
        {
            *logits = Logits::Best(best.await?);
            return Ok(());
        }
        let mut values = match std::mem::take(logits) {
            Logits::All(values) => values,
            Logits::Best(_) => Vec::new(),
        };
        values.resize(n_outputs * n_vocab, 0.0);
        session.read(slot, 0..n_outputs, &mut values).await?;
        *logits = Logits::All(values);
        Ok(())
    }
}
