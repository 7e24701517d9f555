//! Where the bytes of one file of a model are.

use std::sync::Arc;

use crate::remote::ReadAt;
use crate::view::View;

/// One file of a model.
#[derive(Clone)]
pub(crate) enum File {
    /// Mapped or in memory.
    Held(View),
    /// Read piece by piece.
    Remote(Arc<dyn ReadAt>),
}

impl File {
    pub(crate) fn n_bytes(&self) -> u64 {
        match self {
            File::Held(view) => view.len() as u64,
            File::Remote(file) => file.n_bytes(),
        }
    }

    /// `len` bytes from `start` on; `None` when they are not inside.
    pub(crate) fn view(&self, start: u64, len: usize) -> Option<View> {
        let end = start.checked_add(len as u64).filter(|end| *end <= self.n_bytes())?;
        match self {
            File::Held(view) => view.slice(start as usize..end as usize),
            File::Remote(file) => Some(View::remote(file.clone(), start, len)),
        }
    }
}
