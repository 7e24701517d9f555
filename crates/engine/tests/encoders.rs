//! Encoder families without a reference file: random models against loops written
//! from the papers, which know nothing of steps, slots or batches.

use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::load::{BackendChoice, OpenBackend, Watcher};
use realm_engine::model::{ModelHandle, Source, wait};
use realm_engine::{LoadOptions, Pooling, Prompt};
use realm_gguf::TensorType;
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_testkit::random::Random;

const WIDTH: usize = 32;
const HEADS: usize = 4;
const INNER: usize = 48;
const LAYERS: usize = 2;
const EXPERTS: usize = 3;
const TOKENS: [&str; 8] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u{2581}a", "\u{2581}b", "\u{2581}c", "d"];

/// Weights by name, and the file's keys.
struct Toy {
    architecture: &'static str,
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    keys: Vec<(&'static str, KvValue)>,
    /// Text around a query and a document.
    rank_template: Option<&'static str>,
    random: Random,
}

impl Toy {
    fn new(architecture: &'static str) -> Self {
        let mut toy = Toy {
            architecture,
            weights: BTreeMap::new(),
            keys: Vec::new(),
            rank_template: None,
            random: Random::new(1),
        };
        toy.add("token_embd.weight", &[WIDTH, TOKENS.len()]);
        toy.add("token_types.weight", &[WIDTH, 2]);
        toy.norm("token_embd_norm");
        for layer in 0..LAYERS {
            toy.norm(&format!("blk.{layer}.attn_output_norm"));
            toy.norm(&format!("blk.{layer}.layer_output_norm"));
            toy.add(&format!("blk.{layer}.attn_output.weight"), &[WIDTH, WIDTH]);
        }
        toy
    }

    /// A tensor of numbers around 0 that keep rows at a size of about 1.
    fn add(&mut self, name: &str, shape: &[usize]) {
        let n = shape.iter().product();
        let values = (0..n).map(|_| self.random.unit() - 0.5).collect();
        self.weights.insert(name.into(), (shape.to_vec(), values));
    }

    fn norm(&mut self, name: &str) {
        self.add(&format!("{name}.weight"), &[WIDTH]);
        self.add(&format!("{name}.bias"), &[WIDTH]);
    }

    fn linear(&mut self, name: &str, shape: [usize; 2]) {
        self.add(&format!("{name}.weight"), &shape);
        self.add(&format!("{name}.bias"), &shape[1..]);
    }

    fn file(&self) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        writer.kv("general.architecture", self.architecture);
        let mut key = |name: &str, value: KvValue| {
            writer.kv(&format!("{}.{name}", self.architecture), value);
        };
        key("block_count", (LAYERS as u32).into());
        key("context_length", 64u32.into());
        key("embedding_length", (WIDTH as u32).into());
        key("feed_forward_length", (INNER as u32).into());
        key("attention.head_count", (HEADS as u32).into());
        key("attention.layer_norm_epsilon", 1e-5f32.into());
        for (name, value) in &self.keys {
            key(name, value.clone());
        }
        writer.kv("tokenizer.ggml.model", "bert").kv("tokenizer.ggml.pre", "default");
        writer.kv("tokenizer.ggml.tokens", &TOKENS[..]);
        writer.kv("tokenizer.ggml.token_type", &[3i32, 2, 3, 3, 1, 1, 1, 1][..]);
        writer.kv("tokenizer.ggml.token_type_count", 2u32);
        for (name, id) in
            [("bos", 2u32), ("eos", 3), ("unknown", 1), ("seperator", 3), ("padding", 0)]
        {
            writer.kv(&format!("tokenizer.ggml.{name}_token_id"), id);
        }
        writer.kv("tokenizer.ggml.add_bos_token", true).kv("tokenizer.ggml.add_eos_token", true);
        if let Some(template) = self.rank_template {
            writer.kv("tokenizer.chat_template.rerank", template);
        }
        for (name, (shape, values)) in &self.weights {
            writer.tensor_f32(name, shape, TensorType::F32, values);
        }
        writer.to_bytes()
    }

