//! Timing short pieces of work on a machine that is never quite idle.
//!
//! Work is cut into chunks of about two milliseconds that all threads begin together. A
//! chunk counts only if none of them was interrupted in it, which shows as time on the
//! clock that the thread did not run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CHUNK: Duration = Duration::from_millis(2);
/// Most that the clock may show over the time that the thread ran.
const INTERRUPTED: f64 = 1.03;
/// Chunks that count are taken until there are so many, or the time is up.
const ENOUGH_CHUNKS: usize = 64;
const TIME_LIMIT: Duration = Duration::from_millis(1500);
/// Rounds of a waiting loop before the core is offered to others.
const SPINS: usize = 10_000;

/// What the chunks that count have shown.
pub struct Rates {
    /// Units per second of all threads together, slowest first; never empty.
    sorted: Vec<f64>,
    /// Chunks in which a thread was interrupted.
    pub n_interrupted: usize,
}

impl Rates {
    pub fn median(&self) -> f64 {
        self.sorted[self.sorted.len() / 2]
    }

    /// A tenth of the chunks were faster.
    pub fn p90(&self) -> f64 {
        self.sorted[self.sorted.len() * 9 / 10]
    }

    pub fn n_chunks(&self) -> usize {
        self.sorted.len()
    }
}

/// Units of work per second on `n_threads` threads that work at the same time.
///
/// `work(thread, first, n)` does the thread's units `first..first + n`; they go on counting
/// from chunk to chunk. `None` when every chunk was interrupted.
pub fn rates(n_threads: usize, work: impl Fn(usize, usize, usize) + Sync) -> Option<Rates> {
    let barrier = Barrier::new(n_threads);
    let units = AtomicUsize::new(1);
    let done = AtomicBool::new(false);
    let running = |thread: usize, first: usize| {
        barrier.wait();
        let chunk = Stopwatch::start();
        work(thread, first, units.load(Ordering::Relaxed));
        chunk.stop()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads)
            .map(|thread| {
                let (running, barrier, done, units) = (&running, &barrier, &done, &units);
                scope.spawn(move || {
                    let mut chunks = Vec::new();
                    let mut first = 0;
                    while !done.load(Ordering::Relaxed) {
                        let n = units.load(Ordering::Relaxed);
                        chunks.push(running(thread, first));
                        first += n;
                        barrier.wait(); // the caller decides how to go on
                        barrier.wait();
                    }
                    chunks
                })
            })
            .collect();

        let mut chunks = Vec::new();
        let mut counts = Vec::new();
        let began = Instant::now();
        let mut first = 0;
        let mut n_whole = 0;
        while !done.load(Ordering::Relaxed) {
            let n = units.load(Ordering::Relaxed);
            let chunk = running(0, first);
            barrier.wait();
            first += n;
            chunks.push(chunk);
            counts.push(n);
            n_whole += usize::from(chunk.is_whole() && chunk.wall >= CHUNK / 2);
            if chunk.wall < CHUNK / 2 {
                let more = CHUNK.as_secs_f64() / chunk.wall.as_secs_f64().max(1e-7);
                units.store((n as f64 * more.min(64.0)).ceil() as usize, Ordering::Relaxed);
            }
            let is_enough = n_whole >= ENOUGH_CHUNKS || began.elapsed() >= TIME_LIMIT;
            done.store(is_enough, Ordering::Relaxed);
            barrier.wait();
        }
        let mut all = vec![chunks];
        all.extend(others.into_iter().map(|other| other.join().expect("the work does not panic")));
        summarise(&counts, &all)
    })
}

/// `threads[t][i]` is chunk `i` of thread `t`, of `counts[i]` units.
fn summarise(counts: &[usize], threads: &[Vec<Chunk>]) -> Option<Rates> {
    let mut sorted = Vec::new();
    let mut n_interrupted = 0;
    let longest = *counts.last()?;
    // While chunks were still growing, caches and clocks were warming up.
    for (i, n) in counts.iter().enumerate().filter(|(_, n)| **n == longest) {
        let wall = threads.iter().map(|chunks| chunks[i].wall).max()?;
        match threads.iter().all(|chunks| chunks[i].is_whole()) {
            true => sorted.push((n * threads.len()) as f64 / wall.as_secs_f64()),
            false => n_interrupted += 1,
        }
    }
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then_some(Rates { sorted, n_interrupted })
}

/// One thread's part of a chunk.
#[derive(Clone, Copy)]
struct Chunk {
    wall: Duration,
    /// Time that the thread ran; `None` where the system does not say.
    ran: Option<Duration>,
}

impl Chunk {
    fn is_whole(self) -> bool {
        self.ran.is_none_or(|ran| self.wall.as_secs_f64() <= INTERRUPTED * ran.as_secs_f64())
    }
}

struct Stopwatch {
    began: Instant,
    ran_before: Option<Duration>,
}

impl Stopwatch {
    fn start() -> Self {
        let ran_before = thread_time();
        Self { began: Instant::now(), ran_before }
    }

    fn stop(self) -> Chunk {
        let wall = self.began.elapsed();
        let ran = thread_time().zip(self.ran_before).map(|(after, before)| after - before);
        Chunk { wall, ran }
    }
}

/// How long this thread has run.
#[cfg(unix)]
fn thread_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec` to where the pointer leads.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    (status == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(not(unix))]
fn thread_time() -> Option<Duration> {
    None
}

/// Lets threads go on within a microsecond of each other, which a sleeping one would not.
struct Barrier {
    n_threads: usize,
    n_arrived: AtomicUsize,
}

impl Barrier {
    fn new(n_threads: usize) -> Self {
        Self { n_threads, n_arrived: AtomicUsize::new(0) }
    }

    fn wait(&self) {
        let mine = self.n_arrived.fetch_add(1, Ordering::AcqRel);
        let all = (mine / self.n_threads + 1) * self.n_threads;
        let mut spins = 0;
        while self.n_arrived.load(Ordering::Acquire) < all {
            spins += 1;
            match spins % SPINS {
                0 => std::thread::yield_now(),
                _ => std::hint::spin_loop(),
            }
        }
    }
}
