//! Rates of models that answer at the same time on one pool of threads, beside their rates alone:
//!
//! `cargo bench -p realm-cpu --bench sharing -- MODEL MODEL... [--threads N] [--seconds N]
//! [--rounds N] [--pause MICROSECONDS]`
//!
//! A MODEL is a GGUF file. It generates token by token, with a pause after each as long as
//! choosing it takes; with `@prompt` behind its name it reads prompts of 256 tokens instead. In each round every model
//! runs alone, then all together; what is printed is the median of the rounds, in tokens
//! per second.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_ir::{Backend, KvType, Session};
use realm_testkit::program::{Call, Model, Size};

const PAGE_TOKENS: usize = 32;
const N_PAGES: usize = 16;
/// Positions that are generated before the sequence begins anew.
const N_POSITIONS: u32 = 256;

/// A model and what it is to do.
struct Load {
    name: String,
    model: Model,
    session: Box<dyn Session>,
    /// Tokens of one call.
    n_rows: usize,
    position: u32,
    pause: Duration,
}

impl Load {
    fn new(name: &str, backend: &dyn Backend, pause: Duration) -> Self {
        let (source, n_rows) = match name.strip_suffix("@prompt") {
            Some(source) => (source, N_POSITIONS as usize),
            None => (name, 1),
        };
        let model = of_file(source);
        let size = Size {
            page_tokens: PAGE_TOKENS,
            n_pages: N_PAGES,
            kv_type: KvType::F16,
            max_rows: n_rows,
            ..Size::default()
        };
        let size = Size { max_outputs: n_rows, ..size };
        let session = model.open(backend, size).expect("a session");
        Load { name: name.to_owned(), model, session, n_rows, position: 0, pause }
    }

    /// Tokens per second over some time.
    fn rate(&mut self, time: Duration) -> f64 {
        let pages: Vec<u32> = (0..N_PAGES as u32).collect();
        let began = Instant::now();
        let mut n_tokens = 0;
        while began.elapsed() < time {
            let tokens = vec![1; self.n_rows];
            let call = Call::one(&tokens, self.position, &pages);
            call.run(&mut *self.session, self.model.segments()).expect("a batch");
            n_tokens += self.n_rows;
            self.position = (self.position + self.n_rows as u32) % N_POSITIONS;
            let chosen = Instant::now();
            while chosen.elapsed() < self.pause {
                std::hint::spin_loop();
            }
        }
        n_tokens as f64 / began.elapsed().as_secs_f64()
    }
}

fn of_file(path: &str) -> Model {
    let gguf = Gguf::open(path).expect("a GGUF file");
    let plan = realm_model::build(&gguf, N_POSITIONS as usize).expect("a supported model");
    Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let n_models = arguments.iter().take_while(|a| !a.starts_with("--")).count();
    if n_models == 0 {
        // `cargo bench` without arguments runs every bench of the crate.
        println!("sharing: name the models to measure");
        return;
    }
    let option = |name: &str, default: u64| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let threads = option("--threads", 2) as usize;
    let time = Duration::from_secs(option("--seconds", 2));
    let pause = Duration::from_micros(option("--pause", 30));
    let mut loads: Vec<Load> = arguments[..n_models]
        .iter()
        .map(|name| {
            let backend =
                CpuBackend::shared(CpuOptions { threads: Some(threads), ..Default::default() });
            Load::new(name, &backend.expect("the threads start"), pause)
        })
        .collect();
    let (mut alone, mut together) = (vec![vec![]; n_models], vec![vec![]; n_models]);
    for _ in 0..option("--rounds", 3) {
        for (load, rates) in loads.iter_mut().zip(&mut alone) {
            rates.push(load.rate(time));
        }
        std::thread::scope(|scope| {
            let running: Vec<_> =
                loads.iter_mut().map(|load| scope.spawn(move || load.rate(time))).collect();
            for (thread, rates) in running.into_iter().zip(&mut together) {
                rates.push(thread.join().expect("it ran"));
            }
        });
    }
    for ((load, alone), together) in loads.iter().zip(alone).zip(together) {
        let (alone, together) = (median(alone), median(together));
        let percent = 100.0 * together / alone;
        println!("{:40} alone {alone:9.1} together {together:9.1} {percent:5.1} %", load.name);
    }
}
