//! Which files are run, which are refused, and files that say the same in another way.

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_model::Error;
use realm_testkit::families::tensors::*;
use realm_testkit::families::{self, Family, RMS};
use realm_testkit::random::Random;

use crate::{model, outputs, run_a_little};

const DENSE: &[&[Tensor]] = &[NORMS, Q_K_V, OUT, GATED];

fn logits(file: &[u8]) -> Vec<f32> {
    outputs(&model(file).unwrap(), 9, realm_cpu::Level::best())
}

#[test]
fn a_tensor_that_nothing_uses_is_refused_by_name() {
    for family in families::all() {
        let name = family.name();
        let family = family.tensors_in(|_| true, &[&[("ffn_surprise.weight", &[64])]]);
        let error = model(&family.file()).unwrap_err().to_string();
        assert!(error.contains("blk.0.ffn_surprise.weight"), "{name}: {error}");
    }
}

#[test]
fn what_cannot_be_run_exactly_is_refused_by_name() {
    for (family, expected) in [
        (
            Family::new("mistral3", RMS, DENSE).key("attention.temperature_scale", 0.1f32),
            "mistral3.rope.scaling.original_context_length",
        ),
        (Family::new("apertus", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT, PLAIN]), "xielu.alpha_p"),
        (Family::new("minicpm", RMS, DENSE), "minicpm.logit_scale"),
        (Family::new("llama", RMS, DENSE).key("nextn_predict_layers", 4u32), "fewer than the 4"),
    ] {
        let error = model(&family.file()).unwrap_err().to_string();
        assert!(error.contains(expected), "{}: {error}", family.name());
    }
}

#[test]
fn blocks_that_predict_further_tokens_are_left_out() {
    let family = Family::new("llama", RMS, DENSE);
    let mut tensors = family.random_tensors();
    let wanted = logits(&family.write(&tensors));
    tensors.push(("blk.4.nextn.eh_proj.weight".into(), vec![128, 64], vec![0.0; 128 * 64]));
    let family = family.key("block_count", 5u32).key("nextn_predict_layers", 1u32);
    assert!(logits(&family.write(&tensors)) == wanted);
}

#[test]
fn blocks_beyond_those_that_the_file_counts_are_refused_by_name() {
    for family in families::all() {
        let (name, key) = (family.name(), format!("{}.block_count", family.architecture));
        let family = family.whole(&[("blk.99.attn_surprise.weight", &[64])]);
        let error = model(&family.file()).unwrap_err().to_string();
        let expected =
            "blk.99.attn_surprise.weight: found a tensor of block 99, expected a block below";
        assert!(error.starts_with(expected) && error.ends_with(&key), "{name}: {error}");
    }
    // A file whose last blocks nobody counts, or only some of them.
    let dense = || Family::new("llama", RMS, DENSE).n_layers(6);
    for (n_blocks, n_predicting) in [(4u32, 0u32), (5, 0), (5, 1), (5, 2)] {
        let file = dense().key("block_count", n_blocks).key("nextn_predict_layers", n_predicting);
        let error = model(&file.file()).unwrap_err().to_string();
        let expected =
            format!("found a tensor of block {n_blocks}, expected a block below {n_blocks}, ");
        assert!(error.contains(&expected), "{error}");
        assert!(error.starts_with(&format!("blk.{n_blocks}.")), "{error}");
    }
}

#[test]
fn sections_of_no_width_change_nothing_and_a_pattern_may_be_a_number() {
    let glm4 = Family::new("glm4", RMS, &[NORMS, POST_NORMS, Q_K_V, OUT, JOINED]);
    let sections = |widths: [u32; 4]| glm4.clone().key("rope.dimension_sections", widths).file();
    let plain = logits(&glm4.file());
    assert!(logits(&sections([0, 0, 0, 0])) == plain);
    assert!(logits(&sections([2, 3, 3, 0])) != plain);

    let window = Family::new("exaone4", RMS, &[POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]).window();
    let key = "attention.sliding_window_pattern";
    let named = logits(&window.clone().key(key, [true, false, true, false]).file());
    assert!(logits(&window.clone().key(key, 2u32).file()) == named);
    assert!(logits(&window.file()) != named);
}

#[test]
fn damaged_files_of_every_family_are_refused_or_run() {
    let backend = CpuBackend::new(CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
    let mut random = Random::new(5);
    let (mut refused, mut ran) = (0, 0);
    for family in families::all() {
        let bytes = family.file();
        // Keys, then names and shapes: the numbers that everything is computed from.
        let header = bytes.windows(17).position(|text| text == b"token_embd.weight").unwrap();
        for _ in 0..12 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random.below(3) {
                damaged[random.below(header + 4096)] = random.below(256) as u8;
            }
            let gguf = Gguf::from_bytes(damaged).map_err(Box::<Error>::from);
            match gguf.and_then(|gguf| run_a_little(&gguf, &backend)) {
                Ok(()) => ran += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 1000 && ran > 50, "most damage is noticed: {refused} refused, {ran} run");
}

#[test]
fn a_factor_beside_a_matrix_is_as_good_as_in_it() {
    for layer in [[NORMS, Q_K_V, Q_K_V_BIAS, OUT, GATED], [NORMS, QKV, QKV_BIAS, OUT, JOINED]] {
        let family = Family::new("ernie4_5", RMS, &layer);
        let scaled = family.random_tensors();
        let wanted = logits(&family.write(&scaled));
        let mut beside = Vec::new();
        for (name, shape, values) in scaled {
            let is_matrix = shape.len() == 2 && name != "token_embd.weight";
            let Some(matrix) = name.strip_suffix(".weight").filter(|_| is_matrix) else {
                beside.push((name, shape, values));
                continue;
            };
            // A power of two, so that nothing is rounded.
            beside.push((format!("{matrix}.scale"), vec![1], vec![0.25]));
            let values = values.iter().map(|value| value * 4.0).collect();
            beside.push((name, shape, values));
        }
        assert!(logits(&family.write(&beside)) == wanted);
    }
}