    fn load(&self) -> ModelHandle {
        let open = || {
            let backend =
                Arc::new(CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() })?);
            Ok(OpenBackend { backend, threads: 2, device: String::new(), kernel: |_, _| None })
        };
        let cpu = BackendChoice { name: "cpu".into(), open: Box::new(open) };
        let cancel = AtomicBool::new(false);
        let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
        let source = Source::Bytes(vec![self.file().into()]);
        ModelHandle::load(source, &LoadOptions::default(), &[cpu], watcher).unwrap()
    }

    fn get(&self, name: &str) -> Option<Vec<f64>> {
        let (_, values) = self.weights.get(name)?;
        Some(values.iter().map(|value| f64::from(*value)).collect())
    }

    fn at(&self, layer: usize, name: &str) -> String {
        format!("blk.{layer}.{name}")
    }

    /// `x W^T + b` with rows `from..` of the matrix, as many as `n`.
    fn product(&self, name: &str, x: &[f64], from: usize, n: usize) -> Vec<f64> {
        let weight = self.get(&format!("{name}.weight")).unwrap();
        let bias = self.get(&format!("{name}.bias"));
        let row = |i: usize| &weight[i * x.len()..(i + 1) * x.len()];
        let dot = |i: usize| row(i).iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        (from..from + n).map(|i| dot(i) + bias.as_ref().map_or(0.0, |bias| bias[i])).collect()
    }

    fn layer_norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) =
            (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let (weight, bias) = (weight.unwrap(), bias.unwrap());
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let scale = 1.0 / (variance + 1e-5).sqrt();
        (0..x.len()).map(|i| (x[i] - mean) * scale * weight[i] + bias[i]).collect()
    }

    /// Hidden states of a text, token by token.
    fn hidden(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        let table = self.get("token_embd.weight").unwrap();
        let types = self.get("token_types.weight").unwrap();
        let embed = |id: &u32| -> Vec<f64> {
            let sum = |i: usize| table[*id as usize * WIDTH + i] + types[i];
            self.layer_norm("token_embd_norm", &(0..WIDTH).map(sum).collect::<Vec<_>>())
        };
        let mut rows: Vec<Vec<f64>> = ids.iter().map(embed).collect();
        for layer in 0..LAYERS {
            let mixed = self.attention(layer, &rows);
            for (x, mixed) in rows.iter_mut().zip(mixed) {
                let mut h = self.layer_norm(&self.at(layer, "attn_output_norm"), &sum(x, &mixed));
                if self.weights.contains_key(&self.at(layer, "attn_norm_2.weight")) {
                    h = self.layer_norm(&self.at(layer, "attn_norm_2"), &sum(x, &h));
                }
                let out = self.feed_forward(layer, &h);
                *x = self.layer_norm(&self.at(layer, "layer_output_norm"), &sum(&h, &out));
            }
        }
        rows
    }

    fn attention(&self, layer: usize, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        const HEAD: usize = WIDTH / HEADS;
        let is_jina = self.architecture == "jina-bert-v2";
        let projected = |part: usize, position: usize| -> Vec<f64> {
            let x = &rows[position];
            if !is_jina {
                let mut out = self.product(&self.at(layer, "attn_qkv"), x, part * WIDTH, WIDTH);
                if part < 2 {
                    out.chunks_exact_mut(HEAD).for_each(|head| rotate(head, position));
                }
                return out;
            }
            let letter = ["q", "k", "v"][part];
            let out = self.product(&self.at(layer, &format!("attn_{letter}")), x, 0, WIDTH);
            let norm = self.at(layer, &format!("attn_{letter}_norm"));
            match self.weights.contains_key(&format!("{norm}.weight")) {
                true => self.layer_norm(&norm, &out),
                false => out,
            }
        };
        let n = rows.len();
        let [q, k, v] = [0, 1, 2].map(|part| -> Vec<Vec<f64>> {
            (0..n).map(|position| projected(part, position)).collect()
        });
        let mix = |i: usize| {
            let mut mixed = vec![0.0; WIDTH];
            for head in 0..HEADS {
                let part = head * HEAD..(head + 1) * HEAD;
                // Slopes of 4 heads: 2^-2, 2^-4, 2^-6, 2^-8.
                let slope = if is_jina { 0.25f64.powi(head as i32 + 1) } else { 0.0 };
                let score = |j: usize| {
                    let dot: f64 = q[i][part.clone()]
                        .iter()
                        .zip(&k[j][part.clone()])
                        .map(|(a, b)| a * b)
                        .sum();
                    dot / (HEAD as f64).sqrt() - slope * i.abs_diff(j) as f64
                };
                let weights = softmax(&(0..n).map(score).collect::<Vec<_>>());
                for (j, weight) in weights.iter().enumerate() {
                    part.clone().for_each(|c| mixed[c] += weight * v[j][c]);
                }
            }
            self.product(&self.at(layer, "attn_output"), &mixed, 0, WIDTH)
        };
        (0..n).map(mix).collect()
    }

    fn feed_forward(&self, layer: usize, x: &[f64]) -> Vec<f64> {
        let name = |part: &str| self.at(layer, part);
        if self.weights.contains_key(&name("ffn_gate_inp.weight")) {
            return self.experts(layer, x);
        }
        let (is_gated, activation): (bool, fn(f64) -> f64) = match self.architecture {
            "nomic-bert" => (true, |x| x / (1.0 + (-x).exp())),
            "jina-bert-v2" => (true, gelu),
            _ => (false, gelu),
        };
        let inner: Vec<f64> = if is_gated {
            let gate = self.product(&name("ffn_gate"), x, 0, INNER);
            let up = self.product(&name("ffn_up"), x, 0, INNER);
            gate.iter().zip(up).map(|(gate, up)| activation(*gate) * up).collect()
        } else {
            self.product(&name("ffn_up"), x, 0, INNER).into_iter().map(activation).collect()
        };
        self.product(&name("ffn_down"), &inner, 0, WIDTH)
    }

    /// The better two of three experts, weighted by their share among all.
    fn experts(&self, layer: usize, x: &[f64]) -> Vec<f64> {
        let name = |part: &str| self.at(layer, part);
        let shares = softmax(&self.product(&name("ffn_gate_inp"), x, 0, EXPERTS));
        let worst = (0..EXPERTS).min_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap();
        let mut out = vec![0.0; WIDTH];
        for expert in (0..EXPERTS).filter(|expert| *expert != worst) {
            let up = self.product(&name("ffn_up_exps"), x, expert * INNER, INNER);
            let inner: Vec<f64> = up.into_iter().map(gelu).collect();
            let down = self.product(&name("ffn_down_exps"), &inner, expert * WIDTH, WIDTH);
            out.iter_mut().zip(down).for_each(|(out, down)| *out += shares[expert] * down);
        }
        out
    }
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let weights: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Turns `(x[i], x[i + n / 2])` by `position * 1000^(-2 i / n)`.
fn rotate(head: &mut [f64], position: usize) {
    let half = head.len() / 2;
    for i in 0..half {
        let angle = position as f64 * 1000f64.powf(-(i as f64) / half as f64);
        let (a, b) = (head[i], head[i + half]);
        head[i] = a * angle.cos() - b * angle.sin();
        head[i + half] = a * angle.sin() + b * angle.cos();
    }
}

