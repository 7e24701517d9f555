//! The architectures: one file of data each, and this list.

use crate::recipe::Recipe;

mod afmoe;
mod apertus;
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
mod dbrx;
mod deci;
mod deepseek;
mod deepseek2;
mod dots1;
mod ernie4_5;
mod ernie4_5_moe;
mod eurobert;
mod exaone;
mod exaone4;
mod exaone_moe;
mod falcon;
mod falcon_h1;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod gemma_embedding;
mod glm4;
mod glm4moe;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod granitehybrid;
mod granitemoe;
mod hunyuan_dense;
mod hunyuan_moe;
mod hunyuan_vl;
mod hy_v3;
mod internlm2;
mod jais;
mod jais2;
mod jamba;
mod jina_bert_v2;
mod jina_bert_v3;
mod lfm2;
mod lfm2moe;
mod llama;
mod llama4;
mod llama_embed;
mod maincoder;
mod mamba;
mod mamba2;
mod mellum;
mod mimo2;
mod minicpm;
mod minicpm3;
mod minimax_m2;
mod mistral3;
mod mistral4;
mod modern_bert;
mod mpt;
mod nemotron;
mod nemotron_h;
mod nemotron_h_moe;
mod neo_bert;
mod nomic_bert;
mod nomic_bert_moe;
mod olmo;
mod olmo2;
mod olmoe;
mod openelm;
mod orion;
mod paddleocr;
mod pangu_embedded;
mod phi2;
mod phi3;
mod phimoe;
mod plamo;
mod plamo3;
mod plm;
mod qwen;
mod qwen2;
mod qwen2moe;
mod qwen2vl;
mod qwen3;
mod qwen35;
mod qwen35moe;
mod qwen3moe;
mod qwen3next;
mod qwen3vl;
mod qwen3vlmoe;
mod refact;
mod seed_oss;
mod smallthinker;
mod smollm3;
mod stablelm;
mod starcoder;
mod starcoder2;
mod xverse;

/// Every architecture that can be run.
pub static RECIPES: &[&Recipe] = &[
    &afmoe::RECIPE,
    &apertus::RECIPE,
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
    &dbrx::RECIPE,
    &deci::RECIPE,
    &deepseek::RECIPE,
    &deepseek2::RECIPE,
    &dots1::RECIPE,
    &ernie4_5::RECIPE,
    &ernie4_5_moe::RECIPE,
    &eurobert::RECIPE,
    &exaone::RECIPE,
    &exaone4::RECIPE,
    &exaone_moe::RECIPE,
    &falcon::RECIPE,
    &falcon_h1::RECIPE,
    &gemma::RECIPE,
    &gemma2::RECIPE,
    &gemma3::RECIPE,
    &gemma3n::RECIPE,
    &gemma4::RECIPE,
    &gemma_embedding::RECIPE,
    &glm4::RECIPE,
    &glm4moe::RECIPE,
    &gpt2::RECIPE,
    &gpt_oss::RECIPE,
    &gptneox::RECIPE,
    &granite::RECIPE,
    &granitehybrid::RECIPE,
    &granitemoe::RECIPE,
    &hunyuan_dense::RECIPE,
    &hunyuan_moe::RECIPE,
    &hunyuan_vl::RECIPE,
    &hy_v3::RECIPE,
    &internlm2::RECIPE,
    &jais::RECIPE,
    &jais2::RECIPE,
    &jamba::RECIPE,
    &jina_bert_v2::RECIPE,
    &jina_bert_v3::RECIPE,
    &lfm2::RECIPE,
    &lfm2moe::RECIPE,
    &llama::RECIPE,
    &llama4::RECIPE,
    &llama_embed::RECIPE,
    &maincoder::RECIPE,
    &mamba::RECIPE,
    &mamba2::RECIPE,
    &mellum::RECIPE,
    &mimo2::RECIPE,
    &minicpm::RECIPE,
    &minicpm3::RECIPE,
    &minimax_m2::RECIPE,
    &mistral3::RECIPE,
    &mistral4::RECIPE,
    &modern_bert::RECIPE,
    &mpt::RECIPE,
    &nemotron::RECIPE,
    &nemotron_h::RECIPE,
    &nemotron_h_moe::RECIPE,
    &neo_bert::RECIPE,
    &nomic_bert::RECIPE,
    &nomic_bert_moe::RECIPE,
    &olmo::RECIPE,
    &olmo2::RECIPE,
    &olmoe::RECIPE,
    &openelm::RECIPE,
    &orion::RECIPE,
    &paddleocr::RECIPE,
    &pangu_embedded::RECIPE,
    &phi2::RECIPE,
    &phi3::RECIPE,
    &phimoe::RECIPE,
    &plamo::RECIPE,
    &plamo3::RECIPE,
    &plm::RECIPE,
    &qwen::RECIPE,
    &qwen2::RECIPE,
    &qwen2moe::RECIPE,
    &qwen2vl::RECIPE,
    &qwen3::RECIPE,
    &qwen35::RECIPE,
    &qwen35moe::RECIPE,
    &qwen3moe::RECIPE,
    &qwen3next::RECIPE,
    &qwen3vl::RECIPE,
    &qwen3vlmoe::RECIPE,
    &refact::RECIPE,
    &seed_oss::RECIPE,
    &smallthinker::RECIPE,
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
