//! Every architecture that the conformance kit has no file of: a tiny file with the keys
//! and tensors that its converter writes becomes a program, whose every tensor is used,
//! and which the CPU runs like the oracle.
//!
//! Source of names: `gguf-py/gguf/constants.py` and the tensors that `src/models/` of
//! llama.cpp asks for. What the parts of a recipe mean is tested on the kit's families.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::{Gguf, TensorType};
use realm_ir::Backend;
use realm_model::{Error, build};
use realm_testkit::compare::compare;
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Model, Size};
use realm_testkit::random::Random;

/// Name behind `blk.N.` (or whole, for the others) and shape.
type Tensor = (&'static str, &'static [usize]);

// Widths: embedding 64; four heads of 16, two of keys and values; feed-forward 96;
// vocabulary 32; four experts of 32, of which two are used, and a shared one of 32.
const Q_K_V: &[Tensor] =
    &[("attn_q.weight", &[64, 64]), ("attn_k.weight", &[64, 32]), ("attn_v.weight", &[64, 32])];
const Q_K_V_BIAS: &[Tensor] =
    &[("attn_q.bias", &[64]), ("attn_k.bias", &[32]), ("attn_v.bias", &[32])];
const QKV: &[Tensor] = &[("attn_qkv.weight", &[64, 128])];
const QKV_BIAS: &[Tensor] = &[("attn_qkv.bias", &[128])];
const OUT: &[Tensor] = &[("attn_output.weight", &[64, 64])];
const OUT_BIAS: &[Tensor] = &[("attn_output.bias", &[64])];
const NORMS: &[Tensor] = &[("attn_norm.weight", &[64]), ("ffn_norm.weight", &[64])];
const NORM_BIASES: &[Tensor] = &[("attn_norm.bias", &[64]), ("ffn_norm.bias", &[64])];
const ATTN_NORM: &[Tensor] = &[("attn_norm.weight", &[64])];
const POST_ATTENTION_NORM: &[Tensor] = &[("post_attention_norm.weight", &[64])];
const POST_NORMS: &[Tensor] =
    &[("post_attention_norm.weight", &[64]), ("post_ffw_norm.weight", &[64])];
const HEAD_NORMS: &[Tensor] = &[("attn_q_norm.weight", &[16]), ("attn_k_norm.weight", &[16])];
const ROW_NORMS: &[Tensor] = &[("attn_q_norm.weight", &[64]), ("attn_k_norm.weight", &[32])];
const EACH_HEAD_NORMS: &[Tensor] =
    &[("attn_q_norm.weight", &[16, 4]), ("attn_k_norm.weight", &[16, 2])];
const SECOND_NORM: &[Tensor] = &[("attn_norm_2.weight", &[64]), ("attn_norm_2.bias", &[64])];
const GATED: &[Tensor] =
    &[("ffn_gate.weight", &[64, 96]), ("ffn_up.weight", &[64, 96]), ("ffn_down.weight", &[96, 64])];
const JOINED: &[Tensor] = &[("ffn_up.weight", &[64, 192]), ("ffn_down.weight", &[96, 64])];
const PLAIN: &[Tensor] = &[("ffn_up.weight", &[64, 96]), ("ffn_down.weight", &[96, 64])];
const PLAIN_BIAS: &[Tensor] = &[("ffn_up.bias", &[96]), ("ffn_down.bias", &[64])];
const EXPERTS: &[Tensor] = &[
    ("ffn_gate_inp.weight", &[64, 4]),
    ("ffn_gate_exps.weight", &[64, 32, 4]),
    ("ffn_up_exps.weight", &[64, 32, 4]),
    ("ffn_down_exps.weight", &[32, 64, 4]),
];
const CHOICE_BIAS: &[Tensor] = &[("exp_probs_b.bias", &[4])];
const SHARED: &[Tensor] = &[
    ("ffn_gate_shexp.weight", &[64, 32]),
    ("ffn_up_shexp.weight", &[64, 32]),
    ("ffn_down_shexp.weight", &[32, 64]),
];
const EXPERTS_BESIDE: &[Tensor] = &[
    ("ffn_gate_inp.weight", &[64, 4]),
    ("ffn_gate_inp.scale", &[64]),
    ("ffn_gate_up_exps.weight", &[64, 64, 4]),
    ("ffn_down_exps.weight", &[32, 64, 4]),
    ("ffn_down_exps.scale", &[4]),
    ("pre_ffw_norm_2.weight", &[64]),
    ("post_ffw_norm_1.weight", &[64]),
    ("post_ffw_norm_2.weight", &[64]),
];
const PER_LAYER: &[Tensor] = &[
    ("inp_gate.weight", &[64, 8]),
    ("proj.weight", &[8, 64]),
    ("post_norm.weight", &[64]),
    ("layer_output_scale.weight", &[1]),
];
/// Latent attention: latents of 48 and 32, heads of 8 plain and 8 rotating values.
const Q: &[Tensor] = &[("attn_q.weight", &[64, 64])];
const Q_LATENT: &[Tensor] = &[
    ("attn_q_a.weight", &[64, 48]),
    ("attn_q_a_norm.weight", &[48]),
    ("attn_q_b.weight", &[48, 64]),
];
const KV_LATENT: &[Tensor] =
    &[("attn_kv_a_mqa.weight", &[64, 40]), ("attn_kv_a_norm.weight", &[32])];
