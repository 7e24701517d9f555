//! Runs a model: batches go in, logits and hidden states come out.
//!
//! A [`ModelRunner`] owns a session and knows its program. It knows no requests and decides
//! nothing: what is in a batch and which of its rows are wanted is for others to say. A model
//! that drafts for another is a second runner in the same loop, with a KV cache of its own.
//!
//! - [`batch`]: rows of sequences, put together.
//! - [`logits`]: what samplers choose from.
//! - [`layers`]: one segment at a time.
//!
//! A session in which something unwound is dead, since nobody knows what it left half done. The
//! runner keeps what a session is opened from and opens another.

mod batch;
mod layers;
mod logits;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use realm_ir::{Program, Session, Slot};

pub(crate) use batch::Batch;
pub(crate) use logits::Logits;

use crate::adapter::Adapters;
use crate::error::{Error, Result};
use crate::kv::{PageCopy, StateCopy};

/// Opens a session with an empty KV cache, of the same sizes each time.
pub type OpenSession = Box<dyn Fn() -> Result<Box<dyn Session>> + Send>;

/// One model on one session.
pub(crate) struct ModelRunner {
    /// None once it was lost and no other could be opened.
    session: Option<Box<dyn Session>>,
    open_session: OpenSession,
    program: Arc<Program>,
    page_tokens: usize,
}

impl ModelRunner {
    /// Runs `program` on `session`; `open_session` opens others like it.
    pub(crate) fn new(
        session: Box<dyn Session>,
        open_session: OpenSession,
        program: Arc<Program>,
        page_tokens: usize,
    ) -> Self {
        ModelRunner { session: Some(session), open_session, program, page_tokens }
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Whether there is a session.
    ///
    /// # Errors
    /// `MODEL_LOST`.
    pub(crate) fn check(&self) -> Result<()> {
        self.session.as_ref().map(|_| ()).ok_or_else(lost)
    }

    /// Drops the session and opens another; all keys, values and states are gone.
    ///
    /// # Errors
    /// Why none could be opened. From then on everything is `MODEL_LOST`.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        // Whatever the dead one does when it is dropped, it ends here.
        let dead = self.session.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(dead)));
        let opened = catch_unwind(AssertUnwindSafe(|| (self.open_session)()));
        self.session = Some(opened.unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref())))?);
        Ok(())
    }

    fn session(&mut self) -> Result<&mut dyn Session> {
        match &mut self.session {
            Some(session) => Ok(session.as_mut()),
            None => Err(lost()),
        }
    }

    /// The segment of the head; those before it are the embedding and the layers.
    fn head(&self) -> usize {
        self.program.n_layers() + 1
    }

    /// Copies pages in the place of shared ones.
    pub(crate) fn copy_pages(&mut self, copies: &[PageCopy]) -> Result<()> {
        for copy in copies {
            self.session()?.copy_page(copy.from.number(), copy.to)?;
        }
        Ok(())
    }

    /// Copies the state of a sequence to that of its fork.
    pub(crate) fn copy_state(&mut self, copy: StateCopy) -> Result<()> {
        Ok(self.session()?.copy_state(copy.from, copy.to)?)
    }

    /// Runs all layers over a batch, and the head over `output_rows` of it, if there are any.
    /// What each row adds to the KV cache is there afterwards.
    ///
    /// # Errors
    /// Those of the session, `Interrupted` among them when `interrupt` was set meanwhile. What
    /// the batch writes to is unspecified then.
    pub(crate) fn forward(
        &mut self,
        batch: &Batch<'_>,
        output_rows: &[u32],
        interrupt: &AtomicBool,
    ) -> Result<()> {
        let head = self.head();
        let end = if output_rows.is_empty() { head } else { head + 1 };
        Ok(self.session()?.run(0..end, &batch.view(output_rows, interrupt))?)
    }

    /// Runs the head alone over `output_rows` of the batch that ran last, and reads what it
    /// leaves in `slot` for them: `[output rows, width]`, into `out`.
    ///
    /// # Errors
    /// As [`ModelRunner::forward`].
    pub(crate) async fn outputs(
        &mut self,
        batch: &Batch<'_>,
        output_rows: &[u32],
        slot: Slot,
        out: &mut Vec<f32>,
        interrupt: &AtomicBool,
    ) -> Result<()> {
        let head = self.head();
        let width = self.program.width(slot);
        let start = out.len();
        out.resize(start + output_rows.len() * width, 0.0);
        let session = self.session()?;
        session.run(head..head + 1, &batch.view(output_rows, interrupt))?;
        Ok(session.read(slot, 0..output_rows.len(), &mut out[start..]).await?)
    }
}

fn lost() -> Error {
    Error::ModelLost
}