/// GELU with the error function as its power series.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let mut term = z;
    let mut erf = z;
    for n in 1..100 {
        term *= -z * z / f64::from(n);
        erf += term / f64::from(2 * n + 1);
    }
    0.5 * x * (1.0 + erf * 2.0 / PI.sqrt())
}

fn nomic(architecture: &'static str) -> Toy {
    let mut toy = Toy::new(architecture);
    toy.keys.push(("rope.freq_base", 1000f32.into()));
    for layer in 0..LAYERS {
        toy.add(&format!("blk.{layer}.attn_qkv.weight"), &[WIDTH, 3 * WIDTH]);
    }
    toy
}

fn nomic_bert() -> Toy {
    let mut toy = nomic("nomic-bert");
    for layer in 0..LAYERS {
        toy.add(&format!("blk.{layer}.ffn_gate.weight"), &[WIDTH, INNER]);
        toy.add(&format!("blk.{layer}.ffn_up.weight"), &[WIDTH, INNER]);
        toy.add(&format!("blk.{layer}.ffn_down.weight"), &[INNER, WIDTH]);
    }
    toy
}

fn nomic_bert_moe() -> Toy {
    let mut toy = nomic("nomic-bert-moe");
    toy.keys.push(("expert_count", (EXPERTS as u32).into()));
    toy.keys.push(("expert_used_count", 2u32.into()));
    toy.keys.push(("moe_every_n_layers", 2u32.into()));
    toy.linear("blk.0.ffn_up", [WIDTH, INNER]);
    toy.linear("blk.0.ffn_down", [INNER, WIDTH]);
    toy.add("blk.1.ffn_gate_inp.weight", &[WIDTH, EXPERTS]);
    toy.add("blk.1.ffn_up_exps.weight", &[WIDTH, INNER, EXPERTS]);
    toy.add("blk.1.ffn_down_exps.weight", &[INNER, WIDTH, EXPERTS]);
    toy
}

