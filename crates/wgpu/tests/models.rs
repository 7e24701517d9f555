//! Whole models: every family against the oracle, and the reference logits of the
//! conformance kit. Most of a prompt is read in one call, the rest token by token.

mod common;

use std::sync::Arc;

use realm_gguf::Gguf;
use realm_ir::{Backend, BatchView, KvType, SequenceView, Session};
use realm_model::{Error, build};
use realm_testkit::compare::compare;
use realm_testkit::families::{self, CONTEXT_LENGTH, Family, PROMPT};
use realm_testkit::kit;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Model, Size, read};
use realm_wgpu::{Arithmetic, Tuning};
use serde_json::Value;

use common::{backend, open_with};

fn model(bytes: Vec<u8>) -> Result<Model, Box<Error>> {
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
    let model = match model(family.file()) {
        Ok(model) => model,
        Err(error) => return Some(error.to_string()),
    };
    let n_first = if model.is_causal() { 9 } else { PROMPT.len() };
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

/// Runs tokens of one sequence and gives the logits of the last.
fn last_logits(
    model: &Model,
    session: &mut dyn Session,
    tokens: &[u32],
    start: u32,
    (pages, state): (&[u32], u32),
) -> Vec<f32> {
    let n_rows = tokens.len();
    let sequence = SequenceView { first_row: 0, n_rows, pages, state, adapters: &[] };
    let positions: Vec<u32> = (start..).take(n_rows).collect();
    let batch = BatchView {
        tokens,
        positions: &positions,
        sequences: &[sequence],
        output_rows: &[n_rows as u32 - 1],
        interrupt: None,
    };
    session.run(model.segments(), &batch).unwrap();
    read(model, session, model.program.logits, 1).unwrap()
}

#[test]
fn a_forked_sequence_with_recurrent_states_goes_its_own_way() {
    for name in ["qwen35", "mamba", "mamba2"] {
        let Some(family) = families::all().into_iter().find(|family| family.name() == name) else {
            panic!("{name} is among the families");
        };
        let model = model(family.file()).unwrap();
        let open = |backend: &dyn Backend| model.open(backend, Size::default()).unwrap();
        let (own, fork) = ((&[0, 1, 2, 3][..], 1), (&[8, 9, 10, 11][..], 0));
        let (start, rest) = PROMPT.split_at(6);
        let at = start.len() as u32;
        // The oracle reads either text from its beginning.
        let alone = |last: &[u32]| {
            let tokens = [start, last].concat();
            last_logits(&model, &mut *open(&NaiveBackend), &tokens, 0, own)
        };
        let others = [rest[1], rest[0]];
        let (wanted, wanted_of_fork) = (alone(&rest[..2]), alone(&others));
        assert!(compare(&wanted, &wanted_of_fork).relative() > 1e-2, "{name}: both differ");

        let mut session = open(backend());
        last_logits(&model, &mut *session, start, 0, own);
        for (from, to) in own.0.iter().zip(fork.0) {
            session.copy_page(*from, *to).unwrap();
        }
        session.copy_state(own.1, fork.1).unwrap();
        // In turns: neither may change what the other has.
        let mut ends = [Vec::new(), Vec::new()];
        for i in 0..2 {
            let at = at + i as u32;
            ends[0] = last_logits(&model, &mut *session, &others[i..=i], at, fork);
            ends[1] = last_logits(&model, &mut *session, &rest[i..=i], at, own);
        }
        for (what, got, wanted) in
            [("fork", &ends[0], &wanted_of_fork), ("original", &ends[1], &wanted)]
        {
            let off = compare(got, wanted);
            assert!(off.max_abs <= 5e-5 * off.rms_wanted, "{name}, {what}: {off}");
        }
        let error = session.copy_state(0, 2).unwrap_err().to_string();
        assert!(error.contains("state 0 to 2, the session has 2"), "{error}");
    }
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
