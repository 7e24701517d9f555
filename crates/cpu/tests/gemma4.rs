//! The sizes of Gemma 4 that the conformance kit has no file of, against its definition
//! written down plainly: dense ones, and those with experts beside the dense part. Two
//! layers, one with a window and narrow heads, one without either and without a matrix
//! for values.
//!
//! One token alone: attention then is the value itself. What more positions do is tested
//! on the kit's file.
//!
//! Source: `modeling_gemma4` in transformers and `src/models/gemma4.cpp` in llama.cpp.

use std::collections::BTreeMap;
use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::{Gguf, TensorType};
use realm_model::{Error, build};
use realm_testkit::compare::compare;
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_testkit::program::{Call, Model, Size};
use realm_testkit::random::Random;

const WIDTH: usize = 64;
const HEADS: usize = 4;
const INNER: usize = 96;
const N_VOCAB: usize = 32;
const N_EXPERTS: usize = 4;
const EXPERT_INNER: usize = 32;

/// Key and value heads, and their width.
fn kv_heads(layer: usize) -> (usize, usize) {
    if layer.is_multiple_of(2) { (2, 16) } else { (1, 32) }
}

/// A file in the making.
#[derive(Clone)]
struct File {
    keys: Vec<(&'static str, KvValue)>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    random: Random,
}

impl File {
    fn dense(n_layers: usize) -> Self {
        let each = |value: fn(usize) -> u32| (0..n_layers).map(value).collect::<Vec<u32>>();
        let pattern: Vec<bool> = (0..n_layers).map(|layer| layer.is_multiple_of(2)).collect();
        let keys: Vec<(&str, KvValue)> = vec![
            ("block_count", (n_layers as u32).into()),
            ("context_length", 64u32.into()),
            ("embedding_length", (WIDTH as u32).into()),
            ("feed_forward_length", (INNER as u32).into()),
            ("attention.head_count", (HEADS as u32).into()),
            ("attention.head_count_kv", each(|layer| kv_heads(layer).0 as u32).into()),
            ("attention.layer_norm_rms_epsilon", 1e-6f32.into()),
            ("attention.key_length", 32u32.into()),
            ("attention.value_length", 32u32.into()),
            ("attention.key_length_swa", 16u32.into()),
            ("attention.value_length_swa", 16u32.into()),
            ("attention.sliding_window", 3u32.into()),
            ("attention.sliding_window_pattern", pattern.into()),
            ("rope.dimension_count", 32u32.into()),
            ("rope.dimension_count_swa", 16u32.into()),
            ("rope.freq_base", 1e6f32.into()),
            ("embedding_length_per_layer_input", 0u32.into()),
            ("final_logit_softcapping", 30f32.into()),
        ];
        let mut file = File { keys, tensors: BTreeMap::new(), random: Random::new(21) };
        file.matrix("token_embd.weight", &[WIDTH, N_VOCAB]);
        file.factors("output_norm.weight", WIDTH);
        file.factors("rope_freqs.weight", 16);
        for layer in 0..n_layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let (n_kv, head) = kv_heads(layer);
            for norm in ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"] {
                file.factors(&name(norm), WIDTH);
            }
            for norm in ["attn_q_norm", "attn_k_norm"] {
                file.factors(&name(norm), head);
            }
            file.factors(&name("layer_output_scale"), 1);
            file.matrix(&name("attn_q"), &[WIDTH, HEADS * head]);
            file.matrix(&name("attn_k"), &[WIDTH, n_kv * head]);
            if layer.is_multiple_of(2) {
                file.matrix(&name("attn_v"), &[WIDTH, n_kv * head]);
            }
            file.matrix(&name("attn_output"), &[HEADS * head, WIDTH]);
            file.matrix(&name("ffn_gate"), &[WIDTH, INNER]);
            file.matrix(&name("ffn_up"), &[WIDTH, INNER]);
            file.matrix(&name("ffn_down"), &[INNER, WIDTH]);
        }
        file
    }

    fn with_experts() -> Self {
        let mut file = File::dense(2);
        for (key, count) in [
            ("expert_count", N_EXPERTS),
            ("expert_used_count", 2),
            ("expert_feed_forward_length", EXPERT_INNER),
        ] {
            file.keys.push((key, (count as u32).into()));
        }
        for layer in 0..2 {
            let name = |part: &str| format!("blk.{layer}.{part}");
            for norm in ["pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"] {
                file.factors(&name(&format!("{norm}.weight")), WIDTH);
            }
            file.factors(&name("ffn_gate_inp.scale"), WIDTH);
            // Large, so that the chosen experts weigh differently.
            file.matrix(&name("ffn_gate_inp.weight"), &[WIDTH, N_EXPERTS]);
            let (_, router) = file.tensors.get_mut(&name("ffn_gate_inp.weight")).unwrap();
            router.iter_mut().for_each(|value| *value *= 8.0);
            file.factors(&name("ffn_down_exps.scale"), N_EXPERTS);
            let (gate_up, down) = (name("ffn_gate_up_exps.weight"), name("ffn_down_exps.weight"));
            file.matrix(&gate_up, &[WIDTH, 2 * EXPERT_INNER, N_EXPERTS]);
            file.matrix(&down, &[EXPERT_INNER, WIDTH, N_EXPERTS]);
        }
        file
    }

    fn tensor(&mut self, name: &str, shape: &[usize], mean: f32, deviation: f32) {
        let normals = self.random.normals(shape.iter().product());
        let values = normals.into_iter().map(|value| mean + deviation * value).collect();
        self.tensors.insert(name.to_owned(), (shape.to_vec(), values));
    }

    fn matrix(&mut self, name: &str, shape: &[usize]) {
        self.tensor(name, shape, 0.0, 1.0 / (shape[0] as f32).sqrt());
    }

    fn factors(&mut self, name: &str, n: usize) {
        self.tensor(name, &[n], 1.0, 0.1);
    }

    fn key(mut self, name: &'static str, value: impl Into<KvValue>) -> Self {
        self.keys.retain(|key| key.0 != name);
        self.keys.push((name, value.into()));
        self
    }

    fn without_key(mut self, name: &str) -> Self {
        self.keys.retain(|key| key.0 != name);
        self
    }

    fn model(&self) -> Result<Model, Box<Error>> {
        let mut writer = GgufWriter::new();
        writer.kv("general.architecture", "gemma4");
        for (name, value) in &self.keys {
            writer.kv(&format!("gemma4.{name}"), value.clone());
        }
        for (name, (shape, values)) in &self.tensors {
            writer.tensor_f32(name, shape, TensorType::F32, values);
        }
        let plan = build(&Gguf::from_bytes(writer.to_bytes())?, 64)?;
        Ok(Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers })
    }

    fn values(&self, name: &str) -> Vec<f64> {
        self.tensors[name].1.iter().map(|value| f64::from(*value)).collect()
    }

    /// Rows of a matrix, from `first` on, times `x`.
    fn product(&self, name: &str, first: usize, n: usize, x: &[f64]) -> Vec<f64> {
        let rows = self.values(name);
        let rows = rows.chunks_exact(x.len()).skip(first).take(n);
        rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        bare_norm(x).iter().zip(self.values(name)).map(|(x, w)| x * w).collect()
    }

    /// Logits of one token alone, by the definition.
    fn logits(&self, token: u32) -> Vec<f32> {
        let table = self.values("token_embd.weight");
        let row = &table[token as usize * WIDTH..][..WIDTH];
        let mut hidden: Vec<f64> = row.iter().map(|x| x * (WIDTH as f64).sqrt()).collect();
        for layer in 0..2 {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let x = self.norm(&name("attn_norm"), &hidden);
            let (n_kv, head) = kv_heads(layer);
            let matrix = if layer.is_multiple_of(2) { "attn_v" } else { "attn_k" };
            let values = self.product(&name(matrix), 0, n_kv * head, &x);
            let values: Vec<Vec<f64>> = values.chunks(head).map(bare_norm).collect();
            let mixed: Vec<f64> =
                (0..HEADS).flat_map(|head| values[head * n_kv / HEADS].clone()).collect();
            let out = self.product(&name("attn_output"), 0, WIDTH, &mixed);
            add(&mut hidden, &self.norm(&name("post_attention_norm"), &out));
            let out = self.feed_forward(layer, &hidden);
            add(&mut hidden, &self.norm(&name("post_ffw_norm"), &out));
            let scale = self.values(&name("layer_output_scale"))[0];
            hidden.iter_mut().for_each(|value| *value *= scale);
        }
        let x = self.norm("output_norm.weight", &hidden);
        let logits = self.product("token_embd.weight", 0, N_VOCAB, &x);
        logits.into_iter().map(|logit| (30.0 * (logit / 30.0).tanh()) as f32).collect()
    }

    fn feed_forward(&self, layer: usize, hidden: &[f64]) -> Vec<f64> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let x = self.norm(&name("ffn_norm.weight"), hidden);
        let gate = self.product(&name("ffn_gate.weight"), 0, INNER, &x);
        let up = self.product(&name("ffn_up.weight"), 0, INNER, &x);
        let dense = self.product(&name("ffn_down.weight"), 0, WIDTH, &gelu_times(&gate, &up));
        if !self.tensors.contains_key(&name("ffn_gate_inp.weight")) {
            return dense;
        }
        let mut sum = self.norm(&name("post_ffw_norm_1.weight"), &dense);

        let mut router_input = bare_norm(hidden);
        for (x, scale) in router_input.iter_mut().zip(self.values(&name("ffn_gate_inp.scale"))) {
            *x *= scale / (WIDTH as f64).sqrt();
        }
        let logits = self.product(&name("ffn_gate_inp.weight"), 0, N_EXPERTS, &router_input);
        let mut order: Vec<usize> = (0..N_EXPERTS).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let chosen = &order[..2];
        let total: f64 = chosen.iter().map(|expert| logits[*expert].exp()).sum();

        let x = self.norm(&name("pre_ffw_norm_2.weight"), hidden);
        let scales = self.values(&name("ffn_down_exps.scale"));
        let mut experts = vec![0.0; WIDTH];
        for expert in chosen {
            let first = expert * 2 * EXPERT_INNER;
            let rows =
                |first| self.product(&name("ffn_gate_up_exps.weight"), first, EXPERT_INNER, &x);
            let inner = gelu_times(&rows(first), &rows(first + EXPERT_INNER));
            let out = self.product(&name("ffn_down_exps.weight"), expert * WIDTH, WIDTH, &inner);
            let weight = logits[*expert].exp() / total * scales[*expert];
            add(&mut experts, &out.iter().map(|value| value * weight).collect::<Vec<f64>>());
        }
        add(&mut sum, &self.norm(&name("post_ffw_norm_2.weight"), &experts));
        sum
    }
}

