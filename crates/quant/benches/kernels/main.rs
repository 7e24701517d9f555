//! What the kernels reach of what this machine allows.
//!
//! `cargo bench -p realm-quant -- [--format Q4_0,Q4_K] [--layout packed] [--n 1,512]
//! [--threads 1,2] [--json FILE]`; without options all cells of the common formats, in
//! some minutes; `--format all` takes every format. One cell takes a second or two.
//!
//! A row says what share of the roofline was reached: the rate at which the same program
//! read memory a moment before, which on shared machines changes from minute to minute, or
//! the rate at which it multiplied registers with the instructions of the kernel,
//! whichever allows less. Figures are medians, in brackets the
//! p90. Weights are read from a gigabyte in turn, so that `n` = 1 reads memory as decoding
//! does; `n` counts the tokens that share the weights. Kernels are called as the CPU
//! backend calls them: for some rows and tokens at a time. Activations are quantised
//! beforehand. Layouts: `mapped` is GGUF's own, `packed` has rows interleaved.
//! `REALM_CPU_FEATURES` chooses other kernels.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

mod limits;
mod sampling;

use std::collections::HashMap;
use std::hint::black_box;
use std::num::NonZero;
use std::sync::Mutex;

use realm_gguf::TensorType;
use realm_quant::{ActivationForm, Activations, Format, Kernel, Level};
use serde_json::{Value, json};

/// Values of a row: the width of a model of 1.1e9 parameters.
const COLS: usize = 2048;
/// Rows of weights and tokens of a call.
const ROWS_PER_CALL: usize = 128;
const TOKENS_PER_CALL: usize = 128;
/// Weights used in turn, in large pages.
const WEIGHT_BYTES: usize = 1 << 30;

const FORMATS: &str = "Q4_0,Q8_0,Q4_K,Q5_K,Q6_K,IQ4_NL,IQ4_XS,MXFP4,F16,BF16,F32";
const LAYOUTS: [&str; 2] = ["mapped", "packed"];
const TOKENS: &str = "1,2,4,8,16,64,512";

fn main() {
    let options = Options::read();
    let mut memory = memmap2::MmapMut::map_anon(WEIGHT_BYTES).expect("a gigabyte of memory");
    #[cfg(target_os = "linux")]
    // Without large pages reading is slower, for all alike.
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory.fill(1);

    let mut limits = Limits::default();
    let mut cells = Vec::new();
    for format in &options.formats {
        fill(format.ty, &mut memory);
        for (layout, kernel) in kernels(format, &options) {
            for n_threads in &options.threads {
                for n in &options.tokens {
                    let cell = Cell { format, layout, kernel, n_threads: *n_threads, n: *n };
                    cells.push(cell.measure(&memory, &mut limits));
                }
            }
        }
    }
    if let Some(file) = &options.json {
        let record = json!({ "peaks": limits.peaks_to_json(), "cells": cells });
        std::fs::write(file, format!("{record:#}\n")).expect("the file can be written");
    }
}

/// What to measure.
struct Options {
    formats: Vec<&'static Format>,
    layouts: Vec<String>,
    tokens: Vec<usize>,
    threads: Vec<usize>,
    json: Option<String>,
}

impl Options {
    fn read() -> Self {
        // Cargo adds `--bench`.
        let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
        let mut given: HashMap<&str, &str> = HashMap::new();
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { panic!("{} wants a value", pair[0]) };
            let known = ["--format", "--layout", "--n", "--threads", "--json"];
            assert!(known.contains(&name.as_str()), "{name}: expected one of {known:?}");
            given.insert(name, value);
        }
        let list = |name: &str, default: &str| -> Vec<String> {
            given.get(name).unwrap_or(&default).split(',').map(str::to_owned).collect()
        };
        let numbers = |name: &str, default: &str| -> Vec<usize> {
            let number = |text: &String| -> NonZero<usize> {
                text.parse().unwrap_or_else(|error| panic!("{name} {text}: {error}"))
            };
            list(name, default).iter().map(number).map(usize::from).collect()
        };
        let names = list("--format", FORMATS);
        let is_wanted =
            |ty: &TensorType| names.iter().any(|name| name == ty.name() || name == "all");
        let formats: Vec<_> =
            realm_quant::supported().filter(is_wanted).filter_map(realm_quant::format).collect();
        assert!(!formats.is_empty(), "--format {names:?}: no such format");
        let all_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if all_cores > 1 { format!("1,{all_cores}") } else { "1".to_owned() };
        Self {
            formats,
            layouts: list("--layout", &LAYOUTS.join(",")),
            tokens: numbers("--n", TOKENS),
            threads: numbers("--threads", &threads),
            json: given.get("--json").map(|file| (*file).to_owned()),
        }
    }
}

