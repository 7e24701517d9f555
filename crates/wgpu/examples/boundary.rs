//! What the step boundary costs: one dense Q4_K layer shaped like TinyLlama's
//! (2048 wide, 32 heads, 4 KV heads, 5632 in the feed-forward part) on the CPU and
//! on a graphics card, as one prepared segment and as one call per step.
//!
//! `cargo run --release -p realm-wgpu --example boundary [-- DEVICE]`
//!
//! `DEVICE` is part of a device's name; without it the best one is used that
//! is not software, else a software one. Figures are microseconds: the least, then
//! the median.

#![allow(clippy::print_stdout, reason = "a program that reports to a terminal")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::TensorType;
use realm_ir::{Add, Backend, Program, Result, Session, Slot, Step};
use realm_testkit::program::{Call, Decoder, Model, Size};
use realm_wgpu::{WgpuBackend, WgpuOptions, devices};

const TINY_STEPS: usize = 64;

fn main() -> Result<()> {
    let layer = layer();
    let cpu = CpuBackend::new(CpuOptions::default())?;
    println!("cpu, {} threads", cpu.threads());
    report(&cpu, &layer)?;

    let gpu = open_device(std::env::args().nth(1))?;
    let device = gpu.device();
    println!("\nwgpu, {} ({} {})", device.name, device.api, device.driver);
    report(&gpu, &layer)?;
    report_counts(&gpu, &layer)
}

fn open_device(wanted: Option<String>) -> Result<WgpuBackend> {
    let found = pollster::block_on(devices());
    let best = found.iter().min_by_key(|device| device.software);
    let device = wanted.or(best.map(|device| device.name.clone()));
    WgpuBackend::new(WgpuOptions { device, ..WgpuOptions::default() })
}

/// A model of one layer; only segment 1 is run.
fn layer() -> Model {
    Decoder {
        n_layers: 1,
        width: 2048,
        n_heads: 32,
        n_kv_heads: 4,
        key_width: 64,
        value_width: 64,
        rope_dims: 64,
        ff_width: 5632,
        ty: TensorType::Q4_K,
        embedding_ty: TensorType::Q4_K,
        ..Decoder::default()
    }
    .build()
}

/// The same program with `steps` after its embedding, a segment each.
fn step_by_step(model: &Model, steps: &[Step]) -> Model {
    let embedding = model.program.segments[0].clone();
    let segments = steps.iter().map(|step| vec![step.clone()]);
    let segments = [embedding].into_iter().chain(segments).collect();
    let program = Program { segments, ..(*model.program).clone() };
    Model { program: Arc::new(program), kv_layers: model.kv_layers.clone() }
}

/// Additions of 32 values: next to no arithmetic, so that what is left is overhead.
fn tiny_steps() -> Model {
    let model = Decoder { n_layers: 0, width: 32, ..Decoder::default() }.build();
    let hidden = model.program.hidden;
    // The slot that norms would write to: any of the same shape does.
    let add = Add { a: hidden, b: Slot(hidden.0 + 1), out: hidden, a_scale: 1.0, scale: 1.0 };
    step_by_step(&model, &vec![Step::Add(add); TINY_STEPS])
}

