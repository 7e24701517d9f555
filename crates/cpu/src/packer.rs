//! Packed copies of a program's matrices, made in the background.
//!
//! A session answers from the file's own bytes until a copy is complete: results are
//! the same from either, so nobody waits. Matrices are packed in the order in which a
//! token meets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use realm_ir::{Program, Result, Uploaded, WeightLayout};
use realm_quant::Level;

use crate::memory;
use crate::weight::WeightHandle;

/// Makes copies until it is dropped.
pub(crate) struct Packer {
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

/// What the threads share.
struct Work {
    weights: Vec<WeightHandle>,
    next: AtomicUsize,
}

impl Packer {
    /// Starts packing if the layout is to be packed, on as many threads as compute.
    ///
    /// # Errors
    /// `Unsupported` for weights of another backend.
    pub fn start(
        program: &Program,
        weights: &[Uploaded],
        (layout, level): (WeightLayout, Level),
        n_threads: usize,
    ) -> Result<Self> {
        let wanted = match layout {
            WeightLayout::Packed => memory::matrices(program, level),
            WeightLayout::Auto | WeightLayout::Mapped => Vec::new(),
        };
        let handles =
            wanted.into_iter().map(|wanted| WeightHandle::new(&weights[wanted.0], wanted));
        let weights: Vec<_> = handles.collect::<Result<_>>()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let n_threads = n_threads.min(weights.len());
        let work = Arc::new(Work { weights, next: AtomicUsize::new(0) });
        let threads = (0..n_threads)
            .map_while(|_| {
                let (work, stopping) = (Arc::clone(&work), Arc::clone(&stopping));
                // Without a thread the file's bytes go on being used.
                std::thread::Builder::new()
                    .name("realm-packer".to_owned())
                    .spawn(move || work.run(&stopping))
                    .ok()
            })
            .collect::<Vec<_>>();
        Ok(Packer { threads, stopping })
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Packing does not panic, and if it did the copy would only be missing.
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(&self, stopping: &AtomicBool) {
        while !stopping.load(Ordering::Relaxed) {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            match self.weights.get(next) {
                Some(weight) => weight.pack(),
                None => return,
            }
        }
    }
}
