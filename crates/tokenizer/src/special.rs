//! Names and keys of special tokens.
//!
//! GGUF has no key that lists the tokens which end a generation, so they are
//! known by name. Source of names and rules: `llama_vocab::impl::load` in
//! llama.cpp `src/llama-vocab.cpp`.

use crate::vocabulary::TokenKind;

pub(crate) const BOS: &str = "tokenizer.ggml.bos_token_id";
pub(crate) const EOS: &str = "tokenizer.ggml.eos_token_id";
pub(crate) const EOT: &str = "tokenizer.ggml.eot_token_id";
pub(crate) const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
/// The format itself spells it so.
pub(crate) const SEPARATOR: &str = "tokenizer.ggml.seperator_token_id";
pub(crate) const PADDING: &str = "tokenizer.ggml.padding_token_id";
pub(crate) const MASK: &str = "tokenizer.ggml.mask_token_id";
pub(crate) const CLS: &str = "tokenizer.ggml.cls_token_id";

/// Ids that are never to be chosen; llama.cpp gives their logits a bias of -infinity
/// (`llama_vocab_get_suppress_tokens`).
pub(crate) const SUPPRESSED: &str = "tokenizer.ggml.suppress_tokens";

/// A token with a task, named by a key or else by its text.
pub(crate) struct Role {
    pub(crate) key: &'static str,
    pub(crate) names: &'static [&'static str],
    pub(crate) ends_generation: bool,
}

pub(crate) const ROLES: &[Role] = &[
    Role {
        key: EOT,
        names: &[
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<|end_of_text|>",
            "<EOT>",
            "_<EOT>",
            "[EOT]",
            "<｜end▁of▁sentence｜>",
            "<end_of_utterance>",
        ],
        ends_generation: true,
    },
    Role { key: "tokenizer.ggml.eom_token_id", names: &["<|eom_id|>"], ends_generation: true },
    Role {
        key: "tokenizer.ggml.fim_pre_token_id",
        names: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<｜fim▁begin｜>",
            "<PRE>",
            "▁<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
        ends_generation: false,
    },
    Role {
        key: "tokenizer.ggml.fim_suf_token_id",
        names: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<｜fim▁hole｜>",
            "<SUF>",
            "▁<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
        ends_generation: false,
    },
    Role {
        key: "tokenizer.ggml.fim_mid_token_id",
        names: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<｜fim▁end｜>",
            "<MID>",
            "▁<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
        ends_generation: false,
    },
    Role {
        key: "tokenizer.ggml.fim_pad_token_id",
        names: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
        ends_generation: true,
    },
    Role {
        key: "tokenizer.ggml.fim_rep_token_id",
        names: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
        ends_generation: true,
    },
    Role {
        key: "tokenizer.ggml.fim_sep_token_id",
        names: &["<|file_sep|>"],
        ends_generation: true,
    },
];

/// Tokens that end a generation wherever they exist.
pub(crate) const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// Marks inside a message of the harmony format: part of what is shown.
pub(crate) const ALWAYS_SHOWN: &[&str] =
    &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// A token that does not end a generation where certain others do.
pub(crate) struct NotAnEnd {
    pub(crate) name: &'static str,
    pub(crate) beside: &'static [&'static str],
    /// What the token is then.
    pub(crate) kind: TokenKind,
}

pub(crate) const NOT_AN_END: &[NotAnEnd] = &[
    NotAnEnd { name: "<|end|>", beside: &["<|return|>", "<|call|>"], kind: TokenKind::UserDefined },
    NotAnEnd { name: "<|end|>", beside: &["<|calls|>", "<|flush|>"], kind: TokenKind::UserDefined },
    NotAnEnd { name: "</s>", beside: &["<|tool_response>"], kind: TokenKind::Normal },
];
