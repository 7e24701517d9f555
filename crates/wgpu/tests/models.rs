//! Whole models: every family against the oracle, and the reference logits of the
//! conformance kit. Most of a prompt is read in one call, the rest token by token.

mod common;

use std::sync::Arc;

use realm_gguf::Gguf;
use realm_ir::{Backend, KvType};
use realm_model::{Error, build};
use realm_testkit::compare::compare;
use realm_testkit::families::{self, CONTEXT_LENGTH, Family, PROMPT};
use realm_testkit::kit;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Model, Size};
use realm_wgpu::{Arithmetic, Tuning};
use serde_json::Value;

use common::{backend, open_with};

fn model(bytes: Vec<u8>) -> Result<Model, Error> {
    let plan = build(&Gguf::from_bytes(bytes)?, CONTEXT_LENGTH as usize)?;
    Ok(Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers })
}

/// What the model gives for each token: as many in the first call as `n_first`, then one
/// by one.
fn logits(
    model: &Model,
    backend: &dyn Backend,
    kv_type: KvType,
    tokens: &[u32],
    n_first: usize,
) -> realm_ir::Result<Vec<f32>> {
    let n = tokens.len();
    let size = Size { kv_type, page_tokens: 8, max_rows: n, max_outputs: n, ..Size::default() };
    let mut session = model.open(backend, size)?;
    let pages = [3, 11, 2, 7, 0, 15, 4, 9];
    let mut logits = Call::one(&tokens[..n_first], 0, &pages).logits(model, &mut *session)?;
    for (position, token) in tokens.iter().enumerate().skip(n_first) {
        let call = Call::one(&[*token], position as u32, &pages);
        logits.extend(call.logits(model, &mut *session)?);
    }
    Ok(logits)
}

/// How the family is off, if it is.
fn fault(family: &Family) -> Option<String> {
    let is_encoder = realm_model::arch::find(family.architecture)?.is_encoder;
    // What sees later tokens has to be given all of them at once.
    let n_first = if is_encoder { PROMPT.len() } else { 9 };
    let model = match model(family.file()) {
        Ok(model) => model,
        Err(error) => return Some(error.to_string()),
    };
    let run = |backend: &dyn Backend| logits(&model, backend, KvType::F32, &PROMPT, n_first);
    let (wanted, got) = match (run(&NaiveBackend), run(backend())) {
        (Ok(wanted), Ok(got)) => (wanted, got),
        (Err(error), _) | (_, Err(error)) => return Some(error.to_string()),
    };
    let off = compare(&got, &wanted);
    let bound = 5e-5 * off.rms_wanted;
    (off.max_abs > bound).then(|| format!("{off}, allowed {bound:.1e}"))
}

#[test]
fn every_family_gives_what_the_oracle_gives() {
    let families = families::all();
    let faults_of = |families: &[Family]| -> Vec<String> {
        let line = |family: &Family| Some(format!("{}: {}", family.name(), fault(family)?));
        families.iter().filter_map(line).collect()
    };
    // Most of the time goes into making pipelines.
    let (first, second) = families.split_at(families.len() / 2);
    let faults = std::thread::scope(|scope| {
        let first = scope.spawn(|| faults_of(first));
        [faults_of(second), first.join().expect("no panic")].concat()
    });
    assert!(faults.is_empty(), "{} off:\n{}", faults.len(), faults.join("\n"));
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

/// Runs every case of a kind, whose logits may be off by the tolerance of that name.
fn each_case(backend: &dyn Backend, kind: &str, kv_type: KvType, tolerance: &str) {
    let mut faults = Vec::new();
    for case in kit::cases(kind) {
        let model = model(kit::read_maybe_gz(case["model"].as_str().unwrap())).unwrap();
        let (shape, wanted) = kit::npy_f32(case["expected"].as_str().unwrap());
        let tokens = tokens(&case, shape[0]);
        let n_first = tokens.len() - 5;
        let got = logits(&model, backend, kv_type, &tokens, n_first);
        let bound = case["tolerance"][tolerance].as_f64().unwrap();
        match got.map(|got| compare(&got, &wanted)) {
            Ok(off) if f64::from(off.max_abs) <= bound => {}
            Ok(off) => faults.push(format!("{}: {off}, allowed {bound:.1e}", case["id"])),
            Err(error) => faults.push(format!("{}: {error}", case["id"])),
        }
    }
    assert!(faults.is_empty(), "{} off:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn logits_of_the_kit_meet_the_strict_bound() {
    each_case(backend(), "logits", KvType::F32, "f32_max_abs_vs_expected");
}

#[test]
fn logits_with_halves_in_the_cache_meet_the_bound_of_halves() {
    each_case(backend(), "logits", KvType::F16, "f16_kv_or_f16_math_max_abs");
}

#[test]
fn quantised_models_are_as_close_as_unrounded_activations_are() {
    each_case(backend(), "quant-logits", KvType::F32, "f32_activations_max_abs_vs_expected");
}

#[test]
fn quantised_models_in_f16_and_int8_are_as_close_as_the_kit_asks() {
    for arithmetic in [Arithmetic::F16, Arithmetic::Int8] {
        let tuning = Tuning { vector: arithmetic, matrix: arithmetic, subgroups: true };
        each_case(&open_with(tuning), "quant-logits", KvType::F32, "max_abs_vs_expected");
    }
}
