//! What an adapter's file may not say.

use realm_gguf::{Gguf, TensorData, TensorType};
use realm_ir::{Coded, ErrorCode};
use realm_model::{AdapterInfo, Error, ModelPlan, build, read_adapter};
use realm_testkit::gguf_writer::GgufWriter;
use realm_testkit::kit;
use realm_testkit::lora::{Lora, LoraPair};
use realm_testkit::random::Random;

struct Base {
    gguf: Gguf,
    plan: ModelPlan,
}

impl Base {
    fn kit(name: &str) -> Self {
        let bytes = kit::read_maybe_gz(&format!("models/{name}/model.gguf.gz"));
        let gguf = Gguf::from_bytes(bytes).unwrap();
        let plan = build(&gguf, 64).unwrap();
        Base { gguf, plan }
    }

    fn read(&self, bytes: Vec<u8>) -> Result<AdapterInfo, Box<Error>> {
        let file = Gguf::from_bytes(bytes)?;
        let adapter = read_adapter(&file, &self.gguf, &self.plan.program, &self.plan.parts);
        adapter.map(|(_, info)| info)
    }

    /// Pairs of rank 4 for tensors whose names contain `part`.
    fn lora(&self, part: &str) -> Lora {
        Lora::random(&self.gguf, 1, 4, TensorType::F32, |tensor| tensor.name().contains(part))
    }

    fn refusal(&self, bytes: Vec<u8>, code: ErrorCode) -> String {
        let error = self.read(bytes).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        error.to_string()
    }
}

#[test]
fn an_adapter_says_what_it_is() {
    let base = Base::kit("llama");
    let lora = base.lora("attn_q.weight");
    let info = base.read(lora.to_bytes()).unwrap();
    assert_eq!((info.name.as_deref(), info.rank, info.alpha), (Some("random"), 4, 4.0));
    assert_eq!(info.n_tensors, lora.pairs.len());
    let sizes = lora.pairs.iter().map(|pair| pair.a.bytes().len() + pair.b.bytes().len());
    assert_eq!(info.bytes, sizes.sum::<usize>() as u64);
}

#[test]
fn metadata_of_another_kind_of_file_is_named() {
    let base = Base::kit("llama");
    let write = |changed: &str, value: Option<&str>| {
        let mut writer = GgufWriter::new();
        for (key, right) in [
            ("general.type", "adapter"),
            ("general.architecture", "llama"),
            ("adapter.type", "lora"),
        ] {
            match value {
                Some(value) if key == changed => writer.kv(key, value),
                None if key == changed => &mut writer,
                _ => writer.kv(key, right),
            };
        }
        if changed != "adapter.lora.alpha" {
            writer.kv("adapter.lora.alpha", 8f32);
        }
        writer.to_bytes()
    };
    use ErrorCode::{ModelInvalid, ModelUnsupported};
    for (key, value, code, found) in [
        ("general.type", Some("model"), ModelInvalid, "found \"model\", expected \"adapter\""),
        ("general.type", None, ModelInvalid, "found nothing"),
        ("general.architecture", Some("qwen2"), ModelInvalid, "found qwen2, expected llama"),
        ("general.architecture", None, ModelInvalid, "general.architecture"),
        ("adapter.type", Some("control_vector"), ModelUnsupported, "\"control_vector\""),
        ("adapter.type", None, ModelInvalid, "adapter.type"),
        ("adapter.lora.alpha", None, ModelInvalid, "adapter.lora.alpha"),
        ("", None, ModelInvalid, "no tensors"),
    ] {
        let message = base.refusal(write(key, value), code);
        assert!(message.contains(key) && message.contains(found), "{key}: {message}");
    }

    let mut activated = base.lora("attn_q.weight").header();
    activated.kv("adapter.alora.invocation_tokens", [1u32, 2]);
    assert!(base.refusal(activated.to_bytes(), ModelUnsupported).contains("alora"));
    let lora = Lora { alpha: f32::NAN, ..base.lora("attn_q.weight") };
    assert!(base.refusal(lora.to_bytes(), ModelInvalid).contains("adapter.lora.alpha"));
}

#[test]
fn a_model_is_no_adapter() {
    let base = Base::kit("llama");
    let bytes = kit::read_maybe_gz("models/llama/model.gguf.gz");
    assert!(base.refusal(bytes, ErrorCode::ModelInvalid).contains("general.type"));
}

