//! The choice of a type for each tensor.
//!
//! Source: `llama_tensor_get_type_impl` in llama.cpp `src/llama-quant.cpp`.

use realm_gguf::{TensorInfo, TensorType};

use super::Mix;

impl Mix {
    /// Whether this is one of the mixes below 3 bits that have rules of their own.
    fn is_smallest(self) -> bool {
        matches!(self, Self::IQ1_S | Self::IQ1_M | Self::IQ2_XXS | Self::IQ2_XS)
            || self.is_small_iq2()
    }

    /// Whether this is IQ2_S or IQ2_M.
    fn is_small_iq2(self) -> bool {
        matches!(self, Self::IQ2_S | Self::IQ2_M)
    }
}

/// Whether a matrix of this type is worthless without an importance matrix.
///
/// Source: `tensor_requires_imatrix` in llama.cpp `src/llama-quant.cpp`.
pub(crate) fn needs_imatrix(mix: Mix, tensor: &str, ty: TensorType) -> bool {
    let is_table = matches!(Role::of(tensor), Role::Embedding | Role::Output);
    !is_table
        && match ty {
            TensorType::IQ1_S
            | TensorType::IQ1_M
            | TensorType::IQ2_XXS
            | TensorType::IQ2_XS
            | TensorType::IQ2_S
            | TensorType::IQ3_XXS => true,
            TensorType::Q2_K => mix == Mix::Q2_K_S,
            _ => false,
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
    AttentionQuery,
    AttentionOutput,
    FeedForwardUp,
    FeedForwardGate,
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
            _ if name.contains("attn_q.weight") => Self::AttentionQuery,
            _ if name.contains("attn_output.weight") => Self::AttentionOutput,
            _ if name.contains("ffn_up") => Self::FeedForwardUp,
            _ if name.contains("ffn_gate") => Self::FeedForwardGate,
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
        ups_seen: 0,
        gates_seen: 0,
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
        TensorType::IQ1_S
        | TensorType::IQ1_M
        | TensorType::IQ2_XXS
        | TensorType::IQ2_XS
        | TensorType::IQ2_S
        | TensorType::IQ3_XXS
        | TensorType::IQ3_S
        | TensorType::IQ4_XS => TensorType::IQ4_NL,
        TensorType::Q2_0
        | TensorType::Q2_K
        | TensorType::Q3_K
        | TensorType::TQ1_0
        | TensorType::TQ2_0 => TensorType::Q4_0,
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
    ups_seen: usize,
    gates_seen: usize,
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
            Role::Embedding => self.embedding(),
            _ if self.mix.is_smallest() => self.smallest(role),
            Role::AttentionValue => self.attention_value(),
            Role::AttentionKey if self.model.n_experts == 8 => TensorType::Q8_0,
            Role::AttentionKey | Role::AttentionQuery => match self.mix {
                Mix::IQ3_XS => TensorType::IQ3_XXS,
                Mix::IQ3_XXS => TensorType::IQ2_S,
                mix => mix.base(),
            },
            Role::AttentionOutput => self.attention_output(),
            Role::FeedForwardUp | Role::FeedForwardGate => {
                self.feed_forward_in(role, tensor.name())
            }
            Role::FeedForwardDown => self.feed_forward_down(tensor.name()),
            Role::Other => self.mix.base(),
        }
    }

    fn output(&self, cols: usize) -> TensorType {
        let base = self.mix.base();
        let whole_blocks = cols.is_multiple_of(base.block_len());
        match self.mix {
            Mix::MXFP4_MOE | Mix::Q8_0 => TensorType::Q8_0,
            _ if self.is_falcon() || !whole_blocks => TensorType::Q8_0,
            Mix::IQ3_XXS => TensorType::Q5_K,
            mix if mix.is_smallest() => TensorType::Q5_K,
            _ => TensorType::Q6_K,
        }
    }

    fn embedding(&self) -> TensorType {
        match self.mix {
            Mix::IQ3_XXS => TensorType::IQ3_S,
            Mix::TQ1_0 | Mix::TQ2_0 | Mix::Q2_0 => TensorType::Q4_K,
            mix if mix.is_small_iq2() => TensorType::IQ3_S,
            mix if mix.is_smallest() => TensorType::Q2_K,
            mix => mix.base(),
        }
    }

    /// The matrices of layers in a mix below 3 bits.
    fn smallest(&mut self, role: Role) -> TensorType {
        let better = if self.mix.is_small_iq2() { TensorType::IQ3_S } else { TensorType::Q2_K };
        let Model { n_gqa, n_experts, n_layers, .. } = self.model;
        match role {
            Role::AttentionValue if n_gqa >= 4 || n_experts >= 4 => TensorType::Q4_K,
            Role::AttentionValue => better,
            Role::AttentionKey if n_experts == 8 => TensorType::Q4_K,
            Role::AttentionOutput if n_experts == 8 => TensorType::Q5_K,
            Role::AttentionOutput => match self.mix {
                Mix::IQ1_S | Mix::IQ1_M => TensorType::IQ2_XXS,
                Mix::IQ2_S | Mix::IQ2_M => TensorType::IQ3_S,
                mix => mix.base(),
            },
            Role::FeedForwardDown => {
                self.downs_seen += 1;
                if self.downs_seen <= n_layers / 8 { better } else { self.mix.base() }
            }
            _ => self.mix.base(),
        }
    }

    fn attention_value(&mut self) -> TensorType {
        let seen = self.values_seen;
        self.values_seen += 1;
        let grouped = self.model.n_gqa >= 4;
        let more = takes_more_bits(seen, self.n_values);
        let ty = match self.mix {
            Mix::Q2_K | Mix::Q2_K_S | Mix::IQ3_XXS | Mix::IQ3_XS | Mix::IQ3_S if grouped => {
                TensorType::Q4_K
            }
            Mix::Q2_K => TensorType::Q3_K,
            Mix::IQ3_XXS if !self.model.has_imatrix => TensorType::IQ3_S,
            Mix::IQ3_M => TensorType::Q4_K,
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

    /// The layer of a matrix of which `seen` have come before.
    fn layer(&self, name: &str, seen: usize) -> usize {
        // Experts need not come in order.
        let by_name = (self.model.n_experts > 1).then(|| layer(name)).flatten();
        by_name.unwrap_or(seen)
    }

    fn feed_forward_in(&mut self, role: Role, name: &str) -> TensorType {
        let seen = match role {
            Role::FeedForwardUp => &mut self.ups_seen,
            _ => &mut self.gates_seen,
        };
        *seen += 1;
        let i = *seen - 1;
        let (i, n) = (self.layer(name, i), self.model.n_layers);
        let is_middle = i >= n / 8 && i < 7 * n / 8;
        if self.mix == Mix::IQ3_XS && is_middle { TensorType::IQ3_XXS } else { self.mix.base() }
    }

    fn feed_forward_down(&mut self, name: &str) -> TensorType {
        let n = self.model.n_layers;
        let i = self.layer(name, self.downs_seen);
        self.downs_seen += 1;
        let more = takes_more_bits(i, n);
        let (first_eighth, first_sixteenth) = (i < n / 8, i < n / 16);
        let has_imatrix = self.model.has_imatrix;
        match self.mix {
            Mix::Q2_K => TensorType::Q3_K,
            Mix::Q2_K_S if first_eighth => TensorType::Q4_K,
            Mix::IQ3_XXS if !has_imatrix && first_eighth => TensorType::Q4_K,
            Mix::IQ3_XXS if !has_imatrix => TensorType::Q3_K,
            Mix::IQ3_M if first_eighth || (self.model.n_experts == 8 && more) => TensorType::Q4_K,
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
            | Mix::IQ3_XXS
            | Mix::IQ3_XS
            | Mix::IQ3_S
            | Mix::IQ3_M
            | Mix::IQ4_NL
            | Mix::IQ4_XS
                if eight_experts =>
            {
                TensorType::Q5_K
            }
            Mix::Q2_K => TensorType::Q3_K,
            Mix::IQ3_XXS => TensorType::IQ3_S,
            Mix::Q3_K_M | Mix::IQ3_M => TensorType::Q4_K,
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
