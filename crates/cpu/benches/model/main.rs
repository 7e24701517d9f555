//! Prompt and decode rates of a whole model on the CPU backend alone:
//!
//! `cargo bench -p realm-cpu --bench model -- FILE [--threads N] [--prompt N] [--decode N]
//! [--packed] [--spans]`
//!
//! Prints tokens per second, and for decoding the weights read per second. With `--spans`
//! also the smallest time of any round in each kind of work, per prompt and per token.
//!
//! With `--target wasm32-wasip1`, RUSTFLAGS for its SIMD and `scripts/wasi.mjs` as the target's
//! runner (see `scripts/wasm-tests.mjs`) it measures the kernels of WebAssembly.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod spans;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_ir::{
    Backend, BatchView, KvLayout, KvType, SequenceView, Session, SessionConfig, WeightLayout,
};

/// Rows of one batch when reading the prompt.
const BATCH_ROWS: usize = 512;
const PAGE_TOKENS: usize = 32;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(file) = arguments.first().filter(|a| !a.starts_with("--")) else {
        // `cargo bench` without a file runs every bench of the crate.
        println!("model: name a GGUF file to measure");
        return;
    };
    let option = |name: &str, default: usize| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (n_prompt, n_decode) = (option("--prompt", 512), option("--decode", 64));
    let backend =
        CpuBackend::new(CpuOptions { threads: Some(option("--threads", 2)), ..Default::default() })
            .expect("the threads start");

    #[cfg(not(target_family = "wasm"))]
    if let Some(rate) = realm_cpu::read_bandwidth(Some(backend.threads())) {
        println!("memory is read at {:.1} GB/s", rate / 1e9);
    }
    let started = Instant::now();
    let gguf = open(file);
    let n_positions = n_prompt + n_decode;
    let plan = realm_model::build(&gguf, n_positions).expect("a supported model");
    let weights = plan.program.weights.iter().map(|w| backend.upload(w).expect("a weight"));
    let weights = weights.collect();
    let program = Arc::new(plan.program);
    let pages: Vec<u32> = (0..n_positions.div_ceil(PAGE_TOKENS) as u32).collect();
    let kv = KvLayout {
        layers: plan.kv_layers,
        page_tokens: PAGE_TOKENS,
        n_pages: pages.len(),
        ty: KvType::F16,
    };
    let layout = match arguments.iter().any(|a| a == "--packed") {
        true => WeightLayout::Packed,
        false => WeightLayout::Mapped,
    };
    let config = SessionConfig {
        kv,
        states: Default::default(),
        max_rows: BATCH_ROWS,
        max_outputs: 1,
        layout,
    };
    let mut session = backend.session(Arc::clone(&program), weights, config).expect("a session");
    println!("load {:.1} ms", started.elapsed().as_secs_f64() * 1e3);

    let segments = 0..program.segments.len();
    let n_vocab = plan.config.n_vocab as u32;
    let run = |session: &mut dyn Session, first: usize, n: usize| {
        let tokens: Vec<u32> = (first..first + n).map(|i| i as u32 * 7919 % n_vocab).collect();
        let positions: Vec<u32> = (first..first + n).map(|i| i as u32).collect();
        let batch = BatchView {
            tokens: &tokens,
            positions: &positions,
            sequences: &[SequenceView {
                first_row: 0,
                n_rows: n,
                pages: &pages,
                state: 0,
                adapters: &[],
            }],
            output_rows: &[n as u32 - 1],
            interrupt: None,
        };
        session.run(segments.clone(), &batch).expect("a batch");
    };
    let spans = spans::Spans::default();
    let _default = arguments
        .iter()
        .any(|a| a == "--spans")
        .then(|| tracing::subscriber::set_default(spans.clone()));
    let (mut of_prompt, mut of_decode) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..option("--rounds", 3) {
        spans.take();
        let started = Instant::now();
        for first in (0..n_prompt).step_by(BATCH_ROWS) {
            run(&mut *session, first, BATCH_ROWS.min(n_prompt - first));
        }
        let prompt = n_prompt as f64 / started.elapsed().as_secs_f64();
        keep_smallest(&mut of_prompt, spans.take(), 1);
        let started = Instant::now();
        (n_prompt..n_positions).for_each(|position| run(&mut *session, position, 1));
        let decode = n_decode as f64 / started.elapsed().as_secs_f64();
        keep_smallest(&mut of_decode, spans.take(), n_decode as u32);
        let read = decode * gguf.file_bytes() as f64 / 1e9;
        println!("prompt {prompt:.1} tok/s, decode {decode:.2} tok/s ({read:.1} GB/s of weights)");
    }
    for (what, times) in [("prompt", of_prompt), ("token", of_decode)] {
        let all: Duration = times.values().sum();
        for (name, time) in times {
            let percent = 100.0 * time.as_secs_f64() / all.as_secs_f64();
            println!("{what} {name:12} {:10.1} us {percent:6.2} %", time.as_secs_f64() * 1e6);
        }
    }
}

/// The file, read where nothing is mapped.
fn open(path: &str) -> Gguf {
    #[cfg(target_family = "wasm")]
    return Gguf::from_bytes(std::fs::read(path).expect("a file")).expect("a GGUF file");
    #[cfg(not(target_family = "wasm"))]
    Gguf::open(path).expect("a GGUF file")
}

type Times = BTreeMap<&'static str, Duration>;

/// Of each kind of work the smaller time, that of a round divided by its number of runs.
fn keep_smallest(smallest: &mut Times, round: Times, n_runs: u32) {
    for (name, time) in round {
        let time = time / n_runs;
        smallest.entry(name).and_modify(|least| *least = time.min(*least)).or_insert(time);
    }
}