const JOINT_LATENT: &[Tensor] = &[("attn_kv_b.weight", &[32, 96])];

/// Names of the epsilon's key, behind `attention.`.
const RMS: &str = "layer_norm_rms_epsilon";
const LAYER: &str = "layer_norm_epsilon";

/// What a converter writes for a family, beyond what all files have.
#[derive(Clone)]
struct Family {
    name: &'static str,
    epsilon: &'static str,
    n_layers: usize,
    keys: Vec<(&'static str, KvValue)>,
    /// Tensors of every layer.
    layer: Vec<&'static [Tensor]>,
    /// Of the layers that `has_experts` names.
    experts: Vec<&'static [Tensor]>,
    /// Of the others.
    dense: Vec<&'static [Tensor]>,
    has_experts: fn(usize) -> bool,
    /// Beside the embedding, the output matrix and its norm.
    whole: &'static [Tensor],
    has_output_norm: bool,
}

impl Family {
    /// A family of dense layers.
    fn new(name: &'static str, epsilon: &'static str, layer: &[&'static [Tensor]]) -> Self {
        Family {
            name,
            epsilon,
            n_layers: 4,
            keys: vec![],
            layer: layer.to_vec(),
            experts: vec![],
            dense: vec![],
            has_experts: |_| true,
            whole: &[],
            has_output_norm: true,
        }
    }

    fn key(mut self, name: &'static str, value: impl Into<KvValue>) -> Self {
        self.keys.push((name, value.into()));
        self
    }

    /// Experts in every layer.
    fn experts(mut self, tensors: &[&'static [Tensor]]) -> Self {
        self.experts = tensors.to_vec();
        self.key("expert_count", 4u32)
            .key("expert_used_count", 2u32)
            .key("expert_feed_forward_length", 32u32)
    }

    /// A first layer without experts.
    fn dense_first(mut self) -> Self {
        (self.dense, self.has_experts) = (vec![GATED], |layer| layer > 0);
        self.key("leading_dense_block_count", 1u32)
    }

    fn shared(self) -> Self {
        self.key("expert_shared_count", 1u32)
    }

    /// Experts chosen by sigmoid.
    fn sigmoid(self) -> Self {
        self.key("expert_gating_func", 2u32)
            .key("expert_weights_norm", true)
            .key("expert_weights_scale", 2.5f32)
    }

    fn window(self) -> Self {
        self.key("attention.sliding_window", 3u32)
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![("token_embd.weight", [64, 32].as_slice())];
        all.push(("output.weight", &[64, 32]));
        if self.has_output_norm {
            all.push(("output_norm.weight", &[64]));
        }
        all.extend(self.whole);
        let whole = all.into_iter().map(|(name, shape)| (name.to_owned(), shape.to_vec()));
        let layers = (0..self.n_layers).flat_map(|layer| {
            let others = if (self.has_experts)(layer) { &self.experts } else { &self.dense };
            let parts = self.layer.iter().chain(others).flat_map(|part| part.iter());
            parts.map(move |(name, shape)| (format!("blk.{layer}.{name}"), shape.to_vec()))
        });
        whole.chain(layers).collect()
    }

    fn write(&self, tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        let key = |name: &str| format!("{}.{name}", self.name);
        writer.kv("general.architecture", self.name);
        let given = |name: &str| self.keys.iter().any(|key| key.0 == name);
        for (name, value) in [
            ("block_count", self.n_layers as u32),
            ("context_length", 64),
            ("embedding_length", 64),
            ("feed_forward_length", 96),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
        ] {
            if !given(name) {
                writer.kv(&key(name), value);
            }
        }
        writer.kv(&key(&format!("attention.{}", self.epsilon)), 1e-5f32);
        writer.kv(&key("rope.freq_base"), 10_000f32);
        for (name, value) in &self.keys {
            writer.kv(&key(name), value.clone());
        }
        for (name, shape, values) in tensors {
            writer.tensor_f32(name, shape, TensorType::F32, values);
        }
        writer.to_bytes()
    }

    fn model(&self) -> Result<Model, Error> {
        model(&self.write(&self.random_tensors()))
    }

    fn random_tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut random = Random::new(11);
        self.tensors()
            .into_iter()
            .map(|(name, shape)| {
                let normals = random.normals(shape.iter().product());
                let (mean, deviation) = match name.as_str() {
                    name if name.ends_with(".bias") => (0.0, 0.1),
                    name if name.contains("norm") || name.contains("rope") => (1.0, 0.1),
                    _ => (0.0, 1.0 / (shape[0] as f32).sqrt()),
                };
                let values = normals.into_iter().map(|value| mean + deviation * value).collect();
                (name, shape, values)
            })
            .collect()
    }
}

fn model(bytes: &[u8]) -> Result<Model, Error> {
    let plan = build(&Gguf::from_bytes(bytes.to_vec())?, 64)?;
    Ok(Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers })
}

/// Logits of a prompt of nine tokens, then of one more.
fn logits(model: &Model, backend: &dyn Backend) -> Vec<f32> {
    let mut session = model.open(backend, Size::default()).unwrap();
    let prompt = Call::one(&[5, 9, 30, 1, 2, 31, 7, 8, 8], 0, &[3, 11, 2]);
    let mut logits = prompt.logits(model, &mut *session).unwrap();
    logits.extend(Call::one(&[12], 9, &[3, 11, 2]).logits(model, &mut *session).unwrap());
    logits
}

fn cpu() -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(2) }).unwrap()
}

