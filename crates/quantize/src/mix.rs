//! The mixes: which type each tensor of a model gets.
//!
//! A mix is a type for most matrices, and better ones for those that matter most:
//! the output, the values of attention, the last matrix of the feed-forward part.
//! The choices are llama.cpp's, so that a name means the same file everywhere.
//! Source: `llama_tensor_get_type_impl` in llama.cpp `src/llama-quant.cpp`.

use std::str::FromStr;

use realm_gguf::{TensorInfo, TensorType};

use crate::Error;

/// A mix of tensor types, as the names of model files say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, missing_docs, reason = "the variants are the mixes' own names")]
pub enum Mix {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4_MOE,
}

/// One row per mix: name, `general.file_type`, the type of most matrices.
///
/// Source: `llama_ftype` in llama.cpp `include/llama.h`.
const TABLE: &[(Mix, &str, u32, TensorType)] = &[
    (Mix::F32, "F32", 0, TensorType::F32),
    (Mix::F16, "F16", 1, TensorType::F16),
    (Mix::BF16, "BF16", 32, TensorType::BF16),
    (Mix::Q4_0, "Q4_0", 2, TensorType::Q4_0),
    (Mix::Q4_1, "Q4_1", 3, TensorType::Q4_1),
    (Mix::Q5_0, "Q5_0", 8, TensorType::Q5_0),
    (Mix::Q5_1, "Q5_1", 9, TensorType::Q5_1),
    (Mix::Q8_0, "Q8_0", 7, TensorType::Q8_0),
    (Mix::Q2_K, "Q2_K", 10, TensorType::Q2_K),
    (Mix::Q3_K_S, "Q3_K_S", 11, TensorType::Q3_K),
    (Mix::Q3_K_M, "Q3_K_M", 12, TensorType::Q3_K),
    (Mix::Q3_K_L, "Q3_K_L", 13, TensorType::Q3_K),
    (Mix::Q4_K_S, "Q4_K_S", 14, TensorType::Q4_K),
    (Mix::Q4_K_M, "Q4_K_M", 15, TensorType::Q4_K),
    (Mix::Q5_K_S, "Q5_K_S", 16, TensorType::Q5_K),
    (Mix::Q5_K_M, "Q5_K_M", 17, TensorType::Q5_K),
    (Mix::Q6_K, "Q6_K", 18, TensorType::Q6_K),
    (Mix::IQ4_NL, "IQ4_NL", 25, TensorType::IQ4_NL),
    (Mix::IQ4_XS, "IQ4_XS", 30, TensorType::IQ4_XS),
    (Mix::TQ1_0, "TQ1_0", 36, TensorType::TQ1_0),
    (Mix::TQ2_0, "TQ2_0", 37, TensorType::TQ2_0),
    (Mix::MXFP4_MOE, "MXFP4_MOE", 38, TensorType::MXFP4),
];

impl Mix {
    /// Every mix.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Mix, &'static str, u32, TensorType) {
        TABLE.iter().find(|row| row.0 == self).expect("every variant has a row in TABLE")
    }

    /// The name, such as `Q4_K_M`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The number of `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.row().2
    }

    /// The type of most matrices.
    pub fn base(self) -> TensorType {
        self.row().3
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mix {
    type Err = Error;

    /// From a name in any case; `Q3_K`, `Q4_K` and `Q5_K` are their `_M` forms.
    fn from_str(name: &str) -> Result<Self, Error> {
        let upper = name.to_ascii_uppercase();
        let wanted = match &*upper {
            "Q3_K" | "Q4_K" | "Q5_K" => format!("{upper}_M"),
            _ => upper,
        };
        let found = Self::all().find(|mix| mix.name() == wanted);
        found.ok_or_else(|| Error::UnknownMix { name: name.into() })
    }
}

/// What the choice depends on besides the tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model<'a> {
    pub architecture: &'a str,
    pub n_layers: usize,
    /// Query heads per key and value head.
    pub n_gqa: usize,
    /// 0 in dense models.
    pub n_experts: usize,
    /// Whether an importance matrix is used.
    pub has_imatrix: bool,
}

/// What a matrix is for, as far as mixes care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Embedding,
    Output,
    /// `attn_v`, or a matrix that contains it.
    AttentionValue,
    AttentionKey,
    AttentionOutput,
    FeedForwardDown,
    Other,
}