/// The kernels that would be chosen, by layout.
fn kernels(
    format: &'static Format,
    options: &Options,
) -> impl Iterator<Item = (&'static str, &'static Kernel)> {
    LAYOUTS
        .into_iter()
        .zip([Some(format.kernel(Level::best())), format.packed_kernel(Level::best())])
        .filter(|(layout, _)| options.layouts.iter().any(|wanted| wanted == layout))
        .filter_map(|(layout, kernel)| Some((layout, kernel?)))
}

/// One row of the table.
struct Cell<'a> {
    format: &'a Format,
    layout: &'static str,
    kernel: &'static Kernel,
    n_threads: usize,
    /// Tokens that share the weights.
    n: usize,
}

impl Cell<'_> {
    /// Measures, prints and returns the cell.
    fn measure(&self, memory: &[u8], limits: &mut Limits) -> Value {
        let &Cell { format, layout, kernel, n_threads, n } = self;
        let peak = limits.multiply(kernel.name, format.activation, n_threads);
        let read = limits.read(memory, n_threads);
        let panel_bytes = ROWS_PER_CALL * COLS / format.ty.block_len() * format.ty.block_bytes();
        let per_thread = memory.len() / n_threads;
        let x = activations(format.activation, n);
        let output = || Mutex::new(vec![0.0; ROWS_PER_CALL * n.min(TOKENS_PER_CALL)]);
        let outputs: Vec<_> = (0..n_threads).map(|_| output()).collect();
        let rates = sampling::rates(n_threads, |thread, first, units| {
            let mut out = outputs[thread].lock().expect("each thread locks its own");
            let own = &memory[thread * per_thread..][..per_thread];
            for index in first..first + units {
                multiply(kernel, piece(own, panel_bytes, index), &x, &mut out);
            }
        });

        let name = format!("{:<7} {layout} {n_threads} threads n={n:<4}", format.ty.name());
        let mut cell = json!({
            "format": format.ty.name(),
            "layout": layout,
            "kernel": kernel.name,
            "threads": n_threads,
            "n": n,
        });
        let Some(rates) = rates else {
            println!("{name} {:<10} every chunk was interrupted", kernel.name);
            return cell;
        };
        let operations = (2 * ROWS_PER_CALL * COLS * n) as f64;
        // Panels per second that memory and the instructions allow.
        let by_memory = read.map(|read| read / panel_bytes as f64);
        let by_peak = peak.map(|peak| peak / operations);
        let allowed = [by_memory, by_peak].into_iter().flatten().reduce(f64::min);
        let bound = if by_peak.is_some() && allowed == by_peak { "peak" } else { "memory" };
        let percent = allowed.map(|allowed| 100.0 * rates.median() / allowed);
        let (bytes, median, p90) = (panel_bytes as f64, rates.median(), rates.p90());
        println!(
            "{name} {:<10} {:>6} ({:>6}) GB/s {:>7} ({:>7}) GOPS {:>4} % of {bound:<6} \
             (memory {} GB/s; {} chunks, {} interrupted)",
            kernel.name,
            giga(Some(median * bytes)),
            giga(Some(p90 * bytes)),
            giga(Some(median * operations)),
            giga(Some(p90 * operations)),
            percent.map_or("-".to_owned(), |percent| format!("{percent:.0}")),
            giga(read),
            rates.n_chunks(),
            rates.n_interrupted,
        );
        let more = json!({
            "gbPerSecond": rounded(median * bytes / 1e9),
            "gbPerSecondP90": rounded(p90 * bytes / 1e9),
            "gops": rounded(median * operations / 1e9),
            "gopsP90": rounded(p90 * operations / 1e9),
            "percent": percent.map(rounded),
            "bound": bound,
            "memoryGbPerSecond": read.map(|read| rounded(read / 1e9)),
            "chunks": rates.n_chunks(),
            "interrupted": rates.n_interrupted,
        });
        let (Value::Object(cell_fields), Value::Object(more)) = (&mut cell, more) else {
            unreachable!("both are objects");
        };
        cell_fields.extend(more);
        cell
    }
}