fn jina_bert_v2() -> Toy {
    let mut toy = Toy::new("jina-bert-v2");
    for layer in 0..LAYERS {
        for letter in ["q", "k", "v"] {
            toy.linear(&format!("blk.{layer}.attn_{letter}"), [WIDTH, WIDTH]);
        }
        toy.add(&format!("blk.{layer}.ffn_gate.weight"), &[WIDTH, INNER]);
        toy.add(&format!("blk.{layer}.ffn_up.weight"), &[WIDTH, INNER]);
        toy.linear(&format!("blk.{layer}.ffn_down"), [INNER, WIDTH]);
    }
    toy
}

/// Jina's code model: norms of queries and keys, and a second norm after attention.
fn jina_bert_v2_code() -> Toy {
    let mut toy = jina_bert_v2();
    for layer in 0..LAYERS {
        for part in ["attn_q_norm", "attn_k_norm", "attn_norm_2"] {
            toy.norm(&format!("blk.{layer}.{part}"));
        }
    }
    toy
}

fn near(what: &str, got: &[f32], want: impl IntoIterator<Item = f64>) {
    let want: Vec<f64> = want.into_iter().collect();
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{what}: value {i} is {got}, want {want}");
    }
}

#[test]
fn hidden_states_of_the_encoder_families_are_those_of_the_papers() {
    let texts: [&[u32]; 3] = [&[2, 4, 5, 3], &[6], &[2, 7, 7, 1, 5, 4, 6, 0, 3]];
    for toy in [nomic_bert(), nomic_bert_moe(), jina_bert_v2(), jina_bert_v2_code()] {
        let model = toy.load();
        let prompts = texts.map(|ids| Prompt::Tokens(ids.to_vec())).to_vec();
        let got = wait(|reply| model.embed(prompts, Some(Pooling::None), false, reply)).unwrap();
        for (ids, got) in texts.iter().zip(got) {
            near(toy.architecture, &got, toy.hidden(ids).concat());
        }
    }
}

/// A jina-bert-v2 that ranks, with `n` classes.
fn ranking(n: usize) -> Toy {
    let mut toy = jina_bert_v2();
    toy.keys.push(("pooling_type", 4u32.into()));
    if n > 1 {
        let labels: Vec<String> = (0..n).map(|i| format!("class {i}")).collect();
        toy.keys.push(("classifier.output_labels", labels.into()));
    }
    toy.linear("cls", [WIDTH, WIDTH]);
    toy.linear("cls.output", [WIDTH, n]);
    toy
}

#[test]
fn a_score_is_the_heads_of_the_first_token_of_query_and_document() {
    for n in [1, 2] {
        let toy = ranking(n);
        let model = toy.load();
        let documents = vec!["b".to_owned(), "c a".to_owned()];
        let got = wait(|reply| model.rank("a c".into(), documents, reply)).unwrap();
        let want = [&[2, 4, 6, 3, 5, 3][..], &[2, 4, 6, 3, 6, 4, 3]].map(|ids| {
            let first = toy.hidden(ids).swap_remove(0);
            let dense = toy.product("cls", &first, 0, WIDTH);
            let dense: Vec<f64> = dense.into_iter().map(f64::tanh).collect();
            let scores = toy.product("cls.output", &dense, 0, n);
            if n == 1 { scores[0] } else { softmax(&scores)[0] }
        });
        near("scores", &got, want);
        let refusal = wait(|reply| model.embed(vec![Prompt::Text("a".into())], None, true, reply));
        assert!(refusal.unwrap_err().to_string().contains("rerank"));
    }
}

#[test]
fn a_template_puts_query_and_document_where_the_model_wants_them() {
    let mut toy = ranking(1);
    let separated = {
        let model = toy.load();
        wait(|reply| model.rank("a c".into(), vec!["b".into()], reply)).unwrap()
    };
    toy.rank_template = Some("[CLS]{query}[SEP]{document}[SEP]");
    let model = toy.load();
    let got = wait(|reply| model.rank("a c".into(), vec!["b".into()], reply)).unwrap();
    assert_eq!(got, separated, "the same tokens spelt out");
    toy.rank_template = Some("[CLS]{document}[SEP]{query}[SEP]");
    let model = toy.load();
    let got = wait(|reply| model.rank("b".into(), vec!["a c".into()], reply)).unwrap();
    assert_eq!(got, separated, "the document first");
}

#[test]
fn a_model_that_says_it_ranks_must_have_a_head() {
    let mut toy = ranking(1);
    toy.weights.retain(|name, _| !name.starts_with("cls"));
    let gguf = realm_gguf::Gguf::from_bytes(toy.file()).unwrap();
    let error = realm_model::build(&gguf, 64).unwrap_err().to_string();
    assert!(error.contains("pooling_type") && error.contains("cls.output.weight"), "{error}");
}
