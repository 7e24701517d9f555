//! Tiny random models of every family: the keys and tensors that its converter writes.
//!
//! [`all`] lists them. Their files are the same on every machine, and complete enough
//! for llama.cpp to run them: its logits are kept beside the tests that compare with
//! them. Source of names: `gguf-py/gguf/constants.py` and the tensors that `src/models/`
//! of llama.cpp asks for.

use realm_gguf::TensorType;

use crate::gguf_writer::{GgufWriter, KvValue};
use crate::random::Random;

mod alternatives;
mod dense;
mod encoders;
mod experts;
mod gemma4;
mod latent;
mod layer_norms;
mod pre_norm_encoders;
mod recurrent;
mod state_space;
pub mod tensors;
mod uneven;
mod widths;

use tensors::Tensor;
use widths::Widths;

/// Token ids that the families' logits are computed of: more than their windows.
pub const PROMPT: [u32; 14] = [5, 9, 30, 1, 2, 31, 7, 8, 8, 12, 0, 22, 17, 3];

/// Positions that the families are loaded for, and their `context_length`.
pub const CONTEXT_LENGTH: u32 = 256;

/// Positions that the layers with a window see.
pub const WINDOW: u32 = 5;

/// Name of the epsilon's key, behind `attention.`.
pub const RMS: &str = "layer_norm_rms_epsilon";
/// The same of layer norms.
pub const LAYER: &str = "layer_norm_epsilon";

/// Every family, some in several variants.
pub fn all() -> Vec<Family> {
    let lists = [
        dense::families(),
        layer_norms::families(),
        experts::families(),
        gemma4::families(),
        latent::families(),
        recurrent::families(),
        encoders::families(),
        uneven::families(),
        alternatives::families(),
        state_space::families(),
        pre_norm_encoders::families(),
    ];
    lists.into_iter().flatten().collect()
}