impl Role {
    fn of(name: &str) -> Self {
        let value = ["attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"];
        match name {
            "output.weight" => Self::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Self::Embedding,
            _ if value.iter().any(|part| name.contains(part)) => Self::AttentionValue,
            _ if name.contains("attn_k.weight") => Self::AttentionKey,
            _ if name.contains("attn_output.weight") => Self::AttentionOutput,
            _ if name.contains("ffn_down") => Self::FeedForwardDown,
            _ => Self::Other,
        }
    }
}

/// Parts of names that mark matrices which are small or delicate, and stay as they are.
///
/// Source: `tensor_allows_quantization` in llama.cpp `src/llama-quant.cpp`.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "position_embd",
    "token_types",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// Whether a mix may change the type of this tensor.
fn is_quantizable(tensor: &TensorInfo) -> bool {
    // A trailing dimension of 1 does not make a matrix.
    tensor.shape().iter().skip(1).any(|dim| *dim > 1)
        && tensor.name().ends_with("weight")
        && !KEPT.iter().any(|part| tensor.name().contains(part))
}

/// The type that each tensor gets, in the order given, and whether it is one of
/// last resort because rows are not whole blocks of the type it should have had.
pub(crate) fn choose(
    mix: Mix,
    model: Model<'_>,
    tensors: &[TensorInfo],
) -> Vec<(TensorType, bool)> {
    let mut chosen: Vec<_> = tensors.iter().map(|tensor| (tensor.ty(), false)).collect();
    // Later layers are told from earlier ones by counting, so layers come in order.
    let mut order: Vec<usize> =
        (0..tensors.len()).filter(|i| is_quantizable(&tensors[*i])).collect();
    order.sort_by_key(|i| (layer(tensors[*i].name()), tensors[*i].name()));
    let named = |role| tensors.iter().filter(|tensor| Role::of(tensor.name()) == role).count();
    let mut choice = Choice {
        mix,
        model,
        is_tied: named(Role::Output) == 0,
        n_values: named(Role::AttentionValue),
        values_seen: 0,
        downs_seen: 0,
    };
    for i in order {
        chosen[i] = fitting(choice.matrix(&tensors[i]), tensors[i].shape()[0]);
    }
    chosen
}

/// The layer in a name such as `blk.7.attn_q.weight`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The type, or the nearest one whose blocks divide rows of `cols` values.
fn fitting(ty: TensorType, cols: usize) -> (TensorType, bool) {
    if cols.is_multiple_of(ty.block_len()) {
        return (ty, false);
    }
    let smaller = match ty {
        TensorType::IQ4_XS => TensorType::IQ4_NL,
        TensorType::Q2_K | TensorType::Q3_K | TensorType::TQ1_0 | TensorType::TQ2_0 => {
            TensorType::Q4_0
        }
        TensorType::Q4_K => TensorType::Q5_0,
        TensorType::Q5_K => TensorType::Q5_1,
        TensorType::Q6_K => TensorType::Q8_0,
        _ => TensorType::F16,
    };
    let fits = cols.is_multiple_of(smaller.block_len());
    (if fits { smaller } else { TensorType::F16 }, true)
}

/// The choice for one model, tensor after tensor.
struct Choice<'a> {
    mix: Mix,
    model: Model<'a>,
    /// Whether the embedding table is the output matrix too.
    is_tied: bool,
    n_values: usize,
    values_seen: usize,
    downs_seen: usize,
}

