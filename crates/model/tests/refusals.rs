//! Files that contradict themselves are refused by name, and nothing panics.

use proptest::prelude::*;
use realm_gguf::Gguf;
use realm_ir::{Coded, ErrorCode, Step};
use realm_model::{Error, ModelPlan, build};
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_testkit::header::Header;
use realm_testkit::{families, kit, one_layer};

/// A sound one-layer file of `architecture`, with one key or tensor changed.
fn file(architecture: &str, change: &str, value: Option<KvValue>) -> Result<ModelPlan, Box<Error>> {
    let mut writer = GgufWriter::new();
    let mut kv = |key: &str, default: KvValue| {
        let chosen = if key == change { value.clone() } else { Some(default) };
        if let Some(chosen) = chosen {
            writer.kv(key.replace("ARCH", architecture).as_str(), chosen);
        }
    };
    kv("general.architecture", architecture.into());
    for (key, default) in one_layer::KEYS {
        kv(&format!("ARCH.{key}"), default.into());
    }
    if architecture.starts_with("gemma") {
        kv("ARCH.attention.sliding_window", 16u32.into());
    }
    for (key, default) in one_layer::FLOAT_KEYS {
        kv(&format!("ARCH.{key}"), default.into());
    }
    for key in [
        "ARCH.attention.causal",
        "ARCH.rope.dimension_count",
        "ARCH.rope.scaling.type",
        "ARCH.rope.scaling.factor",
        "ARCH.attention.sliding_window_pattern",
        "ARCH.expert_count",
        "ARCH.attention.key_length",
        "ARCH.attention.sliding_window",
    ] {
        if key == change
            && let Some(value) = &value
        {
            writer.kv(key.replace("ARCH", architecture).as_str(), value.clone());
        }
    }
    for (name, shape) in one_layer::TENSORS.iter().filter(|tensor| tensor.0 != change) {
        let n: usize = shape.iter().product();
        writer.tensor_f32(name, shape, realm_gguf::TensorType::F32, &vec![0.5; n]);
    }
    build(&Gguf::from_bytes(writer.to_bytes())?, 64)
}

fn refusal(architecture: &str, change: &str, value: Option<KvValue>) -> String {
    let error = file(architecture, change, value).expect_err("must be refused");
    assert!(matches!(error.code(), ErrorCode::ModelInvalid | ErrorCode::ModelUnsupported));
    error.to_string()
}

#[test]
fn a_sound_file_becomes_a_program() {
    let plan = file("llama", "", None).unwrap();
    assert_eq!((plan.program.n_layers(), plan.kv_layers.len()), (1, 1));
    assert_eq!(plan.config.n_vocab, 8);
}

#[test]
fn every_missing_key_or_tensor_is_named() {
    for missing in [
        "general.architecture",
        "ARCH.block_count",
        "ARCH.context_length",
        "ARCH.embedding_length",
        "ARCH.feed_forward_length",
        "ARCH.attention.head_count",
        "ARCH.attention.layer_norm_rms_epsilon",
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight",
        "blk.0.ffn_down.weight",
    ] {
        let message = refusal("llama", missing, None);
        assert!(message.contains(&missing.replace("ARCH", "llama")), "{missing}: {message}");
    }
    assert!(refusal("qwen3", "ARCH.rope.freq_base", None).contains("qwen3.rope.freq_base"));
    assert!(refusal("gemma2", "ARCH.attention.sliding_window", None).contains("sliding_window"));
}

#[test]
fn a_decoder_whose_file_says_that_it_sees_everything_is_an_encoder() {
    let is_causal = |plan: &ModelPlan| {
        let mut steps = plan.program.segments.iter().flatten();
        steps.any(|step| matches!(step, Step::Attend(attend) if attend.causal))
    };
    let plan = file("llama", "ARCH.attention.causal", Some(false.into())).unwrap();
    assert!(plan.embedding.is_encoder && !is_causal(&plan));
    let plan = file("llama", "", None).unwrap();
    assert!(!plan.embedding.is_encoder && is_causal(&plan));
}

#[test]
fn every_number_out_of_range_is_named_with_what_was_expected() {
    let cases: Vec<(&str, KvValue, &str)> = vec![
        ("ARCH.block_count", 9000u32.into(), "at most one per tensor"),
        ("ARCH.block_count", u32::MAX.into(), "4294967295"),
        ("ARCH.block_count", 2u32.into(), "blk.1.attn_norm.weight"),
        ("ARCH.context_length", 0u32.into(), "found 0"),
        ("ARCH.embedding_length", 64u32.into(), "shape [32, 8]"),
        ("ARCH.embedding_length", u32::MAX.into(), "4294967295"),
        ("ARCH.attention.head_count", 0u32.into(), "head_count"),
        ("ARCH.attention.head_count_kv", 0u32.into(), "head_count_kv"),
        ("ARCH.attention.head_count_kv", 3u32.into(), "a divisor of 4"),
        ("ARCH.attention.head_count_kv", KvValue::from(Vec::<u32>::new()), "one per layer"),
        ("ARCH.attention.layer_norm_rms_epsilon", f32::NAN.into(), "positive finite"),
        ("ARCH.attention.layer_norm_rms_epsilon", 0f32.into(), "positive finite"),
        ("ARCH.rope.freq_base", f32::NAN.into(), "positive finite"),
        ("ARCH.rope.dimension_count", 16u32.into(), "up to 8"),
        ("ARCH.rope.dimension_count", 3u32.into(), "even"),
        ("ARCH.rope.scaling.type", "spiral".into(), "none, linear, yarn, longrope"),
        ("ARCH.rope.scaling.factor", (-1f32).into(), "positive finite"),
        ("ARCH.attention.key_length", u32::MAX.into(), "4294967295"),
        ("ARCH.expert_count", 8u32.into(), "expert_used_count"),
        ("ARCH.expert_count", u32::MAX.into(), "1 to 65536"),
        ("general.architecture", "rwkv9".into(), "gemma3, gemma3n, gemma4"),
    ];
    for (key, value, expected) in cases {
        let message = refusal("llama", key, Some(value));
        assert!(message.contains(expected), "{key}: {message}");
    }
    let window = refusal("qwen2", "ARCH.attention.sliding_window", Some(16u32.into()));
    assert!(window.contains("none in this family"), "{window}");
    let experts = refusal("qwen2", "ARCH.expert_count", Some(8u32.into()));
    assert!(experts.contains("dense models"), "{experts}");
    let pattern = vec![true, true].into();
    let pattern = refusal("gemma2", "ARCH.attention.sliding_window_pattern", Some(pattern));
    assert!(pattern.contains("one per layer"), "{pattern}");
    assert!(refusal("qwen2", "", None).contains("attn_q.bias"));
    assert!(refusal("gemma3", "", None).contains("attn_q_norm"));
}

