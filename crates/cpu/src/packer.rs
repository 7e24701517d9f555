//! Packed copies of a program's matrices, made in the background.
//!
//! A session answers from the file's own bytes until a copy is complete: results are
//! the same from either, so nobody waits. Matrices are packed in the order in which a
//! token meets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use realm_ir::WeightLayout;

use crate::machine;
use crate::plan::Op;
use crate::weight::WeightHandle;

/// Makes copies until it is dropped.
pub(crate) struct Packer {
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    bytes: u64,
}

/// What the threads share.
struct Work {
    weights: Vec<WeightHandle>,
    next: AtomicUsize,
}

impl Packer {
    /// Starts packing what `layout` asks for, on as many threads as compute.
    pub fn start(segments: &[Vec<Op>], layout: WeightLayout, n_threads: usize) -> Self {
        let mut weights = matrices(segments);
        let bytes: usize = weights.iter().map(|weight| weight.packed_bytes()).sum();
        let is_wanted = match layout {
            WeightLayout::Mapped => false,
            WeightLayout::Packed => true,
            WeightLayout::Auto => finds_room(bytes),
        };
        if !is_wanted {
            weights.clear();
        }
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
        let bytes = if threads.is_empty() { 0 } else { bytes as u64 };
        Packer { threads, stopping, bytes }
    }

    /// The layout, and the bytes that copies take when all are made.
    pub fn layout(&self) -> (WeightLayout, u64) {
        // Where uploading packs, there are no copies beside the weights.
        let is_packed = self.bytes > 0 || cfg!(target_family = "wasm");
        (if is_packed { WeightLayout::Packed } else { WeightLayout::Mapped }, self.bytes)
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

/// The matrices that whole products are taken with, each once. Experts are left as they
/// are: a copy would read those that nobody routes to.
fn matrices(segments: &[Vec<Op>]) -> Vec<WeightHandle> {
    let mut weights: Vec<WeightHandle> = Vec::new();
    for op in segments.iter().flatten() {
        let Op::Linear(linear) = op else { continue };
        for output in &linear.outputs {
            let is_new =
                !weights.iter().any(|weight| weight.reference() == output.weight.reference());
            if is_new && output.weight.packed_bytes() > 0 {
                weights.push(output.weight.clone());
            }
        }
    }
    weights
}

/// Whether twice these bytes are free: nobody else is to feel the copy.
fn finds_room(bytes: usize) -> bool {
    machine::available_memory_bytes().is_some_and(|available| bytes as u64 <= available / 2)
}
