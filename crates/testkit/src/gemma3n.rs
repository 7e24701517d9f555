//! A tiny random Gemma 3n file that llama.cpp takes too: its logits of [`PROMPT`] are
//! kept beside the test that compares with them.
//!
//! llama.cpp fixes some of this family's numbers: four streams, inputs of 256 values for
//! each layer, a rank of 64, sparse gates in the first ten layers, and shared keys and
//! values from layer 20 on. So the file has 25 layers, the least with one of either kind
//! that shares.

use realm_gguf::TensorType;

use crate::gguf_writer::GgufWriter;
use crate::random::Random;

/// Token ids that logits are computed of: more than the window of 5.
pub const PROMPT: [u32; 14] = [5, 9, 30, 1, 2, 31, 7, 8, 8, 12, 0, 22, 17, 3];

/// Values of the hidden state.
pub const WIDTH: usize = 64;
/// Layers.
pub const N_LAYERS: usize = 25;
/// Streams that layers hand on.
pub const N_STREAMS: usize = 4;
/// Inputs of one layer.
pub const PER_LAYER: usize = 256;
/// Entries of the vocabulary.
pub const N_VOCAB: usize = 32;

const N_SHARING: usize = 5;
const N_SPARSE: usize = 10;
const INNER: usize = 96;
const RANK: usize = 64;
const HEAD: usize = 16;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;

/// Keys that such a file cannot do without, for [`file_without`].
pub const REQUIRED: [&str; 5] = [
    "altup.num_inputs",
    "altup.active_idx",
    "activation_sparsity_scale",
    "attention.shared_kv_layers",
    "attention.sliding_window",
];

/// The file, the same on every machine.
pub fn file() -> Vec<u8> {
    file_without("")
}

/// The file without one of its keys, named without the architecture before it.
pub fn file_without(left_out: &str) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.kv("general.architecture", "gemma3n");
    let counts = [
        ("block_count", N_LAYERS),
        ("context_length", 256),
        ("embedding_length", WIDTH),
        ("feed_forward_length", INNER),
        ("attention.head_count", N_HEADS),
        ("attention.head_count_kv", N_KV_HEADS),
        ("attention.key_length", HEAD),
        ("attention.value_length", HEAD),
        ("attention.sliding_window", 5),
        ("attention.shared_kv_layers", N_SHARING),
        ("embedding_length_per_layer_input", PER_LAYER),
        ("altup.num_inputs", N_STREAMS),
        ("altup.active_idx", 0),
    ];
    for (name, count) in counts.into_iter().filter(|(name, _)| *name != left_out) {
        writer.kv(&format!("gemma3n.{name}"), count as u32);
    }
    writer.kv("gemma3n.attention.layer_norm_rms_epsilon", 1e-6f32);
    writer.kv("gemma3n.rope.freq_base", 1e6f32);
    if left_out != "activation_sparsity_scale" {
        // Of a normal distribution, one value of twenty is as large.
        let scale = |layer| if layer < N_SPARSE { 1.644_853_6 } else { f32::NEG_INFINITY };
        let scales: Vec<f32> = (0..N_LAYERS).map(scale).collect();
        writer.kv("gemma3n.activation_sparsity_scale", scales);
    }
    let pattern: Vec<bool> = (0..N_LAYERS).map(|layer| layer % 5 != 4).collect();
    writer.kv("gemma3n.attention.sliding_window_pattern", pattern);
    write_vocabulary(&mut writer);

    let mut random = Random::new(17);
    let whole = WHOLE.iter().map(|(name, shape)| ((*name).to_owned(), *shape));
    let layers = (0..N_LAYERS).flat_map(|layer| {
        LAYER.iter().map(move |(name, shape)| (format!("blk.{layer}.{name}"), *shape))
    });
    for (name, shape) in whole.chain(layers) {
        let name = format!("{name}.weight");
        let (mean, deviation) = distribution(&name, shape[0]);
        let normals = random.normals(shape.iter().product());
        let values: Vec<f32> = normals.into_iter().map(|value| mean + deviation * value).collect();
        writer.tensor_f32(&name, shape, TensorType::F32, &values);
    }
    writer.to_bytes()
}