fn report(backend: &dyn Backend, layer: &Model) -> Result<()> {
    let steps = &layer.program.segments[1];
    let apart = step_by_step(layer, steps);
    let n_steps = steps.len();
    let tiny = tiny_steps();
    let start = Instant::now();
    drop(layer.open(backend, Size::default())?);
    println!("  uploading the weights and opening a session: {} ms", start.elapsed().as_millis());
    for (rows, rounds) in [(1, 30), (8, 8)] {
        let tokens = vec![1; rows];
        let call = Call::one(&tokens, 32, &[3, 9, 1]);
        println!("  layer, {rows} rows at position 32");
        measure("one call", backend, layer, &call, rounds, &Plan::Together(1..2))?;
        measure("a call per step", backend, &apart, &call, rounds, &Plan::Apart(n_steps, false))?;
        measure(
            "  and wait for each",
            backend,
            &apart,
            &call,
            rounds,
            &Plan::Apart(n_steps, true),
        )?;
    }
    let call = Call::one(&[1], 0, &[0]);
    println!("  {TINY_STEPS} additions of 32 values");
    measure("no steps", backend, &tiny, &call, 300, &Plan::Together(0..0))?;
    measure("one call", backend, &tiny, &call, 300, &Plan::Together(1..1 + TINY_STEPS))?;
    measure("a call per step", backend, &tiny, &call, 100, &Plan::Apart(TINY_STEPS, false))?;
    measure("  and wait for each", backend, &tiny, &call, 100, &Plan::Apart(TINY_STEPS, true))
}

/// How to run a program.
enum Plan {
    /// Segments in one call.
    Together(std::ops::Range<usize>),
    /// So many segments from 1 on, a call each; whether to wait for each.
    Apart(usize, bool),
}

/// Times the calls themselves (on a GPU: encode and submit) and the wait for the
/// first row of the result after them.
fn measure(
    what: &str,
    backend: &dyn Backend,
    model: &Model,
    call: &Call,
    rounds: usize,
    plan: &Plan,
) -> Result<()> {
    let size = Size { page_tokens: 16, n_pages: 16, ..Size::default() };
    let mut session = model.open(backend, size)?;
    let mut first_row = vec![0.0; model.program.width(model.program.hidden)];
    session.write(model.program.hidden, &vec![0.5; first_row.len() * call.n_rows()])?;
    let (mut calls, mut waits) = (Vec::new(), Vec::new());
    for _ in 0..rounds + 2 {
        let start = Instant::now();
        match plan {
            Plan::Together(segments) => call.run(&mut *session, segments.clone())?,
            Plan::Apart(n, wait_for_each) => {
                for segment in 1..=*n {
                    call.run(&mut *session, segment..segment + 1)?;
                    if *wait_for_each {
                        wait(&mut *session, model, &mut first_row)?;
                    }
                }
            }
        }
        calls.push(start.elapsed());
        let start = Instant::now();
        wait(&mut *session, model, &mut first_row)?;
        waits.push(start.elapsed());
    }
    // The first rounds warm up.
    let [(call_min, call_median), (wait_min, wait_median)] =
        [&mut calls, &mut waits].map(|times| min_and_median(&mut times[2..]));
    println!(
        "    {what:<20} calls {call_min:>8} {call_median:>8}   then wait {wait_min:>8} {wait_median:>8}"
    );
    Ok(())
}

fn wait(session: &mut dyn Session, model: &Model, row: &mut [f32]) -> Result<()> {
    pollster::block_on(session.read(model.program.hidden, 0..1, row))
}

fn min_and_median(times: &mut [Duration]) -> (u128, u128) {
    times.sort_unstable();
    (times[0].as_micros(), times[times.len() / 2].as_micros())
}

/// What one call of the layer does on a device.
fn report_counts(backend: &WgpuBackend, layer: &Model) -> Result<()> {
    let before = backend.counters();
    let mut session = layer.open(backend, Size { page_tokens: 16, ..Size::default() })?;
    let weight_bytes = backend.counters().weight_bytes - before.weight_bytes;
    for rows in [1, 8] {
        let before = backend.counters();
        Call::one(&vec![1; rows], 32, &[3, 9, 1]).run(&mut *session, 1..2)?;
        let after = backend.counters();
        println!(
            "  layer, {rows} rows: {} steps, {} dispatches, {} submission, {} bytes of batch, \
             {weight_bytes} bytes of weights uploaded once",
            layer.program.segments[1].len(),
            after.dispatches - before.dispatches,
            after.submissions - before.submissions,
            after.batch_bytes - before.batch_bytes,
        );
    }
    Ok(())
}