fn families() -> Vec<Family> {
    let separate: &[&[Tensor]] = &[NORMS, Q_K_V, OUT, GATED];
    let all_biases: &[&[Tensor]] =
        &[NORMS, NORM_BIASES, QKV, QKV_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS];
    let norm_bias: &[Tensor] = &[("output_norm.bias", &[64])];
    let with_norm_bias = |mut family: Family| {
        family.whole = norm_bias;
        family
    };
    let attention: &[&[Tensor]] = &[NORMS, Q_K_V, OUT];
    vec![
        Family { has_output_norm: false, ..Family::new("olmo", LAYER, &[Q_K_V, OUT, GATED]) },
        Family::new("olmo2", RMS, &[POST_NORMS, ROW_NORMS, Q_K_V, OUT, GATED])
            .window()
            .key("rope.scaling.type", "yarn")
            .key("rope.scaling.factor", 8f32)
            .key("rope.scaling.original_context_length", 8u32),
        Family::new("olmoe", RMS, &[NORMS, ROW_NORMS, Q_K_V, OUT]).experts(&[EXPERTS]),
        with_norm_bias(Family::new("nemotron", LAYER, &[NORMS, NORM_BIASES, Q_K_V, OUT, PLAIN]))
            .key("rope.dimension_count", 8u32),
        with_norm_bias(Family::new(
            "jais2",
            LAYER,
            &[NORMS, NORM_BIASES, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, PLAIN, PLAIN_BIAS],
        )),
        Family::new(
            "seed_oss",
            RMS,
            &[ATTN_NORM, POST_ATTENTION_NORM, Q_K_V, Q_K_V_BIAS, OUT, GATED],
        )
        .key("attention.key_length", 16u32)
        .key("attention.value_length", 16u32),
        Family::new("ernie4_5", RMS, separate),
        Family {
            has_experts: |layer| layer == 3,
            dense: vec![GATED],
            ..Family::new("ernie4_5-moe", RMS, attention)
                .experts(&[EXPERTS, CHOICE_BIAS, SHARED])
                .key("expert_shared_feed_forward_length", 32u32)
                .key("leading_dense_block_count", 2u32)
                .key("interleave_moe_layer_step", 2u32)
        },
        Family::new("chatglm", RMS, &[NORMS, QKV, QKV_BIAS, OUT, JOINED])
            .key("rope.dimension_count", 8u32),
        Family::new("glm4", RMS, &[NORMS, POST_NORMS, Q_K_V, Q_K_V_BIAS, OUT, JOINED])
            .key("rope.dimension_count", 8u32),
        Family::new("glm4moe", RMS, &[ATTN_NORM, POST_ATTENTION_NORM, HEAD_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, CHOICE_BIAS, SHARED])
            .dense_first()
            .shared()
            .sigmoid()
            .key("rope.dimension_count", 8u32),
        Family::new("minicpm", RMS, separate)
            .key("embedding_scale", 12f32)
            .key("residual_scale", 0.7f32)
            .key("logit_scale", 4f32),
        Family::new("minicpm3", RMS, &[NORMS, Q_LATENT, KV_LATENT, JOINT_LATENT, OUT, GATED])
            .key("attention.q_lora_rank", 48u32)
            .key("attention.kv_lora_rank", 32u32)
            .key("attention.key_length", 16u32)
            .key("attention.head_count_kv", 4u32)
            .key("rope.dimension_count", 8u32),
        Family::new("plm", RMS, &[NORMS, KV_LATENT, JOINT_LATENT, Q, OUT, PLAIN])
            .key("attention.kv_lora_rank", 32u32)
            .key("attention.key_length", 16u32)
            .key("attention.value_length", 16u32)
            .key("attention.head_count_kv", 4u32)
            .key("rope.dimension_count", 8u32),
        Family::new("mellum", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS])
            .window()
            .key("attention.sliding_window_pattern", 2u32),
        Family::new("plamo", RMS, &[ATTN_NORM, Q_K_V, OUT, GATED]),
        Family::new("dots1", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, CHOICE_BIAS, SHARED])
            .dense_first()
            .shared()
            .sigmoid(),
        Family::new("baichuan", RMS, separate),
        Family { n_layers: 40, ..Family::new("baichuan", RMS, separate) },
        Family::new("qwen", RMS, &[NORMS, QKV, QKV_BIAS, OUT, GATED])
            .key("feed_forward_length", 192u32),
        Family {
            whole: &[("output_norm.bias", &[64]), ("position_embd.weight", &[64, 64])],
            ..Family::new("starcoder", LAYER, all_biases)
        },
        Family {
            whole: &[
                ("output_norm.bias", &[64]),
                ("token_embd_norm.weight", &[64]),
                ("token_embd_norm.bias", &[64]),
            ],
            ..Family::new("bloom", LAYER, all_biases)
        },
        Family::new("mpt", LAYER, &[NORMS, ROW_NORMS, QKV, OUT, PLAIN])
            .key("attention.max_alibi_bias", 8f32),
        Family::new("refact", RMS, separate),
        with_norm_bias(Family::new(
            "jais",
            LAYER,
            &[NORMS, NORM_BIASES, QKV, QKV_BIAS, OUT, OUT_BIAS, GATED],
        ))
        .key("attention.max_alibi_bias", 8f32),
        with_norm_bias(Family::new("orion", LAYER, &[NORMS, NORM_BIASES, Q_K_V, OUT, GATED])),
        Family::new("xverse", RMS, separate),
        with_norm_bias(Family::new("codeshell", LAYER, all_biases)),
        Family::new("deepseek", RMS, attention)
            .experts(&[EXPERTS, SHARED])
            .dense_first()
            .shared()
            .key("expert_weights_scale", 1f32),
        Family::new("bailingmoe", RMS, attention).experts(&[EXPERTS, SHARED]).shared(),
        Family::new("bailingmoe2", RMS, &[NORMS, HEAD_NORMS, QKV, OUT])
            .experts(&[EXPERTS, CHOICE_BIAS, SHARED])
            .dense_first()
            .shared()
            .sigmoid()
            .key("expert_group_count", 2u32)
            .key("expert_group_used_count", 1u32),
        Family::new("exaone4", RMS, &[POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]),
        Family::new("exaone4", RMS, &[POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]).window(),
        Family::new("exaone-moe", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, CHOICE_BIAS, SHARED])
            .dense_first()
            .shared()
            .sigmoid()
            .window(),
        Family::new("arcee", RMS, &[NORMS, Q_K_V, OUT, PLAIN]),
        Family::new(
            "afmoe",
            RMS,
            &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, &[("attn_gate.weight", &[64, 64])], OUT],
        )
        .experts(&[EXPERTS, CHOICE_BIAS, SHARED])
        .dense_first()
        .shared()
        .sigmoid()
        .window(),
        Family::new("openelm", RMS, &[NORMS, HEAD_NORMS, QKV, OUT, GATED])
            .key("attention.head_count", [4u32; 4])
            .key("attention.head_count_kv", [2u32; 4])
            .key("feed_forward_length", [96u32; 4])
            .key("attention.key_length", 16u32)
            .key("attention.value_length", 16u32),
        Family::new("qwen2vl", RMS, &[NORMS, Q_K_V, Q_K_V_BIAS, OUT, GATED])
            .key("rope.dimension_sections", [2u32, 3, 3, 0]),
        Family::new("qwen3vl", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT, GATED])
            .key("rope.dimension_sections", [3u32, 3, 2, 0]),
        Family::new("qwen3vlmoe", RMS, &[NORMS, HEAD_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS])
            .key("rope.dimension_sections", [3u32, 3, 2, 0]),
        Family::new("minimax-m2", RMS, &[NORMS, ROW_NORMS, Q_K_V, OUT])
            .experts(&[EXPERTS, CHOICE_BIAS])
            .sigmoid()
            .key("rope.dimension_count", 8u32),
        Family::new("pangu-embedded", RMS, &[NORMS, Q_K_V, Q_K_V_BIAS, OUT, OUT_BIAS, GATED]),
        Family::new("cohere2", LAYER, &[ATTN_NORM, Q_K_V, OUT, GATED])
            .key("logit_scale", 0.25f32)
            .window(),
        Family::new("command-r", LAYER, &[ATTN_NORM, EACH_HEAD_NORMS, Q_K_V, OUT, GATED])
            .key("logit_scale", 0.25f32),
        Family::new("exaone", RMS, separate),
        with_norm_bias(Family::new(
            "falcon",
            LAYER,
            &[ATTN_NORM, SECOND_NORM, &[("attn_norm.bias", &[64])], QKV, OUT, PLAIN],
        )),
        Family::new("gemma", RMS, separate),
        Family {
            whole: &[
                ("rope_freqs.weight", &[8]),
                ("per_layer_token_embd.weight", &[32, 32]),
                ("per_layer_model_proj.weight", &[64, 32]),
                ("per_layer_proj_norm.weight", &[8]),
            ],
            ..Family::new(
                "gemma4",
                RMS,
                &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED, PER_LAYER],
            )
        }
        .window()
        .key("attention.sliding_window_pattern", [true, false, true, false])
        .key("attention.shared_kv_layers", 2u32)
        .key("embedding_length_per_layer_input", 8u32),
        Family {
            whole: &[("rope_freqs.weight", &[8])],
            ..Family::new("gemma4", RMS, &[NORMS, POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED])
        }
        .experts(&[EXPERTS_BESIDE])
        .window()
        .key("attention.sliding_window_pattern", [true, false, true, false]),
        with_norm_bias(Family::new("gptneox", LAYER, all_biases))
            .key("use_parallel_residual", true)
            .key("rope.dimension_count", 4u32),
        Family::new("granitemoe", RMS, attention)
            .experts(&[EXPERTS, SHARED])
            .key("expert_shared_feed_forward_length", 32u32)
            .key("embedding_scale", 12f32)
            .key("residual_scale", 0.22f32)
            .key("attention.scale", 0.0625f32)
            .key("logit_scale", 6f32),
        Family::new("internlm2", RMS, separate),
        Family {
            whole: &[("output_norm.bias", &[64]), ("output.bias", &[32])],
            ..Family::new(
                "phi2",
                LAYER,
                &[
                    ATTN_NORM,
                    &[("attn_norm.bias", &[64])],
                    QKV,
                    QKV_BIAS,
                    OUT,
                    OUT_BIAS,
                    PLAIN,
                    PLAIN_BIAS,
                ],
            )
        }
        .key("rope.dimension_count", 8u32),
        Family::new("qwen2moe", RMS, &[NORMS, Q_K_V, Q_K_V_BIAS, OUT])
            .experts(&[EXPERTS, SHARED, &[("ffn_gate_inp_shexp.weight", &[64])]])
            .key("expert_shared_feed_forward_length", 32u32),
        Family::new("smollm3", RMS, separate),
        Family::new("mistral3", RMS, separate)
            .key("rope.scaling.type", "yarn")
            .key("rope.scaling.factor", 4f32)
            .key("rope.scaling.original_context_length", 64u32)
            .key("attention.temperature_scale", 0.1f32),
    ]
}

