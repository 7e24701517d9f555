//! What is planned of memory beside what the operating system counts: of each model, in a process
//! of its own, every weight, page, state and row is used.

#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "what was measured is read from the output")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::{Gguf, TensorType};
use realm_ir::{
    Backend, BatchView, KvLayout, KvType, MemoryPlan, Program, SequenceView, Session,
    SessionConfig, StateLayout, WeightLayout,
};
use realm_testkit::gguf_writer::GgufWriter;
use realm_testkit::program::{Call, Decoder, Size};
use realm_testkit::random::{self, Random};

const PAGE_TOKENS: usize = 32;
const N_VOCAB: usize = 512;
const WIDTH: usize = 1024;

/// A model and a session of it, of which one part takes most of the memory.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Storage of the matrices.
    ty: TensorType,
    layers: usize,
    layer: Layer,
    layout: WeightLayout,
    kv_type: KvType,
    n_pages: usize,
    n_states: usize,
    max_rows: usize,
}

#[derive(Clone, Copy)]
enum Layer {
    Dense,
    /// Eight experts, two for each row.
    Experts,
    Mamba,
}

const DENSE: Case = Case {
    name: "mapped",
    ty: TensorType::Q8_0,
    layers: 6,
    layer: Layer::Dense,
    layout: WeightLayout::Mapped,
    kv_type: KvType::F32,
    n_pages: 16,
    n_states: 0,
    max_rows: 256,
};

const CASES: [Case; 10] = [
    DENSE,
    Case { name: "packed", layout: WeightLayout::Packed, ..DENSE },
    Case {
        name: "packed 4 bits",
        ty: TensorType::Q4_K,
        layers: 8,
        layout: WeightLayout::Packed,
        ..DENSE
    },
    Case { name: "floats", ty: TensorType::F16, layers: 3, ..DENSE },
    Case { name: "keys and values", layers: 2, n_pages: 512, ..DENSE },
    Case {
        name: "keys and values in f16",
        kv_type: KvType::F16,
        layers: 2,
        n_pages: 1024,
        ..DENSE
    },
    Case {
        name: "keys and values in q8_0",
        kv_type: KvType::Q8_0,
        layers: 2,
        n_pages: 1024,
        ..DENSE
    },
    Case { name: "activations", layers: 1, max_rows: 1024, n_pages: 32, ..DENSE },
    Case { name: "states", layer: Layer::Mamba, layers: 4, n_states: 64, ..DENSE },
    Case { name: "experts", layer: Layer::Experts, layers: 2, ty: TensorType::Q4_K, ..DENSE },
];

/// Share of what is planned that what becomes resident may be away from it.
const TOLERANCE: f64 = 0.1;

#[test]
fn what_is_planned_is_what_becomes_resident() {
    let mut off = Vec::new();
    for case in CASES {
        let path = std::env::temp_dir().join(format!(
            "realm-memory-{}-{}.gguf",
            std::process::id(),
            case.name
        ));
        std::fs::write(&path, file(&case)).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["measured_in_a_process_of_its_own", "--exact", "--ignored", "--nocapture"])
            .env("REALM_MEMORY_CASE", case.name)
            .env("REALM_MEMORY_FILE", &path)
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("measured "));
        let line = line.unwrap_or_else(|| panic!("{}: {text}{output:?}", case.name));
        let numbers: Vec<f64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
        let &[planned, resident, weights, copies, kv, states, slots] = &numbers[..] else {
            panic!("{line}")
        };
        let report = format!(
            "{}: planned {planned} MB ({weights} weights, {copies} copies, {kv} KV, {states} \
             states, {slots} slots), {resident} MB became resident: {:+.1} %",
            case.name,
            100.0 * (planned / resident - 1.0)
        );
        println!("{report}");
        if (planned - resident).abs() > TOLERANCE * resident {
            off.push(report);
        }
    }
    assert!(off.is_empty(), "{} of {} off:\n{}", off.len(), CASES.len(), off.join("\n"));
}

#[test]
#[ignore = "run by the test above, for each case"]
fn measured_in_a_process_of_its_own() {
    let name = std::env::var("REALM_MEMORY_CASE").expect("the case");
    let case = CASES.into_iter().find(|case| case.name == name).expect("a known case");
    let path = PathBuf::from(std::env::var("REALM_MEMORY_FILE").expect("the file"));
    let (memory, resident) = measure(&case, &path);
    let MemoryPlan { layout: _, weights, copies, kv, states, slots } = memory;
    let numbers = [memory.total(), resident, weights, copies, kv, states, slots];
    let megabytes = numbers.map(|bytes| format!("{:.2}", bytes as f64 / 1e6));
    println!("\nmeasured {}", megabytes.join(" "));
}

