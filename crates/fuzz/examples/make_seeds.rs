//! Writes the seeds that are not text: `cargo run -p realm-fuzz --example make_seeds`.

use std::fs;
use std::path::Path;

use realm_gguf::{Gguf, TensorInfo, TensorType, ValueType};
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_testkit::lora::Lora;
use realm_testkit::random::Random;
use realm_testkit::{families, one_layer};

fn main() -> std::io::Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (i, ty) in realm_quant::supported().enumerate() {
        let mut bytes = vec![i as u8];
        let n_blocks = 256 / ty.block_len();
        bytes.extend((0..n_blocks * ty.block_bytes()).map(|k| (k * 37 + i) as u8));
        fs::write(seeds.join("blocks").join(ty.name()), bytes)?;
    }
    fs::write(seeds.join("gguf/every-type"), every_type().to_bytes())?;
    fs::write(seeds.join("gguf/split"), split())?;
    for architecture in ["llama", "gemma2", "qwen3moe", "phi3", "bert", "lfm2", "deepseek2"] {
        fs::write(seeds.join("model").join(architecture), tiny_model(architecture))?;
    }
    fs::write(seeds.join("model/accepted"), accepted_model())?;
    for (name, architecture) in [("dense", "llama"), ("experts", "qwen3moe")] {
        fs::write(seeds.join("adapter").join(name), adapter(architecture))?;
    }
    fs::write(seeds.join("model/imatrix"), imatrix())
}

/// Pairs of rank 2 for some tensors of each kind.
fn adapter(architecture: &str) -> Vec<u8> {
    let family = families::all().into_iter().find(|family| family.name() == architecture);
    let base = Gguf::from_bytes(family.expect("a family").file()).expect("a sound file");
    let kinds = ["token_embd", "blk.0.attn_q.", "blk.0.ffn_down"];
    let is_wanted = |tensor: &TensorInfo| {
        tensor.shape().len() > 1 && kinds.iter().any(|kind| tensor.name().starts_with(kind))
    };
    Lora::random(&base, 1, 2, TensorType::F32, is_wanted).to_bytes()
}

fn every_type() -> GgufWriter {
    let nested = KvValue::array(
        ValueType::Array,
        &[KvValue::from([1u16, 2]), KvValue::from(["a", ""]), KvValue::from([0u8; 0])],
    );
    let mut writer = GgufWriter::new();
    writer
        .kv("general.architecture", "llama")
        .kv("u8", 200u8)
        .kv("i16", -30_000i16)
        .kv("u32", 4_000_000_000u32)
        .kv("f32", 1e-5f32)
        .kv("bool", true)
        .kv("u64", u64::MAX)
        .kv("f64", 0.5f64)
        .kv("latin-1", KvValue::string(b"gr\xf6\xdfer"))
        .kv("tokens", ["<s>", "", "größer"])
        .kv("layers", [8u8, 4])
        .kv("swa", [true, false, true])
        .kv("nested", nested)
        .tensor_f32("token_embd.weight", &[4, 3], TensorType::F32, &[0.5; 12])
        .tensor("blk.0.attn_q.weight", &[32, 2], TensorType::Q8_0, (0..68).collect());
    writer
}

/// Two parts, one behind the other.
fn split() -> Vec<u8> {
    let part = |no: u16| {
        let mut writer = GgufWriter::new();
        writer.kv("split.no", no).kv("split.count", 2u16).kv("split.tensors.count", 2i32);
        if no == 0 {
            writer.kv("general.architecture", "llama");
        }
        writer.tensor_f32(&format!("t{no}"), &[4], TensorType::F32, &[1.0; 4]).to_bytes()
    };
    [part(0), part(1)].concat()
}

fn imatrix() -> Vec<u8> {
    GgufWriter::new()
        .kv("general.type", "imatrix")
        .tensor_f32("blk.0.ffn_up.weight.in_sum2", &[8, 2], TensorType::F32, &[2.0; 16])
        .tensor_f32("blk.0.ffn_up.weight.counts", &[1, 2], TensorType::F32, &[1.0, 0.0])
        .to_bytes()
}

/// A sound model, whose first tokens are run.
fn accepted_model() -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.kv("general.architecture", "llama");
    for (key, value) in one_layer::KEYS {
        writer.kv(&format!("llama.{key}"), value);
    }
    for (key, value) in one_layer::FLOAT_KEYS {
        writer.kv(&format!("llama.{key}"), value);
    }
    for (name, shape) in one_layer::TENSORS {
        let n: usize = shape.iter().product();
        writer.tensor_f32(name, shape, TensorType::F32, &vec![0.5; n]);
    }
    writer.to_bytes()
}

/// Keys and tensors of many families at once: each reads those it knows.
fn tiny_model(architecture: &str) -> Vec<u8> {
    let mut random = Random::new(1);
    let mut writer = GgufWriter::new();
    writer.kv("general.architecture", architecture);
    for (key, value) in [
        ("block_count", 1u32),
        ("context_length", 64),
        ("embedding_length", 8),
        ("feed_forward_length", 8),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 2),
        ("attention.sliding_window", 16),
        ("expert_count", 2),
        ("expert_used_count", 1),
        ("expert_feed_forward_length", 8),
        ("rope.dimension_count", 4),
        ("vocab_size", 8),
        ("shortconv.l_cache", 3),
        ("leading_dense_block_count", 0),
        ("attention.kv_lora_rank", 4),
        ("attention.key_length", 4),
        ("attention.value_length", 4),
        ("pooling_type", 1),
    ] {
        writer.kv(&format!("{architecture}.{key}"), value);
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", 1e-5f32),
        ("attention.layer_norm_epsilon", 1e-5),
        ("rope.freq_base", 10_000.0),
        ("rope.scaling.factor", 2.0),
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
    ] {
        writer.kv(&format!("{architecture}.{key}"), value);
    }
    writer
        .kv(&format!("{architecture}.rope.scaling.type"), "linear")
        .kv("tokenizer.ggml.model", "llama")
        .kv("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a"])
        .kv("tokenizer.ggml.scores", [0f32, 0.0, 0.0, -3.0, -2.0, -2.5, -1.0, -0.5])
        .kv("tokenizer.ggml.token_type", [2i32, 3, 3, 1, 1, 1, 1, 1])
        .kv("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}");
    let tensors: &[(&str, &[usize])] = &[
        ("token_embd.weight", &[8, 8]),
        ("output_norm.weight", &[8]),
        ("blk.0.attn_norm.weight", &[8]),
        ("blk.0.attn_q.weight", &[8, 8]),
        ("blk.0.attn_k.weight", &[8, 8]),
        ("blk.0.attn_v.weight", &[8, 8]),
        ("blk.0.attn_output.weight", &[8, 8]),
        ("blk.0.ffn_norm.weight", &[8]),
        ("blk.0.ffn_gate_inp.weight", &[8, 2]),
        ("blk.0.ffn_gate_exps.weight", &[8, 8, 2]),
        ("blk.0.ffn_up_exps.weight", &[8, 8, 2]),
        ("blk.0.ffn_down_exps.weight", &[8, 8, 2]),
    ];
    for (name, shape) in tensors {
        let n = shape.iter().product();
        writer.tensor_f32(name, shape, TensorType::F32, &random.normals(n));
    }
    writer.to_bytes()
}