fn add(sum: &mut [f64], term: &[f64]) {
    sum.iter_mut().zip(term).for_each(|(sum, term)| *sum += term);
}

fn bare_norm(x: &[f64]) -> Vec<f64> {
    let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().map(|x| x / (mean_square + 1e-6).sqrt()).collect()
}

fn gelu_times(gate: &[f64], up: &[f64]) -> Vec<f64> {
    let gelu = |x: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        0.5 * x * (1.0 + inner.tanh())
    };
    gate.iter().zip(up).map(|(gate, up)| gelu(*gate) * up).collect()
}

fn cpu() -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() }).unwrap()
}

fn run(model: &Model, calls: &[Call]) -> Vec<f32> {
    let mut session = model.open(&cpu(), Size::default()).unwrap();
    calls.iter().flat_map(|call| call.logits(model, &mut *session).unwrap()).collect()
}

#[test]
fn one_token_of_each_size_gives_the_logits_of_the_definition() {
    for (what, file) in [("dense", File::dense(2)), ("experts", File::with_experts())] {
        let model = file.model().unwrap();
        for token in [0, 7, 31] {
            let got = run(&model, &[Call::one(&[token], 0, &[0])]);
            let off = compare(&got, &file.logits(token));
            assert!(off.rms_wanted > 0.1, "{what}: logits near zero show nothing");
            assert!(off.max_abs <= 1e-4 * off.rms_wanted, "{what}, token {token}: {off}");
        }
    }
}