/// What is planned, and by how much the process grows.
fn measure(case: &Case, path: &Path) -> (MemoryPlan, u64) {
    let backend = CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
    // Code and stacks are there before.
    let warm = Decoder { ty: case.ty, ..Decoder::default() }.build();
    let mut session = warm.open(&backend, Size::default()).unwrap();
    Call::one(&[1, 2, 3], 0, &[0]).logits(&warm, &mut *session).unwrap();
    drop((session, warm));

    let gguf = Gguf::open(path).unwrap();
    let plan = realm_model::build(&gguf, case.n_pages * PAGE_TOKENS).unwrap();
    let program = Arc::new(plan.program);
    let config = SessionConfig {
        kv: KvLayout {
            layers: plan.kv_layers,
            page_tokens: PAGE_TOKENS,
            n_pages: case.n_pages,
            ty: case.kv_type,
        },
        states: StateLayout { widths: plan.state_widths, n_states: case.n_states },
        max_rows: case.max_rows,
        max_outputs: 32,
        layout: case.layout,
    };
    let memory = backend.memory(&program, &config).unwrap();
    assert_eq!(memory.layout, case.layout);
    let before = resident();
    let weights = program.weights.iter().map(|tensor| backend.upload(tensor).unwrap()).collect();
    let mut session = backend.session(program.clone(), weights, config).unwrap();
    // Who reads a matrix while it is copied leaves pages of the file behind.
    wait_until_settled();
    // The peak is counted from here on.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    use_everything(case, &program, &mut *session);
    let peak = peak();
    drop(session);
    (memory, peak - before)
}

/// Reads every token and weight, and writes every row, page and state.
fn use_everything(case: &Case, program: &Program, session: &mut dyn Session) {
    let n_rows = case.max_rows.min(case.n_pages * PAGE_TOKENS);
    assert_eq!(n_rows, case.max_rows, "pages for the whole batch");
    let pages: Vec<u32> = (0..case.n_pages as u32).collect();
    let positions: Vec<u32> = (0..n_rows as u32).collect();
    let output_rows: Vec<u32> = positions[n_rows - 32..].to_vec();
    let sequence = SequenceView { first_row: 0, n_rows, pages: &pages, state: 0, adapters: &[] };
    for first in (0..N_VOCAB).step_by(n_rows) {
        let tokens: Vec<u32> = (0..n_rows).map(|i| ((first + i) % N_VOCAB) as u32).collect();
        let batch = BatchView {
            tokens: &tokens,
            positions: &positions,
            sequences: &[sequence],
            output_rows: &output_rows,
            interrupt: None,
        };
        session.run(0..program.segments.len(), &batch).unwrap();
    }
    (1..case.n_pages as u32).for_each(|page| session.copy_page(0, page).unwrap());
    (1..case.n_states as u32).for_each(|state| session.copy_state(0, state).unwrap());
}

/// Bytes of this process that lie in memory.
fn resident() -> u64 {
    status("VmRSS:")
}

/// The most that there were.
fn peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Waits until the memory does not change any more: copies are made in the background.
fn wait_until_settled() {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut readings = vec![resident()];
    loop {
        assert!(Instant::now() < deadline, "still growing: {readings:?}");
        std::thread::sleep(Duration::from_millis(200));
        let now = resident();
        let is_as_before = |earlier: &u64| now.abs_diff(*earlier) <= 1 << 16;
        if readings.len() >= 5 && readings[readings.len() - 5..].iter().all(is_as_before) {
            return;
        }
        readings.push(now);
    }
}

