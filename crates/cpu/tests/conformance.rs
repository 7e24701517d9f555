//! Whole models against the reference logits of the conformance kit.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_ir::{
    Backend, BatchView, KvLayout, KvType, SequenceView, SessionConfig, StateLayout, Uploaded,
    WeightLayout,
};
use realm_model::ModelPlan;
use realm_testkit::compare::compare;
use realm_testkit::kit;
use serde_json::Value;

/// Logits of every token in one batch, `[tokens, n_vocab]`.
fn logits(plan: ModelPlan, tokens: &[u32]) -> Vec<f32> {
    let backend = CpuBackend::new(CpuOptions::default()).unwrap();
    let weights: Arc<[Uploaded]> =
        plan.program.weights.iter().map(|weight| backend.upload(weight).unwrap()).collect();
    let n = tokens.len();
    let pages: Vec<u32> = (0..n.div_ceil(16) as u32).rev().collect();
    let kv =
        KvLayout { layers: plan.kv_layers, page_tokens: 16, n_pages: pages.len(), ty: KvType::F32 };
    let program = Arc::new(plan.program);
    let config = SessionConfig {
        kv,
        states: StateLayout { widths: plan.state_widths, n_states: 1 },
        max_rows: n,
        max_outputs: n,
        layout: WeightLayout::Auto,
    };
    let mut session = backend.session(Arc::clone(&program), weights, config).unwrap();
    let positions: Vec<u32> = (0..n as u32).collect();
    let batch = BatchView {
        tokens,
        positions: &positions,
        sequences: &[SequenceView {
            first_row: 0,
            n_rows: n,
            pages: &pages,
            state: 0,
            adapters: &[],
        }],
        output_rows: &positions,
        interrupt: None,
    };
    session.run(0..program.segments.len(), &batch).unwrap();
    let mut out = vec![0.0; n * program.width(program.logits)];
    pollster::block_on(session.read(program.logits, 0..n, &mut out)).unwrap();
    out
}

/// Token ids of a case: the prompt, then the greedy continuation, one per expected row.
fn tokens(case: &Value, n_rows: usize) -> Vec<u32> {
    let file: Value =
        serde_json::from_slice(&kit::read_maybe_gz(case["tokens"].as_str().unwrap())).unwrap();
    let ids = file.get("tokens").unwrap_or(&file);
    let prompt = ids.as_array().unwrap().iter();
    let all = prompt.chain(case["greedy"].as_array().into_iter().flatten());
    all.take(n_rows).map(|id| id.as_u64().unwrap() as u32).collect()
}

fn run(case: &Value) -> Result<(Vec<f32>, Vec<f32>), realm_model::Error> {
    let gguf = Gguf::from_bytes(kit::read_maybe_gz(case["model"].as_str().unwrap()))?;
    let plan = realm_model::build(&gguf, 512)?;
    let (shape, expected) = kit::npy_f32(case["expected"].as_str().unwrap());
    Ok((logits(plan, &tokens(case, shape[0])), expected))
}

/// Runs `check` on every case of a kind.
fn each_case(kind: &str, check: impl Fn(&str, &Value, &[f32], &[f32])) {
    for case in kit::cases(kind) {
        let id = case["id"].as_str().unwrap();
        let (got, expected) = run(&case).unwrap_or_else(|error| panic!("{id}: {error}"));
        check(id, &case["tolerance"], &got, &expected);
    }
}

#[test]
fn logits_of_the_supported_families_meet_the_strict_bound() {
    each_case("logits", |id, tolerance, got, expected| {
        let bound = tolerance["f32_max_abs_vs_expected"].as_f64().unwrap();
        let off = compare(got, expected);
        assert!(f64::from(off.max_abs) <= bound, "{id}: {off}, bound {bound}");
    });
}

#[test]
fn quantised_models_are_as_close_as_the_kit_asks() {
    each_case("quant-logits", |id, tolerance, got, expected| {
        let off = compare(got, expected);
        let bound = |name: &str| tolerance[name].as_f64().unwrap();
        assert!(f64::from(off.rms) <= bound("rms_vs_expected"), "{id}: {off}, {tolerance}");
        assert!(f64::from(off.max_abs) <= bound("max_abs_vs_expected"), "{id}: {off}, {tolerance}");
    });
}