/// Keys and their new numbers.
type Changes = &'static [(&'static str, u32)];

/// The refusal of a family's file with some numbers changed.
fn changed(family: &str, changes: Changes) -> String {
    let file = families::all().into_iter().find(|known| known.name() == family);
    let mut header = Header::of(&file.expect("a family").file());
    for (key, value) in changes {
        let index = header.numbers().position(|(known, _)| known == *key);
        header = header.with(index.expect("a number of the file"), *value);
    }
    let gguf = header.file().expect("a sound header");
    build(&gguf, 64).expect_err("must be refused").to_string()
}

#[test]
fn gates_beside_queries_are_as_many_as_values() {
    let message = changed("qwen35", &[("qwen35.attention.value_length", 8)]);
    assert!(message.contains("qwen35.attention.value_length: found 8, expected 16"), "{message}");
}

#[test]
fn widths_that_could_not_be_counted_in_32_bits_are_refused_before_anything_is_made() {
    const MANY: u32 = 1 << 16;
    const MOST: u32 = 1 << 24;
    let cases: [(&str, Changes, &str); 5] = [
        (
            "qwen35",
            &[("qwen35.ssm.state_size", MOST)],
            "qwen35.ssm.group_count: found 4 times 16777216 values",
        ),
        (
            "qwen35",
            &[("qwen35.ssm.inner_size", MOST), ("qwen35.ssm.state_size", MANY)],
            "qwen35.ssm.state_size: found 65536, for 16777216 values",
        ),
        (
            "mamba2",
            &[
                ("mamba2.ssm.inner_size", 4),
                ("mamba2.ssm.group_count", 4),
                ("mamba2.ssm.state_size", MOST),
            ],
            "mamba2.ssm.group_count: found 4 times 16777216 values, expected at most 33554432",
        ),
        (
            "qwen35",
            &[("qwen35.attention.head_count", MANY), ("qwen35.attention.key_length", MANY)],
            "qwen35.attention.key_length: found 65536 times 65536 values",
        ),
        (
            "qwen35",
            &[("qwen35.attention.key_length", MOST)],
            "qwen35.attention.key_length: found 16777216, expected 1 to 65536",
        ),
    ];
    for (family, changes, expected) in cases {
        let message = changed(family, changes);
        assert!(message.contains(expected), "{message}, expected {expected}");
    }
}

/// Refused by the container or here; what is left to the tokenizer is not built at all.
#[test]
fn hostile_files_of_the_kit_are_refused_without_a_panic() {
    // The tokenizer's part: its vocabulary contradicts itself, the weights do not.
    let tokenizer = ["scores-length-mismatch", "bos-out-of-range", "tokenizer-model-unknown"];
    for case in kit::cases("malformed") {
        let id = case["id"].as_str().unwrap();
        let bytes = kit::read_maybe_gz(case["file"].as_str().unwrap());
        let result = Gguf::from_bytes(bytes).map_err(Box::from).and_then(|gguf| build(&gguf, 64));
        match (&result, case["expect"].as_str().unwrap()) {
            (Ok(_), "error") => assert!(tokenizer.iter().any(|name| id.ends_with(name)), "{id}"),
            (Err(error), "loads") => panic!("{id}: {error}"),
            (Err(error), _) => assert!(
                matches!(error.code(), ErrorCode::ModelInvalid | ErrorCode::ModelUnsupported),
                "{id}: {error}"
            ),
            (Ok(_), _) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_give_a_program_or_an_error(
        damage in prop::collection::vec((0usize..4096, any::<u8>()), 1..6),
    ) {
        let mut bytes = kit::read_maybe_gz("malformed/valid-base.gguf");
        for (at, value) in damage {
            bytes[at] = value;
        }
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            let _ = build(&gguf, 64);
        }
    }
}

#[test]
fn every_embedding_model_of_the_kit_becomes_a_program_that_uses_all_its_tensors() {
    for case in kit::cases("embedding") {
        let bytes = kit::read_maybe_gz(case["model"].as_str().unwrap());
        let plan = build(&Gguf::from_bytes(bytes).unwrap(), 512);
        plan.unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
    }
}
