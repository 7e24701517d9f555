//! How fast this machine reads memory: what bounds decoding.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::machine;
use crate::zeroed::Zeroed;

/// Much more than caches hold.
const BYTES: usize = 1 << 30;
/// How long to read.
const TIME: Duration = Duration::from_millis(700);
/// Words read between two looks at the clock: fast enough that most pieces are read without
/// an interruption.
const PIECE_WORDS: usize = 1 << 18;

/// Bytes per second that threads read from memory together, each its own part of a
/// gigabyte in large pages; `None` where so much is not free. Takes about a second.
///
/// `n_threads`: `None` for as many as a backend uses by default.
pub fn read_bandwidth(n_threads: Option<usize>) -> Option<f64> {
    let n_threads = n_threads.unwrap_or_else(machine::default_threads);
    let n_threads = n_threads.clamp(1, BYTES / size_of::<u64>() / PIECE_WORDS);
    machine::available_memory_bytes().filter(|bytes| *bytes / 2 >= BYTES as u64)?;
    let mut memory = Zeroed::<u64>::in_large_pages(BYTES / size_of::<u64>())?;
    let words = memory.as_mut_slice();
    let per_thread = words.len() / n_threads;
    let start = Barrier::new(n_threads);
    let rates = std::thread::scope(|scope| {
        let parts = words.chunks_exact_mut(per_thread).take(n_threads);
        let readers: Vec<_> = parts
            .map(|own| {
                let start = &start;
                scope.spawn(move || {
                    // Pages that nobody wrote to are all the same one.
                    own.fill(1);
                    start.wait();
                    reading_rate(own)
                })
            })
            .collect();
        let rates = readers.into_iter().map(|reader| reader.join().expect("reading is safe"));
        rates.sum()
    });
    Some(rates)
}

/// Bytes per second of one thread: those of the median piece, which others on the same
/// core do not slow down.
fn reading_rate(words: &[u64]) -> f64 {
    let began = Instant::now();
    let mut seconds = Vec::new();
    for piece in words.chunks_exact(PIECE_WORDS).cycle() {
        let before = Instant::now();
        black_box(read(piece));
        seconds.push(before.elapsed().as_secs_f64());
        if began.elapsed() >= TIME {
            break;
        }
    }
    seconds.sort_by(f64::total_cmp);
    (PIECE_WORDS * size_of::<u64>()) as f64 / seconds[seconds.len() / 2]
}

/// Reads every word: of each sixteen, one goes into each sum.
fn read(words: &[u64]) -> [u64; 16] {
    let mut sums = [0u64; 16];
    for some in words.as_chunks::<16>().0 {
        for (sum, word) in sums.iter_mut().zip(some) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_piece_is_read() {
        let words: Vec<u64> = (1..=PIECE_WORDS as u64).collect();
        let sum: u64 = read(&words).iter().sum();
        assert_eq!(sum, (PIECE_WORDS * (PIECE_WORDS + 1) / 2) as u64);
    }

    #[test]
    fn a_rate_is_a_number_where_there_is_memory_to_read() {
        if let Some(rate) = read_bandwidth(Some(1)) {
            assert!(rate > 0.0 && rate.is_finite(), "{rate} bytes per second");
        }
    }
}