/// The piece of `n_bytes` at `index`, beginning again at the end of the memory.
fn piece(memory: &[u8], n_bytes: usize, index: usize) -> &[u8] {
    &memory[index % (memory.len() / n_bytes) * n_bytes..][..n_bytes]
}

fn multiply(kernel: &Kernel, panel: &[u8], x: &Activations, out: &mut [f32]) {
    for first in (0..x.rows()).step_by(TOKENS_PER_CALL) {
        let tokens = first..x.rows().min(first + TOKENS_PER_CALL);
        let out = &mut out[..ROWS_PER_CALL * tokens.len()];
        kernel.matmul(panel, ROWS_PER_CALL, COLS, x.view(tokens), out).expect("shapes agree");
        black_box(&out);
    }
}

fn activations(form: ActivationForm, n: usize) -> Activations {
    let mut x = Activations::new(Level::best());
    x.reset(form, n, COLS).expect("rows are whole blocks");
    for row in 0..n {
        let values: Vec<f32> = (0..COLS).map(|i| ((i * 7 + row) % 23) as f32 - 11.0).collect();
        x.quantize_row(row, &values).expect("rows have COLS values");
    }
    x
}

/// Arbitrary blocks, as arbitrary in any order of rows; every scale in them is finite.
fn fill(ty: TensorType, memory: &mut [u8]) {
    // Bytes below 0x3c keep the exponent of any f16 or f32 in range.
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8 % 0x3c;
    let mut blocks: Vec<u8> = (0..ty.block_bytes() << 12).map(byte).collect();
    if ty == TensorType::MXFP4 {
        // Any byte may be an exponent. Powers of two near 1: numbers that are not normal would
        // be slow.
        blocks.iter_mut().for_each(|byte| *byte |= 0x70);
    }
    for part in memory.chunks_mut(blocks.len()) {
        part.copy_from_slice(&blocks[..part.len()]);
    }
}

/// What has been measured of the machine so far.
#[derive(Default)]
struct Limits {
    /// By threads.
    reader: HashMap<usize, limits::Reader>,
    /// Operations per second, by kernel, float or not, and threads.
    multiply: HashMap<(&'static str, bool, usize), Option<f64>>,
}

impl Limits {
    /// Bytes per second, measured now.
    fn read(&mut self, memory: &[u8], n_threads: usize) -> Option<f64> {
        let reader = self
            .reader
            .entry(n_threads)
            .or_insert_with(|| limits::fastest_reader(memory, n_threads));
        limits::read(memory, n_threads, *reader)
    }

    /// Operations per second, the most that has been measured so far: for seconds at a time the
    /// threads of a virtual machine may share one core's units.
    fn multiply(
        &mut self,
        kernel: &'static str,
        form: ActivationForm,
        n_threads: usize,
    ) -> Option<f64> {
        let key = (kernel, form == ActivationForm::F32, n_threads);
        let now = limits::multiply(kernel, form, n_threads);
        let peak = self.multiply.entry(key).or_insert(None);
        if now > *peak {
            *peak = now;
            let what = if key.1 { "floats" } else { "int8" };
            println!("{n_threads} threads multiply {what} at {} GOPS ({kernel})", giga(now));
        }
        *peak
    }

    fn peaks_to_json(&self) -> Value {
        let multiply = self.multiply.iter().map(|((kernel, is_float, threads), rate)| {
            json!({
                "kernel": kernel,
                "numbers": if *is_float { "f32" } else { "int8" },
                "threads": threads,
                "gops": rate.map(|rate| rounded(rate / 1e9)),
            })
        });
        multiply.collect()
    }
}

fn giga(rate: Option<f64>) -> String {
    rate.map_or("?".to_owned(), |rate| format!("{:.1}", rate / 1e9))
}

/// Three digits behind the point at most.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