#[test]
fn pairs_that_do_not_fit_are_named_with_what_was_found_and_expected() {
    let base = Base::kit("llama");
    let good = base.lora("blk.0.attn_q.weight");
    let with = |pairs: Vec<LoraPair>| Lora { pairs, ..good.clone() }.to_bytes();
    let pair = &good.pairs[0];
    let width = pair.a.row_len();
    let matrix = |name: &str, shape: [usize; 2]| {
        let mut random = Random::new(2);
        realm_testkit::random::tensor(&mut random, name, &shape, TensorType::F32, 1.0)
    };
    let renamed = |name: &str| LoraPair {
        name: name.to_owned(),
        a: matrix(&format!("{name}.lora_a"), [width, 4]),
        b: matrix(&format!("{name}.lora_b"), [4, pair.b.n_rows()]),
    };
    let (a_name, b_name) = ("blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b");
    let invalid = |pairs, parts: &[&str]| {
        let message = base.refusal(with(pairs), ErrorCode::ModelInvalid);
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    };
    let shape = format!("[{width}, 4]");
    let narrow = LoraPair { a: matrix(a_name, [width - 1, 4]), ..pair.clone() };
    invalid(vec![narrow], &[a_name, &shape]);
    let other_rank = LoraPair { a: matrix(a_name, [width, 5]), ..pair.clone() };
    invalid(vec![other_rank], &[a_name, &shape]);
    let short = LoraPair { b: matrix(b_name, [4, 3]), ..pair.clone() };
    invalid(vec![short], &[b_name, "[4, 3]"]);
    let swapped = LoraPair { a: matrix(a_name, [4, width]), ..pair.clone() };
    invalid(vec![swapped], &[a_name]);
    let missing = "blk.77.attn_q.weight";
    invalid(vec![renamed(missing)], &[missing, "no such tensor"]);

    let mut half = good.header();
    half.tensor(a_name, pair.a.shape(), pair.a.ty(), pair.a.bytes().to_vec());
    let message = base.refusal(half.to_bytes(), ErrorCode::ModelInvalid);
    assert!(message.contains(b_name), "{message}");
}

#[test]
fn pairs_with_values_that_are_not_finite_are_named() {
    let base = Base::kit("llama");
    let good = base.lora("attn_q.weight");
    for (value, said) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let mut lora = good.clone();
        let half = &mut lora.pairs[0].b;
        let mut bytes = half.bytes().to_vec();
        bytes[4 * 7..4 * 8].copy_from_slice(&value.to_le_bytes());
        *half = TensorData::from_vec(half.name(), half.shape(), half.ty(), bytes).unwrap();
        let message = base.refusal(lora.to_bytes(), ErrorCode::ModelInvalid);
        let expected = format!("{}: found {said} at index 7", lora.pairs[0].b.name());
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn what_would_have_to_be_ignored_is_refused_by_name() {
    let refused = |base: &Base, name: &str| {
        let lora = base.lora(name);
        assert!(!lora.pairs.is_empty(), "{name} is there");
        let message = base.refusal(lora.to_bytes(), ErrorCode::ModelUnsupported);
        assert!(message.contains(name), "{message}");
    };
    refused(&Base::kit("llama"), "blk.0.attn_norm.weight");
    refused(&Base::kit("gpt2"), "position_embd.weight");
    refused(&Base::kit("gpt2"), "blk.0.attn_qkv.bias");
    refused(&Base::kit("lfm2"), "shortconv.conv.weight");

    let base = Base::kit("llama");
    let lora = base.lora("blk.0.attn_q.weight");
    for name in ["output_norm.weight", "blk.0.attn_q.weight.lora_magnitude_vector"] {
        let mut writer = lora.header();
        writer.tensor_f32(name, &[4], TensorType::F32, &[1.0; 4]);
        let message = base.refusal(writer.to_bytes(), ErrorCode::ModelUnsupported);
        assert!(message.contains(name), "{message}");
    }
    let mut integers = lora.clone();
    let (name, shape) = ("blk.0.attn_q.weight.lora_a", integers.pairs[0].a.shape().to_vec());
    let bytes = vec![0; shape.iter().product()];
    integers.pairs[0].a = TensorData::from_vec(name, &shape, TensorType::I8, bytes).unwrap();
    let message = base.refusal(integers.to_bytes(), ErrorCode::ModelUnsupported);
    assert!(message.contains(name) && message.contains("I8"), "{message}");
}

#[test]
fn damaged_adapters_give_an_adapter_or_an_error() {
    let base = Base::kit("phi3");
    let bytes = base.lora("attn").to_bytes();
    let mut random = Random::new(9);
    let mut refused = 0;
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random.below(4) {
            damaged[random.below(900)] = random.below(256) as u8;
        }
        refused += usize::from(base.read(damaged).is_err());
    }
    assert!(refused > 1000, "most damage is noticed, {refused} refused");
    for len in (0..bytes.len()).step_by(97) {
        assert!(base.read(bytes[..len].to_vec()).is_err(), "cut to {len} bytes");
    }
}
