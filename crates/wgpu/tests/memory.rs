//! What is planned of memory beside the buffers that are made.

#![expect(clippy::print_stdout, reason = "how close a plan is, is worth reading")]

mod common;

use std::sync::Arc;

use realm_gguf::{Gguf, TensorType};
use realm_ir::{
    Backend, BatchView, KvLayout, KvType, Program, SequenceView, Session, SessionConfig,
    StateLayout, WeightLayout,
};
use realm_testkit::families;
use realm_testkit::program::Decoder;
use realm_wgpu::{Arithmetic, Tuning, WgpuBackend};

use common::{open, open_with};

const PAGE_TOKENS: usize = 32;

fn config(layers: Vec<realm_ir::KvLayer>, widths: Vec<usize>, ty: KvType) -> SessionConfig {
    SessionConfig {
        kv: KvLayout { layers, page_tokens: PAGE_TOKENS, n_pages: 64, ty },
        states: StateLayout { widths, n_states: 16 },
        max_rows: 512,
        max_outputs: 64,
        layout: WeightLayout::Mapped,
    }
}

/// What is planned, and the bytes of the buffers that are made until logits have been read.
fn compare(backend: &WgpuBackend, program: &Arc<Program>, config: &SessionConfig) -> (u64, u64) {
    let planned = backend.memory(program, config).unwrap();
    let before = backend.counters().buffer_bytes;
    let mut weights = Vec::new();
    for together in program.weights_together() {
        let tensors: Vec<_> = together.iter().map(|weight| program.weight(*weight)).collect();
        weights.extend(together.into_iter().zip(backend.upload_together(&tensors).unwrap()));
    }
    weights.sort_by_key(|(weight, _)| weight.0);
    let weights = weights.into_iter().map(|(_, weight)| weight).collect();
    let mut session = backend.session(program.clone(), weights, config.clone()).unwrap();
    read_all(program, config, &mut *session);
    (planned.total(), backend.counters().buffer_bytes - before)
}

/// Runs a batch with as many results as there can be, and reads them.
fn read_all(program: &Program, config: &SessionConfig, session: &mut dyn Session) {
    let n_rows = config.max_outputs;
    let positions: Vec<u32> = (0..n_rows as u32).collect();
    let sequence = SequenceView { first_row: 0, n_rows, pages: &[0, 1], state: 0, adapters: &[] };
    let batch = BatchView {
        tokens: &vec![1; n_rows],
        positions: &positions,
        sequences: &[sequence],
        output_rows: &positions,
        interrupt: None,
    };
    session.run(0..program.segments.len(), &batch).unwrap();
    let mut logits = vec![0.0; n_rows * program.width(program.logits)];
    pollster::block_on(session.read(program.logits, 0..n_rows, &mut logits)).unwrap();
}

#[track_caller]
fn assert_planned(
    what: &str,
    backend: &WgpuBackend,
    program: &Arc<Program>,
    config: &SessionConfig,
) {
    // Known answers are asked once per kernel and device.
    compare(backend, program, config);
    let (planned, made) = compare(backend, program, config);
    let share = planned as f64 / made as f64;
    println!("{what}: {planned} bytes planned, {made} made: {:+.2} %", 100.0 * (share - 1.0));
    assert!((0.95..=1.05).contains(&share), "{what}: {planned} planned, {made} made");
}

#[test]
fn weights_cache_and_slots_of_a_decoder_are_planned_as_they_are_made() {
    let (large, small) = (open(None), open(Some(1 << 20)));
    for (ty, kv_type) in [(TensorType::Q4_K, KvType::F16), (TensorType::F16, KvType::F32)] {
        let shape = Decoder { ty, width: 512, ff_width: 1280, n_vocab: 640, ..Decoder::default() };
        let model = shape.build();
        let config = config(model.kv_layers.clone(), Vec::new(), kv_type);
        assert_planned(&format!("{ty}"), &large, &model.program, &config);
        // In several parts, where nothing else is as large as a part.
        let few = SessionConfig { max_rows: 32, max_outputs: 32, ..config };
        assert_planned(&format!("{ty} in parts"), &small, &model.program, &few);
    }
}

#[test]
fn inputs_in_int8_are_planned_where_products_take_them() {
    let tuning = Tuning { vector: Arithmetic::Int8, matrix: Arithmetic::Int8, subgroups: false };
    let backend = open_with(tuning);
    let shape = Decoder { ty: TensorType::Q8_0, width: 512, ff_width: 1280, ..Decoder::default() };
    let model = shape.build();
    let config = config(model.kv_layers.clone(), Vec::new(), KvType::F32);
    assert_planned("int8", &backend, &model.program, &config);
}

#[test]
fn experts_states_latents_and_streams_are_planned_as_they_are_made() {
    let backend = open(None);
    for name in ["qwen3moe", "mamba", "qwen35", "deepseek2.lite-joint", "gemma3n"] {
        let (program, config) = plan(name);
        assert_planned(name, &backend, &program, &config);
    }
}

/// The program of a family, and a session with a cache of f32.
fn plan(name: &str) -> (Arc<Program>, SessionConfig) {
    let all = families::all().into_iter();
    let file = match all.into_iter().find(|family| family.name() == name) {
        Some(family) => family.file(),
        None => realm_testkit::gemma3n::file(),
    };
    let gguf = Gguf::from_bytes(file).unwrap();
    let plan = realm_model::build(&gguf, 64 * PAGE_TOKENS).unwrap();
    let config = config(plan.kv_layers, plan.state_widths, KvType::F32);
    (Arc::new(plan.program), config)
}

#[test]
fn what_the_device_cannot_keep_is_refused_before_anything_is_uploaded() {
    let backend = open(Some(1 << 20));
    let model = Decoder::default().build();
    let config = config(model.kv_layers.clone(), Vec::new(), KvType::F32);
    let before = backend.counters();
    let many = SessionConfig { max_rows: 1 << 14, ..config.clone() };
    let error = backend.memory(&model.program, &many).unwrap_err().to_string();
    assert!(
        error.contains("activations of") && error.contains("this device has 1048576 at most"),
        "{error}"
    );
    // What lies between the products of experts: two of 64 values for every row.
    let mut experts = plan("qwen3moe");
    experts.1.kv.ty = KvType::F16;
    let narrow = open(Some(200_000));
    let error = narrow.memory(&experts.0, &experts.1).unwrap_err().to_string();
    let expected = "results of experts of 262144 bytes in one buffer (this device has 200000";
    assert!(error.contains(expected) && error.contains("lower the rows of a batch"), "{error}");
    // One head is what latent attention has.
    let mut latent = plan("deepseek2.lite-joint");
    (latent.1.max_rows, latent.1.max_outputs) = (64, 64);
    let error = narrow.memory(&latent.0, &latent.1).unwrap_err().to_string();
    assert!(error.contains("one head of a KV cache of 2048 positions"), "{error}");
    assert_eq!(narrow.counters().weight_bytes, 0);
    let mut limits = backend.limits();
    let q8_0 = SessionConfig { kv: KvLayout { ty: KvType::Q8_0, ..config.kv.clone() }, ..config };
    let error = limits.check(backend.name(), &q8_0).unwrap_err().to_string();
    assert!(error.contains("KV cache of q8_0 (there are: f32, f16)"), "{error}");
    limits.most_head_width = 16;
    assert!(limits.check(backend.name(), &many).is_err());
    assert_eq!(backend.counters(), before);
}