#[test]
fn families_without_reference_files_run_like_the_oracle() {
    for family in families() {
        let model = family.model().unwrap_or_else(|error| panic!("{}: {error}", family.name));
        let wanted = logits(&model, &NaiveBackend);
        let off = compare(&logits(&model, &cpu()), &wanted);
        assert!(off.rms_wanted > 1e-2, "{}: logits near zero show nothing", family.name);
        assert!(off.max_abs <= 1e-4 * off.rms_wanted.max(1.0), "{}: {off}", family.name);
    }
}

#[test]
fn a_tensor_that_nothing_uses_is_refused_by_name() {
    for mut family in families() {
        family.layer.push(&[("ffn_surprise.weight", &[64])]);
        let error = family.model().unwrap_err().to_string();
        assert!(error.contains("blk.0.ffn_surprise.weight"), "{}: {error}", family.name);
    }
}

#[test]
fn every_decoder_is_here_or_in_the_kit() {
    let here = families().into_iter().map(|family| family.name.to_owned());
    let kit = realm_testkit::kit::cases("logits").into_iter();
    let kit = kit.filter_map(|case| {
        let bytes = realm_testkit::kit::read_maybe_gz(case["model"].as_str()?);
        let gguf = Gguf::from_bytes(bytes).ok()?;
        Some(gguf.metadata().require_str("general.architecture").ok()?.to_owned())
    });
    // Has a file of tests alone.
    let elsewhere = ["gemma3n".to_owned()];
    let known: Vec<String> = here.chain(kit).chain(elsewhere).collect();
    // Encoders have no logits; the engine's tests of embeddings run them.
    let decoders = realm_model::arch::RECIPES.iter().filter(|recipe| !recipe.is_encoder);
    let missing: Vec<_> = decoders
        .map(|recipe| recipe.name)
        .filter(|name| !known.iter().any(|known| known == name))
        .collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}