/// Special tokens, a newline byte, letters and marks.
fn write_vocabulary(writer: &mut GgufWriter) {
    let special = ["<unk>", "<s>", "</s>", "<0x0A>", ","].map(str::to_owned);
    let letters = ('a'..='z').chain(['.']).map(String::from);
    let tokens: Vec<String> = special.into_iter().chain(letters).collect();
    // Unknown, control, byte, and normal ones.
    let types: Vec<i32> =
        [2, 3, 3, 6].into_iter().chain(std::iter::repeat(1)).take(N_VOCAB).collect();
    writer.kv("tokenizer.ggml.model", "llama");
    writer.kv("tokenizer.ggml.tokens", &tokens[..]);
    writer.kv("tokenizer.ggml.scores", vec![0f32; N_VOCAB]);
    writer.kv("tokenizer.ggml.token_type", types);
    writer.kv("tokenizer.ggml.bos_token_id", 1u32);
    writer.kv("tokenizer.ggml.eos_token_id", 2u32);
}

/// Tensors outside of layers: name without its suffix, and shape.
const WHOLE: &[(&str, &[usize])] = &[
    ("token_embd", &[WIDTH, N_VOCAB]),
    ("output_norm", &[WIDTH]),
    ("altup_proj", &[WIDTH, WIDTH, N_STREAMS - 1]),
    ("altup_unembd_proj", &[WIDTH, WIDTH, N_STREAMS - 1]),
    ("per_layer_token_embd", &[PER_LAYER * N_LAYERS, N_VOCAB]),
    ("per_layer_model_proj", &[WIDTH, PER_LAYER * N_LAYERS]),
    ("per_layer_proj_norm", &[PER_LAYER]),
];

/// Tensors of every layer; those that share keys and values have them all the same.
const LAYER: &[(&str, &[usize])] = &[
    ("attn_norm", &[WIDTH]),
    ("attn_q", &[WIDTH, N_HEADS * HEAD]),
    ("attn_k", &[WIDTH, N_KV_HEADS * HEAD]),
    ("attn_v", &[WIDTH, N_KV_HEADS * HEAD]),
    ("attn_output", &[N_HEADS * HEAD, WIDTH]),
    ("attn_q_norm", &[HEAD]),
    ("attn_k_norm", &[HEAD]),
    ("post_attention_norm", &[WIDTH]),
    ("ffn_norm", &[WIDTH]),
    ("ffn_gate", &[WIDTH, INNER]),
    ("ffn_up", &[WIDTH, INNER]),
    ("ffn_down", &[INNER, WIDTH]),
    ("post_ffw_norm", &[WIDTH]),
    ("inp_gate", &[WIDTH, PER_LAYER]),
    ("proj", &[PER_LAYER, WIDTH]),
    ("post_norm", &[WIDTH]),
    ("altup_correct_coef", &[N_STREAMS, N_STREAMS]),
    ("altup_correct_scale", &[WIDTH]),
    ("altup_predict_coef", &[N_STREAMS, N_STREAMS * N_STREAMS]),
    ("altup_router", &[WIDTH, N_STREAMS]),
    ("altup_router_norm", &[WIDTH]),
    ("laurel_l", &[WIDTH, RANK]),
    ("laurel_r", &[RANK, WIDTH]),
    ("laurel_post_norm", &[WIDTH]),
];

/// Mean and deviation of a tensor whose rows have `row_len` values: they keep streams and
/// the factors between them at a size that shows errors.
fn distribution(name: &str, row_len: usize) -> (f32, f32) {
    let root = (row_len as f32).sqrt();
    match name {
        // What layers add: little, so that rounding does not grow from layer to layer.
        _ if name.contains("post_") => (0.25, 0.1),
        _ if name.contains("norm") || name.contains("correct_scale") => (1.0, 0.2),
        // Its products are divided by the width.
        _ if name.contains("altup_router") => (0.0, root),
        _ if name.contains("predict_coef") => (0.0, 0.1),
        // Far from 0, where GELU is the value itself or nothing: llama.cpp looks it up in a
        // table of f16 in between, which would hide errors of a thousandth.
        _ if name.ends_with("_gate.weight") => (0.0, 1e6),
        _ if name.contains("correct_coef") => (0.0, 0.3),
        "token_embd.weight" => (0.0, 3.0 / root),
        _ => (0.0, 1.25 / root),
    }
}