/// The model's file, without a vocabulary.
fn file(case: &Case) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    let architecture = if matches!(case.layer, Layer::Mamba) { "mamba" } else { "llama" };
    let key = |name: &str| format!("{architecture}.{name}");
    let ff_width = 2816;
    writer.kv("general.architecture", architecture);
    let numbers = [
        ("block_count", case.layers),
        ("context_length", case.n_pages * PAGE_TOKENS),
        ("embedding_length", WIDTH),
        ("feed_forward_length", ff_width),
        ("attention.head_count", 16),
        ("attention.head_count_kv", 4),
        ("vocab_size", N_VOCAB),
    ];
    let is_mamba = architecture == "mamba";
    for (name, number) in numbers {
        let of_attention = name.starts_with("attention") || name.starts_with("feed");
        let number = if is_mamba && of_attention { 0 } else { number };
        writer.kv(&key(name), number as u32);
    }
    writer.kv(&key("attention.layer_norm_rms_epsilon"), 1e-5f32);
    writer.kv(&key("rope.freq_base"), 10_000f32);
    let mut tensors = Tensors { writer, ty: case.ty };
    tensors.matrix("token_embd", &[WIDTH, N_VOCAB]);
    tensors.matrix("output", &[WIDTH, N_VOCAB]);
    tensors.vector("output_norm.weight", &[WIDTH], 1.0);
    match case.layer {
        Layer::Mamba => tensors.mamba(case.layers),
        Layer::Dense => tensors.decoder(case.layers, &[WIDTH, ff_width], ""),
        Layer::Experts => {
            tensors.writer.kv("llama.expert_count", 8u32).kv("llama.expert_used_count", 2u32);
            tensors.decoder(case.layers, &[WIDTH, ff_width, 8], "_exps");
        }
    }
    tensors.writer.to_bytes()
}

struct Tensors {
    writer: GgufWriter,
    ty: TensorType,
}

impl Tensors {
    /// Any values: a piece of random ones, over and over.
    fn matrix(&mut self, name: &str, shape: &[usize]) {
        let piece = random::tensor(&mut Random::new(1), "piece", &[256, 67], self.ty, 0.05);
        let n_blocks = shape.iter().product::<usize>() / self.ty.block_len();
        let n_bytes = n_blocks * self.ty.block_bytes();
        let bytes = piece.bytes().iter().copied().cycle().take(n_bytes).collect();
        self.writer.tensor(&format!("{name}.weight"), shape, self.ty, bytes);
    }

    fn vector(&mut self, name: &str, shape: &[usize], value: f32) {
        let values = vec![value; shape.iter().product()];
        self.writer.tensor_f32(name, shape, TensorType::F32, &values);
    }

    fn decoder(&mut self, layers: usize, up: &[usize], suffix: &str) {
        let down: Vec<usize> = [up[1], up[0]].into_iter().chain(up[2..].iter().copied()).collect();
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            self.vector(&name("attn_norm.weight"), &[WIDTH], 1.0);
            self.vector(&name("ffn_norm.weight"), &[WIDTH], 1.0);
            for (part, rows) in
                [("q", WIDTH), ("k", WIDTH / 4), ("v", WIDTH / 4), ("output", WIDTH)]
            {
                self.matrix(&name(&format!("attn_{part}")), &[WIDTH, rows]);
            }
            if let [_, _, n_experts] = up {
                // Rows differ most where a router looks, so that all experts are chosen.
                let mut random = Random::new(layer as u64);
                let router = random.normals(WIDTH * n_experts);
                let shape = [WIDTH, *n_experts];
                self.writer.tensor_f32(
                    &name("ffn_gate_inp.weight"),
                    &shape,
                    TensorType::F32,
                    &router,
                );
            }
            self.matrix(&name(&format!("ffn_gate{suffix}")), up);
            self.matrix(&name(&format!("ffn_up{suffix}")), up);
            self.matrix(&name(&format!("ffn_down{suffix}")), &down);
        }
    }

    fn mamba(&mut self, layers: usize) {
        let (inner, state, rank, taps) = (2 * WIDTH, 64, 64, 4);
        let numbers = [
            ("conv_kernel", taps),
            ("inner_size", inner),
            ("state_size", state),
            ("time_step_rank", rank),
        ];
        for (name, number) in numbers {
            self.writer.kv(&format!("mamba.ssm.{name}"), number as u32);
        }
        for layer in 0..layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            self.vector(&name("attn_norm.weight"), &[WIDTH], 1.0);
            self.matrix(&name("ssm_in"), &[WIDTH, 2 * inner]);
            self.vector(&name("ssm_conv1d.weight"), &[taps, inner], 0.2);
            self.vector(&name("ssm_conv1d.bias"), &[inner], 0.0);
            self.matrix(&name("ssm_x"), &[inner, rank + 2 * state]);
            self.matrix(&name("ssm_dt"), &[rank, inner]);
            self.vector(&name("ssm_dt.bias"), &[inner], 0.0);
            self.vector(&name("ssm_a"), &[state, inner], -1.0);
            self.vector(&name("ssm_d"), &[inner], 1.0);
            self.matrix(&name("ssm_out"), &[inner, WIDTH]);
        }
    }
}
