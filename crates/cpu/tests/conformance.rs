//! Whole models against the reference logits of the conformance kit.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_ir::{
    Backend, BatchView, KvLayout, KvType, SequenceView, SessionConfig, StateLayout, Step, Uploaded,
    WeightLayout,
};
use realm_model::ModelPlan;
use realm_testkit::compare::compare;
use realm_testkit::kit;
use serde_json::Value;

/// Logits of every token in one batch, `[tokens, n_vocab]`.
fn logits(plan: ModelPlan, tokens: &[u32], ty: KvType) -> Vec<f32> {
    let backend = CpuBackend::new(CpuOptions::default()).unwrap();
    let weights: Arc<[Uploaded]> =
        plan.program.weights.iter().map(|weight| backend.upload(weight).unwrap()).collect();
    let n = tokens.len();
    let pages: Vec<u32> = (0..n.div_ceil(16) as u32).rev().collect();
    let kv = KvLayout { layers: plan.kv_layers, page_tokens: 16, n_pages: pages.len(), ty };
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

fn run(case: &Value, ty: KvType) -> Result<(Vec<f32>, Vec<f32>), Box<realm_model::Error>> {
    let gguf = Gguf::from_bytes(kit::read_maybe_gz(case["model"].as_str().unwrap()))?;
    let plan = realm_model::build(&gguf, 512)?;
    let (shape, expected) = kit::npy_f32(case["expected"].as_str().unwrap());
    Ok((logits(plan, &tokens(case, shape[0]), ty), expected))
}

/// Runs `check` on every case of a kind.
fn each_case(kind: &str, check: impl Fn(&str, &Value, &[f32], &[f32])) {
    for case in kit::cases(kind) {
        let id = case["id"].as_str().unwrap();
        let (got, expected) =
            run(&case, KvType::F32).unwrap_or_else(|error| panic!("{id}: {error}"));
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

/// Small errors move logits in proportion, so a cache of halves tells how far one of int8
/// moves them. Of values from a normal distribution with deviation 1, halves are off by
/// 2.0e-4 (root mean square: `2^-10 * 0.72 / sqrt(12)`, units being 0.72 of a value's 2^-10 on
/// average), int8 by 4.7e-3 (`2.07 / 127 / sqrt(12)`, the largest of 32 being 2.07 on
/// average): 23 times as far, and four times that here for values that are distributed
/// otherwise. Experts are chosen or not, in no proportion: models with them are left out.
#[test]
fn a_cache_of_int8_moves_logits_as_far_as_its_rounding_explains() {
    const RATIO: f32 = 4.0 * 23.0;
    let mut n_cases = 0;
    for case in kit::cases("logits") {
        let id = case["id"].as_str().unwrap();
        let gguf = Gguf::from_bytes(kit::read_maybe_gz(case["model"].as_str().unwrap())).unwrap();
        let steps = realm_model::build(&gguf, 512).unwrap().program.segments.concat();
        if steps.iter().any(|step| matches!(step, Step::Moe(_))) {
            continue;
        }
        let [exact, halves, bytes] =
            [KvType::F32, KvType::F16, KvType::Q8_0].map(|ty| run(&case, ty).unwrap().0);
        let (of_halves, of_bytes) = (compare(&halves, &exact).rms, compare(&bytes, &exact).rms);
        assert!(of_bytes <= RATIO * of_halves, "{id}: {of_bytes}, halves {of_halves}");
        n_cases += usize::from(of_bytes > 0.0);
    }
    assert!(n_cases > 10, "{n_cases} cases");
}