#[test]
fn latent_matrices_in_one_tensor_give_what_they_give_in_two() {
    let heads: &[&[Tensor]] = &[NORMS, Q_LATENT, KV_LATENT, OUT, GATED];
    let keys = |family: Family| {
        family
            .key("attention.q_lora_rank", 48u32)
            .key("attention.kv_lora_rank", 32u32)
            .key("rope.dimension_count", 8u32)
    };
    let joint =
        Family { layer: [heads, &[JOINT_LATENT]].concat(), ..Family::new("deepseek2", RMS, &[]) };
    let joint = keys(joint)
        .key("attention.head_count_kv", 4u32)
        .key("attention.key_length", 16u32)
        .key("attention.value_length", 16u32);
    let split = keys(Family::new("deepseek2", RMS, heads))
        .key("attention.head_count_kv", 1u32)
        .key("attention.key_length", 40u32)
        .key("attention.value_length", 32u32)
        .key("attention.key_length_mla", 16u32)
        .key("attention.value_length_mla", 16u32);

    let tensors = joint.random_tensors();
    let mut two = Vec::new();
    for (name, shape, values) in &tensors {
        if !name.ends_with("attn_kv_b.weight") {
            two.push((name.clone(), shape.clone(), values.clone()));
            continue;
        }
        // Of each head, 8 rows for the key and 16 for the value, of 32 values each.
        let row = |head: usize, row: usize| &values[(head * 24 + row) * 32..][..32];
        let (mut k, mut v) = (vec![], vec![]);
        for head in 0..4 {
            k.extend((0..32 * 8).map(|i| row(head, i % 8)[i / 8]));
            (8..24).for_each(|i| v.extend_from_slice(row(head, i)));
        }
        two.push((name.replace("kv_b", "k_b"), vec![8, 32, 4], k));
        two.push((name.replace("kv_b", "v_b"), vec![32, 16, 4], v));
    }
    let joint = model(&joint.write(&tensors)).unwrap();
    let split = model(&split.write(&two)).unwrap();
    assert!(logits(&joint, &cpu()) == logits(&split, &cpu()));
}

