//! What the backend takes from the machine: memory of a mapped file, and processor time
//! when there is nothing to do. Read from Linux's own accounts.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::{Gguf, TensorType};
use realm_ir::{
    Activation, BatchView, ExpertWeights, Gating, Moe, Program, Rows, SequenceView, Slot, SlotInfo,
    Step, WeightRef,
};
use realm_testkit::gguf_writer::GgufWriter;
use realm_testkit::program::{Call, Decoder, Model, Size};
use realm_testkit::random::Random;

const WIDTH: usize = 256;
const FF_WIDTH: usize = 4096;
const N_EXPERTS: usize = 16;
const N_USED: usize = 2;
/// Of one matrix of one expert, in f16.
const MATRIX_BYTES: usize = WIDTH * FF_WIDTH * 2;

/// A file with the weights of one mixture of experts.
fn write_experts(path: &Path) {
    let router = Random::new(5).normals(WIDTH * N_EXPERTS);
    let matrices = || vec![0x2c; MATRIX_BYTES * N_EXPERTS];
    let mut file = GgufWriter::new();
    file.tensor_f32("router", &[WIDTH, N_EXPERTS], TensorType::F32, &router);
    file.tensor("up", &[WIDTH, FF_WIDTH, N_EXPERTS], TensorType::F16, matrices());
    file.tensor("down", &[FF_WIDTH, WIDTH, N_EXPERTS], TensorType::F16, matrices());
    std::fs::write(path, file.to_bytes()).unwrap();
}

fn mixture(gguf: &Gguf) -> Model {
    let step = Moe {
        input: Slot(0),
        router_input: Slot(0),
        out: Slot(1),
        accumulate: false,
        router: WeightRef(0),
        router_bias: None,
        choice_bias: None,
        gating: Gating::Softmax,
        normalize: false,
        scale: 1.0,
        n_experts: N_EXPERTS,
        n_used: N_USED,
        n_groups: 1,
        n_groups_used: 1,
        experts: ExpertWeights {
            gate: None,
            up: WeightRef(1),
            down: WeightRef(2),
            gate_bias: None,
            up_bias: None,
            down_bias: None,
            gate_scale: None,
            up_scale: None,
            down_scale: None,
        },
        activation: Activation::Silu,
        weigh_input: false,
    };
    let slot = SlotInfo { width: WIDTH, rows: Rows::Batch };
    let program = Program {
        slots: vec![slot, slot, SlotInfo { rows: Rows::Outputs, ..slot }],
        weights: ["router", "up", "down"].map(|name| gguf.require_tensor(name).unwrap()).to_vec(),
        segments: vec![vec![Step::Moe(step.into())], vec![]],
        hidden: Slot(0),
        carried: vec![],
        logits: Slot(2),
    };
    Model { program: Arc::new(program), kv_layers: vec![] }
}

/// Bytes of the mapped file that are in this process's memory.
fn resident_bytes(path: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let name = path.to_str().unwrap();
    let (mut is_ours, mut sum) = (false, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Rss:") if is_ours => sum += words.next().unwrap().parse::<usize>().unwrap(),
            Some(first) if first.contains('-') => is_ours = line.ends_with(name),
            _ => {}
        }
    }
    sum << 10
}

#[test]
fn experts_that_no_row_chooses_stay_out_of_memory() {
    let path = std::env::temp_dir().join(format!("realm-experts-{}.gguf", std::process::id()));
    write_experts(&path);
    let gguf = Gguf::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let deleted = path.with_file_name(format!("{} (deleted)", path.file_name().unwrap().display()));

    let model = mixture(&gguf);
    let backend = CpuBackend::new(CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
    let mut session = model.open(&backend, Size::default()).unwrap();
    session.write(Slot(0), &Random::new(6).normals(WIDTH)).unwrap();
    let before = resident_bytes(&deleted);
    let sequence = SequenceView { first_row: 0, n_rows: 1, pages: &[0], state: 0, adapters: &[] };
    let row = BatchView {
        tokens: &[],
        positions: &[0],
        sequences: &[sequence],
        output_rows: &[],
        interrupt: None,
    };
    session.run(0..1, &row).unwrap();

    let (used, all) = (2 * N_USED * MATRIX_BYTES, 2 * N_EXPERTS * MATRIX_BYTES);
    let after = resident_bytes(&deleted);
    assert!(before < all / 8, "{before} bytes of {all} before the first row");
    assert!(after >= used, "{after} bytes, the chosen experts have {used}");
    // What is touched brings neighbours, up to a large page of two mebibytes at either end.
    assert!(after < all / 2, "{after} bytes of {all}, the chosen experts have {used}");
}

/// Nanoseconds that the backend's own threads have run.
fn worker_time() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads
        .map(|thread| thread.unwrap().path())
        .filter(|thread| {
            let name = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
            name.starts_with("realm-cpu")
        })
        .map(|thread| {
            let times = std::fs::read_to_string(thread.join("schedstat")).unwrap();
            times.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}

#[test]
fn threads_with_nothing_to_do_do_not_run() {
    let model = Decoder::default().build();
    let backend = CpuBackend::new(CpuOptions { threads: Some(4), ..Default::default() }).unwrap();
    let mut session = model.open(&backend, Size::default()).unwrap();
    // On a busy machine a call may end before another thread has had a processor at all, and
    // it takes a while until each has come to its end of spinning.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut before = 0;
    while before == 0 {
        assert!(Instant::now() < deadline, "the threads never worked");
        Call::one(&[1, 2, 3], 0, &[0]).logits(&model, &mut *session).unwrap();
        before = worker_time();
    }
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = worker_time();
        if now == before {
            break;
        }
        assert!(Instant::now() < deadline, "they go on running: {before}, then {now} ns");
        before = now;
    }
}
