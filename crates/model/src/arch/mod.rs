//! The architectures: one file of data each, and this list.

use crate::recipe::Recipe;

mod bert;
mod bitnet;
mod cohere2;
mod command_r;
mod deepseek2;
mod exaone;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod granitemoe;
mod internlm2;
mod jina_bert_v2;
mod llama;
mod nomic_bert;
mod nomic_bert_moe;
mod olmo2;
mod phi2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod smollm3;
mod stablelm;
mod starcoder2;

/// Every architecture that can be run.
pub static RECIPES: &[&Recipe] = &[
    &bert::RECIPE,
    &bitnet::RECIPE,
    &cohere2::RECIPE,
    &command_r::RECIPE,
    &deepseek2::RECIPE,
    &exaone::RECIPE,
    &falcon::RECIPE,
    &gemma::RECIPE,
    &gemma2::RECIPE,
    &gemma3::RECIPE,
    &gpt2::RECIPE,
    &gpt_oss::RECIPE,
    &gptneox::RECIPE,
    &granite::RECIPE,
    &granitemoe::RECIPE,
    &internlm2::RECIPE,
    &jina_bert_v2::RECIPE,
    &llama::RECIPE,
    &nomic_bert::RECIPE,
    &nomic_bert_moe::RECIPE,
    &olmo2::RECIPE,
    &phi2::RECIPE,
    &phi3::RECIPE,
    &qwen2::RECIPE,
    &qwen2moe::RECIPE,
    &qwen3::RECIPE,
    &qwen3moe::RECIPE,
    &smollm3::RECIPE,
    &stablelm::RECIPE,
    &starcoder2::RECIPE,
];

/// The recipe named by `general.architecture`.
pub fn find(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().copied().find(|recipe| recipe.name == name)
}

/// The names of all architectures, for messages.
pub fn names() -> String {
    RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>().join(", ")
}