/// A prompt longer than the window, then one token more.
fn calls() -> [Call; 2] {
    [Call::one(&[5, 9, 30, 1, 2, 31, 7], 0, &[3, 11]), Call::one(&[12], 7, &[3, 11])]
}

#[test]
fn gate_and_up_in_one_matrix_are_as_good_as_in_two() {
    let joint = File::with_experts();
    let mut split = joint.clone();
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.ffn_{part}_exps.weight");
        let (_, both) = split.tensors.remove(&name("gate_up")).unwrap();
        let half = WIDTH * EXPERT_INNER;
        for (part, first) in [("gate", 0), ("up", half)] {
            let experts = both.chunks_exact(2 * half);
            let values = experts.flat_map(|both| &both[first..first + half]).copied().collect();
            split.tensors.insert(name(part), (vec![WIDTH, EXPERT_INNER, N_EXPERTS], values));
        }
    }
    assert!(run(&joint.model().unwrap(), &calls()) == run(&split.model().unwrap(), &calls()));
}

#[test]
fn queries_keys_and_values_in_one_matrix_are_as_good_as_in_three() {
    let apart = File::dense(2);
    let mut fused = apart.clone();
    let (mut n_rows, mut rows) = (0, vec![]);
    for part in ["q", "k", "v"] {
        let (shape, values) = fused.tensors.remove(&format!("blk.0.attn_{part}.weight")).unwrap();
        n_rows += shape[1];
        rows.extend(values);
    }
    fused.tensors.insert("blk.0.attn_qkv.weight".to_owned(), (vec![WIDTH, n_rows], rows));
    assert!(run(&apart.model().unwrap(), &calls()) == run(&fused.model().unwrap(), &calls()));
}