#[test]
fn what_cannot_be_run_exactly_is_refused_by_name() {
    let dense: &[&[Tensor]] = &[NORMS, Q_K_V, OUT, GATED];
    for (family, expected) in [
        (
            Family::new("mpt", LAYER, &[NORMS, QKV, OUT, PLAIN]).key("attention.clamp_kqv", 6f32),
            "mpt.attention.clamp_kqv",
        ),
        (
            Family::new("mistral3", RMS, dense)
                .key("attention.temperature_scale", 0.1f32)
                .key("rope.scaling.original_context_length", 32u32),
            "up to 32",
        ),
        (Family::new("minicpm", RMS, dense), "minicpm.logit_scale"),
        (Family::new("llama", RMS, dense).key("nextn_predict_layers", 4u32), "fewer than the 4"),
    ] {
        let error = family.model().unwrap_err().to_string();
        assert!(error.contains(expected), "{}: {error}", family.name);
    }
}

#[test]
fn blocks_that_predict_further_tokens_are_left_out() {
    let dense: &[&[Tensor]] = &[NORMS, Q_K_V, OUT, GATED];
    let family = Family::new("llama", RMS, dense);
    let tensors = family.random_tensors();
    let wanted = logits(&model(&family.write(&tensors)).unwrap(), &cpu());
    let mut with_more = tensors;
    with_more.push(("blk.4.nextn.eh_proj.weight".into(), vec![128, 64], vec![0.0; 128 * 64]));
    let family = family.key("block_count", 5u32).key("nextn_predict_layers", 1u32);
    assert!(logits(&model(&family.write(&with_more)).unwrap(), &cpu()) == wanted);
}