/// What a converter writes for a family, beyond what all files have.
#[derive(Clone, Debug)]
pub struct Family {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// What sets it apart from the other files of its architecture; empty for one.
    pub variant: &'static str,
    epsilon: &'static str,
    n_layers: usize,
    keys: Vec<(&'static str, KvValue)>,
    /// Keys without the architecture before them.
    bare_keys: Vec<(&'static str, KvValue)>,
    /// Tensors of the layers that the function says yes to.
    layers: Vec<(Which, &'static [Tensor])>,
    /// Tensors outside of layers.
    whole: Vec<Tensor>,
    widths: Widths,
}

/// Which layers, by their index.
pub type Which = fn(usize) -> bool;

/// A tensor's name, shape (contiguous dimension first) and values.
pub type Values = (String, Vec<usize>, Vec<f32>);

impl Family {
    /// A family of four layers with these tensors each, an embedding, an output norm and
    /// an output matrix; `epsilon` is [`RMS`] or [`LAYER`].
    pub fn new(
        architecture: &'static str,
        epsilon: &'static str,
        layer: &[&'static [Tensor]],
    ) -> Self {
        let family = Family {
            architecture,
            variant: "",
            epsilon,
            n_layers: 4,
            keys: vec![],
            bare_keys: vec![],
            layers: vec![],
            whole: tensors::WHOLE.to_vec(),
            widths: Widths::Usual,
        };
        family.tensors_in(|_| true, layer)
    }

    /// The architecture, and behind a dot the variant.
    pub fn name(&self) -> String {
        match self.variant {
            "" => self.architecture.into(),
            variant => format!("{}.{variant}", self.architecture),
        }
    }

    /// Names this file among those of its architecture.
    pub fn variant(mut self, variant: &'static str) -> Self {
        self.variant = variant;
        self
    }

    /// Sets the number of layers.
    pub fn n_layers(mut self, n_layers: usize) -> Self {
        self.n_layers = n_layers;
        self
    }

    /// Sets a key, named without the architecture before it.
    pub fn key(mut self, name: &'static str, value: impl Into<KvValue>) -> Self {
        self.keys.retain(|key| key.0 != name);
        self.keys.push((name, value.into()));
        self
    }

    /// Six heads instead of four, which is no power of two. For families with as many
    /// keys as queries.
    pub fn six_heads(self) -> Self {
        self.widths(Widths::SixHeads)
    }

    /// Widths that no vector register divides.
    pub fn uneven(self) -> Self {
        self.widths(Widths::Uneven)
    }

    fn widths(mut self, widths: Widths) -> Self {
        self.widths = widths;
        widths.keys().iter().fold(self, |family, (name, value)| family.key(name, *value))
    }

    /// Sets a key that has no architecture before it.
    pub fn bare_key(mut self, name: &'static str, value: impl Into<KvValue>) -> Self {
        self.bare_keys.push((name, value.into()));
        self
    }

    /// Gives every id of the table a token of its own. Without, the file has no tokenizer.
    pub fn with_tokens(self) -> Self {
        let tensors = self.tensors();
        let table = tensors.iter().find(|(name, _)| name == "token_embd.weight");
        let n = table.map_or(0, |(_, shape)| shape[1]);
        let tokens: Vec<_> = (0..n).map(|id| format!("token {id}")).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        self.bare_key("tokenizer.ggml.model", "llama")
            .bare_key("tokenizer.ggml.tokens", &tokens[..])
            .bare_key("tokenizer.ggml.scores", &vec![0f32; n][..])
            .bare_key("tokenizer.ggml.token_type", &vec![1i32; n][..])
    }

    /// Adds tensors to some layers.
    pub fn tensors_in(mut self, which: Which, parts: &[&'static [Tensor]]) -> Self {
        self.layers.extend(parts.iter().map(|part| (which, *part)));
        self
    }

    /// Adds tensors outside of layers.
    pub fn whole(mut self, tensors: &[Tensor]) -> Self {
        self.whole.extend(tensors);
        self
    }

    /// Leaves out a tensor outside of layers.
    pub fn without(mut self, name: &str) -> Self {
        self.whole.retain(|tensor| tensor.0 != name);
        self
    }

    /// Experts in every layer.
    pub fn experts(self, tensors: &[&'static [Tensor]]) -> Self {
        self.experts_in(|_| true, tensors)
    }

    /// Experts behind a first layer without.
    pub fn experts_behind_dense(self, tensors: &[&'static [Tensor]]) -> Self {
        self.experts_in(|layer| layer > 0, tensors)
            .tensors_in(|layer| layer == 0, &[tensors::GATED])
            .key("leading_dense_block_count", 1u32)
    }

    /// Experts in some layers.
    pub fn experts_in(self, which: Which, tensors: &[&'static [Tensor]]) -> Self {
        self.tensors_in(which, tensors)
            .key("expert_count", 4u32)
            .key("expert_used_count", 2u32)
            .key("expert_feed_forward_length", 32u32)
    }

    /// Names the one shared expert.
    pub fn shared(self) -> Self {
        self.key("expert_shared_count", 1u32)
    }

    /// Experts chosen by sigmoid, their weights normed and scaled.
    pub fn sigmoid(self) -> Self {
        self.key("expert_gating_func", 2u32)
            .key("expert_weights_norm", true)
            .key("expert_weights_scale", 2.5f32)
    }

    /// Some layers see only the last [`WINDOW`] positions.
    pub fn window(self) -> Self {
        self.key("attention.sliding_window", WINDOW)
    }

    /// Frequencies stretched by YaRN.
    pub fn yarn(self) -> Self {
        self.key("rope.scaling.type", "yarn")
            .key("rope.scaling.factor", 8f32)
            .key("rope.scaling.original_context_length", 32u32)
    }

    /// The file.
    pub fn file(&self) -> Vec<u8> {
        self.write(&self.random_tensors())
    }

    /// The file with other values, or other tensors.
    pub fn write(&self, tensors: &[Values]) -> Vec<u8> {
        let mut writer = GgufWriter::new();
        let key = |name: &str| format!("{}.{name}", self.architecture);
        writer.kv("general.architecture", self.architecture);
        let mut defaults: Vec<(&str, KvValue)> = [
            ("block_count", self.n_layers as u32),
            ("context_length", CONTEXT_LENGTH),
            ("embedding_length", 64),
            ("feed_forward_length", 96),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
            // For llama.cpp, which counts no tokens where there is no tokenizer.
            ("vocab_size", 32),
        ]
        .map(|(name, value)| (name, value.into()))
        .to_vec();
        let epsilon = format!("attention.{}", self.epsilon);
        defaults.push((&epsilon, 1e-5f32.into()));
        defaults.push(("rope.freq_base", 10_000f32.into()));
        for (name, value) in defaults {
            if !self.keys.iter().any(|key| key.0 == name) {
                writer.kv(&key(name), value);
            }
        }
        for (name, value) in &self.keys {
            writer.kv(&key(name), value.clone());
        }
        for (name, value) in &self.bare_keys {
            writer.kv(name, value.clone());
        }
        if !self.bare_keys.iter().any(|key| key.0 == "tokenizer.ggml.model") {
            writer.kv("tokenizer.ggml.model", "no_vocab");
        }
        writer.kv("tokenizer.ggml.token_type_count", 2u32);
        for (name, shape, values) in tensors {
            writer.tensor_f32(name, shape, TensorType::F32, values);
        }
        writer.to_bytes()
    }

    /// Names and shapes of the file's tensors.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let whole = self.whole.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec()));
        let layers = (0..self.n_layers).flat_map(|layer| {
            let parts = self.layers.iter().filter(move |(which, _)| which(layer));
            parts
                .flat_map(|(_, part)| part.iter())
                .map(move |(name, shape)| (format!("blk.{layer}.{name}"), shape.to_vec()))
        });
        let mut tensors: Vec<_> = whole.chain(layers).collect();
        for (name, shape) in &mut tensors {
            *shape = self.widths.shape(name, shape);
        }
        tensors
    }

    /// Tensors whose values depend on their order and shapes alone. They keep the hidden
    /// state at a size of about 1 and logits at about 3, so that errors show.
    pub fn random_tensors(&self) -> Vec<Values> {
        let mut random = Random::new(11);
        self.tensors()
            .into_iter()
            .map(|(name, shape)| {
                let normals = random.normals(shape.iter().product());
                let (mean, deviation) = distribution(&name, shape[0]);
                let values = normals.into_iter().map(|value| mean + deviation * value).collect();
                (name, shape, values)
            })
            .collect()
    }
}

/// Mean and deviation of a tensor whose rows have `row_len` values.
fn distribution(name: &str, row_len: usize) -> (f32, f32) {
    let over_root = 1.0 / (row_len as f32).sqrt();
    match name {
        _ if name.starts_with("rope_f") => (8.0, 1.0),
        _ if name.ends_with(".scale") => (1.0, 0.1),
        _ if name.ends_with(".bias") => (0.0, 0.3),
        _ if name.ends_with("ssm_a") => (-1.5, 0.2),
        _ if name.contains("norm") => (1.0, 0.2),
        "output.weight" | "token_embd.weight" | "position_embd.weight" => (0.0, 3.0 * over_root),
        _ => (0.0, 1.25 * over_root),
    }
}
