//! Gemma 3n against llama.cpp: streams, low-rank parts, sparse gates, inputs of each
//! layer's own and shared keys and values, on a file of 25 layers.
//!
//! `references/gemma3n.f32` is what llama.cpp v0.5.0 (commit de3ff815) computes of the
//! file that `realm-testkit`'s example `write_gemma3n` writes: logits `[tokens,
//! vocabulary]`, little-endian float32; one thread, one batch, flash attention off, keys
//! and values in float32.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_ir::{Backend, Slot};
use realm_model::build;
use realm_testkit::compare::compare;
use realm_testkit::gemma3n::{self, N_STREAMS, N_VOCAB, PER_LAYER, PROMPT, WIDTH};
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Model, Size, read};
use realm_testkit::random::Random;

/// Pages of the whole prompt.
const PAGES: [u32; 4] = [6, 2, 9, 0];

fn model() -> Model {
    let plan = build(&Gguf::from_bytes(gemma3n::file()).unwrap(), 64).unwrap();
    Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers }
}

fn cpu() -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() }).unwrap()
}

/// Logits of one call after another.
fn logits(backend: &dyn Backend, model: &Model, calls: &[Call]) -> Vec<f32> {
    let mut session = model.open(backend, Size::default()).unwrap();
    calls.iter().flat_map(|call| call.logits(model, &mut *session).unwrap()).collect()
}

fn reference() -> Vec<f32> {
    let bytes = include_bytes!("references/gemma3n.f32");
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn logits_are_those_of_llama_cpp() {
    let wanted = reference();
    let whole = [Call::one(&PROMPT, 0, &PAGES)];
    let model = model();
    let off = compare(&logits(&cpu(), &model, &whole), &wanted);
    assert!(off.rms_wanted > 1.0, "a reference of zeros shows nothing");
    assert!(off.max_abs < 1e-4, "cpu: {off}");
    let off = compare(&logits(&NaiveBackend, &model, &whole), &wanted);
    assert!(off.max_abs < 1e-4, "oracle: {off}");
}

#[test]
fn a_prompt_token_by_token_gives_the_bits_of_the_whole() {
    let model = model();
    let whole = logits(&cpu(), &model, &[Call::one(&PROMPT, 0, &PAGES)]);
    let one_by_one: Vec<Call> =
        (0u32..).zip(PROMPT).map(|(at, token)| Call::one(&[token], at, &PAGES)).collect();
    assert!(logits(&cpu(), &model, &one_by_one) == whole);
}

#[test]
fn a_row_between_layers_is_the_streams_and_the_inputs_of_all_layers() {
    let program = model().program;
    let per_layer = PER_LAYER * gemma3n::N_LAYERS;
    let widths: Vec<usize> = program.row_slots().map(|slot| program.width(slot)).collect();
    assert_eq!(widths, [WIDTH, WIDTH, WIDTH, WIDTH, per_layer]);
    assert_eq!(widths.len(), N_STREAMS + 1);
    assert_eq!(program.width(program.logits), N_VOCAB);
}

#[test]
fn layers_know_nothing_but_the_rows_handed_on_and_the_cache() {
    let model = model();
    let call = Call::one(&PROMPT, 0, &PAGES);
    let whole = logits(&cpu(), &model, std::slice::from_ref(&call));

    let mut session = model.open(&cpu(), Size::default()).unwrap();
    let n_rows = PROMPT.len();
    for segment in model.segments() {
        let rows: Vec<(Slot, Vec<f32>)> = model
            .program
            .row_slots()
            .map(|slot| (slot, read(&model, &mut *session, slot, n_rows).unwrap()))
            .collect();
        for (index, slot) in model.program.slots.iter().enumerate() {
            session.write(Slot(index), &vec![f32::NAN; n_rows * slot.width]).unwrap();
        }
        for (slot, values) in &rows {
            session.write(*slot, values).unwrap();
        }
        call.run(&mut *session, segment..segment + 1).unwrap();
    }
    let logits = read(&model, &mut *session, model.program.logits, n_rows).unwrap();
    assert!(logits == whole);
}

#[test]
fn damaged_files_give_a_program_or_an_error() {
    let (file, mut random) = (gemma3n::file(), Random::new(23));
    // Keys, then names and shapes: the numbers that everything is computed from.
    let header = file.windows(17).position(|text| text == b"token_embd.weight").unwrap();
    let mut refused = 0;
    for _ in 0..60 {
        let mut damaged = file.clone();
        for _ in 0..1 + random.below(3) {
            damaged[random.below(header + 4096)] = random.below(256) as u8;
        }
        let is_refused = Gguf::from_bytes(damaged).map(|gguf| build(&gguf, 64).is_err());
        refused += usize::from(is_refused.unwrap_or(true));
    }
    assert!(refused > 20, "most damage is noticed, {refused} refused");
}

#[test]
fn last_layers_read_the_last_of_their_kind_that_stores() {
    let program = model().program;
    let sources: Vec<usize> = (19..25).map(|layer| program.kv_source(layer)).collect();
    assert_eq!(sources, [19, 18, 18, 18, 18, 19]);
}

#[test]
fn a_file_without_a_number_of_the_family_is_refused_by_its_name() {
    for key in gemma3n::REQUIRED {
        let gguf = Gguf::from_bytes(gemma3n::file_without(key)).unwrap();
        let error = build(&gguf, 64).unwrap_err().to_string();
        assert!(error.contains(&format!("gemma3n.{key}")), "{key}: {error}");
    }
}