#[test]
fn sections_pair_halves_and_a_pattern_may_be_a_number() {
    let layer: &[&[Tensor]] = &[NORMS, POST_NORMS, Q_K_V, OUT, JOINED];
    let whole = Family::new("glm4", RMS, layer);
    let tensors = whole.random_tensors();
    let run = |family: Family| logits(&model(&family.write(&tensors)).unwrap(), &cpu());
    let sections = |widths: [u32; 4]| whole.clone().key("rope.dimension_sections", widths);
    // GLM-4 pairs neighbours: with halves instead, each head's values come in another order.
    let plain = run(whole.clone());
    assert!(run(sections([2, 3, 3, 0])) != plain);
    assert!(run(sections([0, 0, 0, 0])) == plain);

    let window = Family::new("exaone4", RMS, &[POST_NORMS, HEAD_NORMS, Q_K_V, OUT, GATED]).window();
    let tensors = window.random_tensors();
    let run = |family: Family| logits(&model(&family.write(&tensors)).unwrap(), &cpu());
    let key = "attention.sliding_window_pattern";
    let named = run(window.clone().key(key, [true, false, true, false]));
    assert!(run(window.clone().key(key, 2u32)) == named);
    assert!(run(window) != named);
}

#[test]
fn damaged_files_of_every_family_give_a_program_or_an_error() {
    let mut random = Random::new(5);
    let mut refused = 0;
    for family in families() {
        let bytes = family.write(&family.random_tensors());
        // Keys, then names and shapes: the numbers that everything is computed from.
        let header = bytes.windows(17).position(|text| text == b"token_embd.weight").unwrap();
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random.below(3) {
                damaged[random.below(header + 4096)] = random.below(256) as u8;
            }
            refused += usize::from(model(&damaged).is_err());
        }
    }
    assert!(refused > 1000, "most damage is noticed, {refused} refused");
}

#[test]
fn a_factor_beside_a_matrix_is_as_good_as_in_it() {
    for layer in [[NORMS, Q_K_V, Q_K_V_BIAS, OUT, GATED], [NORMS, QKV, QKV_BIAS, OUT, JOINED]] {
        let family = Family::new("ernie4_5", RMS, &layer);
        let scaled = family.random_tensors();
        let wanted = logits(&model(&family.write(&scaled)).unwrap(), &cpu());
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
        assert!(logits(&model(&family.write(&beside)).unwrap(), &cpu()) == wanted);
    }
}
