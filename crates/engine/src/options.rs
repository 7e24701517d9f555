//! What a program can ask for.

use realm_ir::{KvType, WeightLayout};

use crate::adapter::Lora;
use crate::chat::ChatArguments;
use crate::sampler::SamplingOptions;

/// How to load a model.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Positions per sequence; 0 takes what the file says, at most
    /// [`LoadOptions::DEFAULT_CONTEXT_LENGTH`]. Above a model's original context its long
    /// factors of LongRoPE are in use, where it has two sets.
    pub context_length: usize,
    /// Sequences that can be at full length at once; 0 takes
    /// [`LoadOptions::DEFAULT_MAX_SEQUENCES`]. More can run at once as long as
    /// they are shorter, but of a model with recurrent states, which each sequence has whole.
    pub max_sequences: usize,
    /// Storage of keys and values; none takes f32 for a cache below 64 MiB, else f16.
    pub kv_type: Option<KvType>,
    /// How matrices are kept.
    pub layout: WeightLayout,
    /// Bytes that the model may take, all of [`realm_ir::MemoryPlan`]; none for no limit.
    /// With [`WeightLayout::Auto`] copies are made only where they fit.
    pub memory_limit: Option<u64>,
    /// Reads the tokenizer and leaves the weights alone.
    pub vocab_only: bool,
    /// The chat template instead of the file's: the name of a built-in one, or Jinja.
    pub chat_template: Option<String>,
}

impl LoadOptions {
    /// Longest context that is taken without being asked for.
    pub const DEFAULT_CONTEXT_LENGTH: usize = 4096;
    /// Sequences at full length, when nobody says how many.
    pub const DEFAULT_MAX_SEQUENCES: usize = 4;
}

/// What to continue.
#[derive(Clone, Debug)]
pub enum Prompt {
    /// Text, tokenised as [`GenerateOptions`] says.
    Text(String),
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
    /// A conversation, whose text is tokenised as [`GenerateOptions`] says.
    Chat {
        /// The name of a built-in template or Jinja; none for the model's.
        template: Option<String>,
        /// What it is rendered with.
        arguments: ChatArguments,
    },
}

/// How to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most tokens of the answer. With 0 the prompt is read and nothing is sampled.
    pub max_tokens: usize,
    /// How tokens are chosen; its seed counts when `draw_seed` is false.
    pub sampling: SamplingOptions,
    /// Takes a random seed; the one in use is in the result.
    pub draw_seed: bool,
    /// Strings that end the answer and are not part of it; none of them empty, 64 KiB together.
    pub stop: Vec<String>,
    /// Neither end-of-generation tokens nor stop strings end it before this many tokens.
    pub min_tokens: usize,
    /// End-of-generation tokens are never chosen.
    pub ignore_eos: bool,
    /// Puts the prompt's text in front of the answer.
    pub echo: bool,
    /// Tokens that it may have before somebody says that they are read, who then allows more; it
    /// waits meanwhile.
    pub max_buffered: usize,
    /// Adds the token that the model wants in front of a text prompt, such as BOS.
    pub add_special: bool,
    /// Takes text such as `<|im_end|>` in a text prompt for the token it names.
    pub parse_special: bool,
    /// A kept sequence to continue, or none for one that ends with the generation.
    pub sequence: Option<u32>,
    /// Adapters to run with; none for the model's default.
    pub adapters: Option<Vec<Lora>>,
}

impl Default for GenerateOptions {
    /// Greedy, until the model ends or the context does.
    fn default() -> Self {
        GenerateOptions {
            max_tokens: usize::MAX,
            sampling: SamplingOptions::default(),
            draw_seed: false,
            stop: Vec::new(),
            min_tokens: 0,
            ignore_eos: false,
            echo: false,
            max_buffered: usize::MAX,
            add_special: true,
            parse_special: true,
            sequence: None,
            adapters: None,
        }
    }
}