impl Choice<'_> {
    fn matrix(&mut self, tensor: &TensorInfo) -> TensorType {
        if matches!(self.mix, Mix::F32 | Mix::F16 | Mix::BF16) {
            return self.mix.base();
        }
        let role = match Role::of(tensor.name()) {
            Role::Embedding if self.is_tied => Role::Output,
            role => role,
        };
        match role {
            Role::Output => self.output(tensor.shape()[0]),
            _ if self.mix == Mix::MXFP4_MOE => match tensor.shape().get(2) {
                Some(n_experts) if *n_experts > 1 => TensorType::MXFP4,
                _ => TensorType::Q8_0,
            },
            Role::Embedding => match self.mix {
                Mix::TQ1_0 | Mix::TQ2_0 => TensorType::Q4_K,
                mix => mix.base(),
            },
            Role::AttentionValue => self.attention_value(),
            Role::AttentionKey if self.model.n_experts == 8 => TensorType::Q8_0,
            Role::FeedForwardDown => self.feed_forward_down(tensor.name()),
            Role::AttentionOutput => self.attention_output(),
            Role::AttentionKey | Role::Other => self.mix.base(),
        }
    }

    fn output(&self, cols: usize) -> TensorType {
        let base = self.mix.base();
        let whole_blocks = cols.is_multiple_of(base.block_len());
        let plain = matches!(self.mix, Mix::MXFP4_MOE | Mix::Q8_0);
        if plain || self.is_falcon() || !whole_blocks { TensorType::Q8_0 } else { TensorType::Q6_K }
    }

    fn attention_value(&mut self) -> TensorType {
        let seen = self.values_seen;
        self.values_seen += 1;
        let grouped = self.model.n_gqa >= 4;
        let more = takes_more_bits(seen, self.n_values);
        let ty = match self.mix {
            Mix::Q2_K if grouped => TensorType::Q4_K,
            Mix::Q2_K => TensorType::Q3_K,
            Mix::Q3_K_M if seen < 2 => TensorType::Q5_K,
            Mix::Q3_K_M => TensorType::Q4_K,
            Mix::Q3_K_L => TensorType::Q5_K,
            Mix::IQ4_NL | Mix::IQ4_XS if grouped => TensorType::Q5_K,
            Mix::Q4_K_M | Mix::Q5_K_M if more => TensorType::Q6_K,
            Mix::Q4_K_S if seen < 4 => TensorType::Q5_K,
            mix => mix.base(),
        };
        // With eight heads to one value, as in models of 70e9 parameters, the matrix is small.
        let small = self.model.n_layers == 80 && self.model.n_gqa > 1;
        match ty {
            _ if self.model.n_experts == 8 => TensorType::Q8_0,
            TensorType::Q3_K | TensorType::Q4_K if small => TensorType::Q5_K,
            ty => ty,
        }
    }

    fn feed_forward_down(&mut self, name: &str) -> TensorType {
        let n = self.model.n_layers;
        // Experts need not come in order.
        let by_name = (self.model.n_experts > 1).then(|| layer(name)).flatten();
        let i = by_name.unwrap_or(self.downs_seen);
        self.downs_seen += 1;
        let more = takes_more_bits(i, n);
        let (first_eighth, first_sixteenth) = (i < n / 8, i < n / 16);
        let has_imatrix = self.model.has_imatrix;
        match self.mix {
            Mix::Q2_K => TensorType::Q3_K,
            Mix::Q3_K_M if first_sixteenth => TensorType::Q5_K,
            Mix::Q3_K_M if self.is_falcon() && !more => TensorType::Q3_K,
            Mix::Q3_K_M => TensorType::Q4_K,
            Mix::Q3_K_L if self.is_falcon() => TensorType::Q4_K,
            Mix::Q3_K_L => TensorType::Q5_K,
            Mix::Q4_K_M if self.is_falcon() && first_sixteenth => TensorType::Q6_K,
            Mix::Q4_K_M if self.is_falcon() && more => TensorType::Q5_K,
            Mix::Q4_K_M if !self.is_falcon() && more => TensorType::Q6_K,
            Mix::IQ4_NL | Mix::IQ4_XS if first_eighth && !has_imatrix => TensorType::Q5_K,
            Mix::Q5_K_M if more => TensorType::Q6_K,
            Mix::Q4_K_S if first_eighth && !self.is_falcon() => TensorType::Q5_K,
            Mix::Q4_0 if first_eighth && has_imatrix => TensorType::Q4_1,
            Mix::Q5_0 if first_eighth && has_imatrix => TensorType::Q5_1,
            mix => mix.base(),
        }
    }

    fn attention_output(&self) -> TensorType {
        let base = self.mix.base();
        let eight_experts = self.model.n_experts == 8;
        match self.mix {
            Mix::Q3_K_L if self.is_falcon() => TensorType::Q4_K,
            _ if self.is_falcon() => base,
            Mix::Q2_K
            | Mix::Q3_K_S
            | Mix::Q3_K_M
            | Mix::Q4_K_S
            | Mix::Q4_K_M
            | Mix::IQ4_NL
            | Mix::IQ4_XS
                if eight_experts =>
            {
                TensorType::Q5_K
            }
            Mix::Q2_K => TensorType::Q3_K,
            Mix::Q3_K_M => TensorType::Q4_K,
            Mix::Q3_K_L if !eight_experts => TensorType::Q5_K,
            _ => base,
        }
    }

    fn is_falcon(&self) -> bool {
        self.model.architecture == "falcon"
    }
}

/// The first eighth, the last eighth, and every third layer between them.
fn takes_more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}
