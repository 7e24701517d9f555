//! The architectures: one file of data each, and this list.

use crate::recipe::Recipe;

mod afmoe;
mod arcee;
mod baichuan;
mod bailingmoe;
mod bailingmoe2;
mod bert;
mod bitnet;
mod bloom;
mod chatglm;
mod codeshell;
mod cohere2;
mod command_r;
mod deepseek;
mod deepseek2;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod exaone;
mod exaone4;
mod exaone_moe;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod glm4;
mod glm4moe;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod granitemoe;
mod internlm2;
mod jais;
mod jais2;
mod jina_bert_v2;
mod lfm2;
mod llama;
mod mellum;
mod minicpm;
mod minicpm3;
mod minimax_m2;
mod mistral3;
mod mpt;
mod nemotron;
mod nomic_bert;
mod nomic_bert_moe;
mod olmo;
mod olmo2;
mod olmoe;
mod openelm;
mod orion;
mod pangu_embedded;
mod phi2;
mod phi3;
mod plamo;
mod plm;
mod qwen;
mod qwen2;
mod qwen2moe;
mod qwen2vl;
mod qwen3;
mod qwen35;
mod qwen3moe;
mod qwen3vl;
mod qwen3vlmoe;
mod refact;
mod seed_oss;
mod smollm3;
mod stablelm;
mod starcoder;
mod starcoder2;
mod xverse;

/// Every architecture that can be run.
pub static RECIPES: &[&Recipe] = &[
    &afmoe::RECIPE,
    &arcee::RECIPE,
    &baichuan::RECIPE,
    &bailingmoe::RECIPE,
    &bailingmoe2::RECIPE,
    &bert::RECIPE,
    &bitnet::RECIPE,
    &bloom::RECIPE,
    &chatglm::RECIPE,
    &codeshell::RECIPE,
    &cohere2::RECIPE,
    &command_r::RECIPE,
    &deepseek::RECIPE,
    &deepseek2::RECIPE,
    &dots1::RECIPE,
    &ernie4_5::RECIPE,
    &ernie4_5_moe::RECIPE,
    &exaone::RECIPE,
    &exaone4::RECIPE,
    &exaone_moe::RECIPE,
    &falcon::RECIPE,
    &gemma::RECIPE,
    &gemma2::RECIPE,
    &gemma3::RECIPE,
    &gemma3n::RECIPE,
    &gemma4::RECIPE,
    &glm4::RECIPE,
    &glm4moe::RECIPE,
    &gpt2::RECIPE,
    &gpt_oss::RECIPE,
    &gptneox::RECIPE,
    &granite::RECIPE,
    &granitemoe::RECIPE,
    &internlm2::RECIPE,
    &jais::RECIPE,
    &jais2::RECIPE,
    &jina_bert_v2::RECIPE,
    &lfm2::RECIPE,
    &llama::RECIPE,
    &mellum::RECIPE,
    &minicpm::RECIPE,
    &minicpm3::RECIPE,
    &minimax_m2::RECIPE,
    &mistral3::RECIPE,
    &mpt::RECIPE,
    &nemotron::RECIPE,
    &nomic_bert::RECIPE,
    &nomic_bert_moe::RECIPE,
    &olmo::RECIPE,
    &olmo2::RECIPE,
    &olmoe::RECIPE,
    &openelm::RECIPE,
    &orion::RECIPE,
    &pangu_embedded::RECIPE,
    &phi2::RECIPE,
    &phi3::RECIPE,
    &plamo::RECIPE,
    &plm::RECIPE,
    &qwen::RECIPE,
    &qwen2::RECIPE,
    &qwen2moe::RECIPE,
    &qwen2vl::RECIPE,
    &qwen3::RECIPE,
    &qwen35::RECIPE,
    &qwen3moe::RECIPE,
    &qwen3vl::RECIPE,
    &qwen3vlmoe::RECIPE,
    &refact::RECIPE,
    &seed_oss::RECIPE,
    &smollm3::RECIPE,
    &stablelm::RECIPE,
    &starcoder::RECIPE,
    &starcoder2::RECIPE,
    &xverse::RECIPE,
];

/// The recipe named by `general.architecture`.
pub fn find(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().copied().find(|recipe| recipe.name == name)
}

/// The names of all architectures, for messages.
pub fn names() -> String {
    RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>().join(", ")
}