#[test]
fn layers_that_share_keys_and_values_leave_their_own_unread() {
    let whole = File::dense(6).key("attention.shared_kv_layers", 2u32);
    let mut without = whole.clone();
    let own = |name: &str| ["attn_k.", "attn_v.", "attn_k_norm."].iter().any(|p| name.contains(p));
    let is_sharing = |name: &str| name.starts_with("blk.4.") || name.starts_with("blk.5.");
    without.tensors.retain(|name, _| !(is_sharing(name) && own(name)));
    let (model, apart) = (without.model().unwrap(), File::dense(6).model().unwrap());
    assert_eq!((model.kv_layers.len(), apart.kv_layers.len()), (4, 6));
    let program = &model.program;
    let sources: Vec<usize> = (0..6).map(|layer| program.kv_source(layer)).collect();
    assert_eq!(sources, [0, 1, 2, 3, 2, 3], "the last of the same kind");
    let shared = run(&model, &calls());
    assert!(run(&whole.model().unwrap(), &calls()) == shared);
    assert!(run(&apart, &calls()) != shared);
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    let three_heads: [u32; 4] = [2, 1, 4, 1];
    let mut without_rope_freqs = File::dense(2);
    without_rope_freqs.tensors.remove("rope_freqs.weight");
    let mut narrow_values = File::dense(2).key("attention.value_length", 16u32);
    narrow_values.matrix("blk.1.attn_output.weight", &[HEADS * 16, WIDTH]);
    for (file, expected) in [
        (File::dense(2).without_key("attention.sliding_window_pattern"), "sliding_window_pattern"),
        (File::dense(2).without_key("attention.sliding_window"), "attention.sliding_window"),
        (File::dense(2).key("attention.shared_kv_layers", 2u32), "fewer than the 2 layers"),
        (File::dense(2).key("attention.shared_kv_layers", 1u32), "for layer 1"),
        (
            File::dense(4)
                .key("attention.shared_kv_layers", 2u32)
                .key("attention.head_count_kv", three_heads),
            "4 key and value heads for layer 2",
        ),
        (File::dense(2).key("rope.dimension_count_swa", 32u32), "up to 16"),
        (without_rope_freqs, "rope_freqs.weight"),
        (narrow_values, "blk.1.attn_v.weight"),
    ] {
        let error = file.model().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
