//! The architectures: one file of data each, and this list.

use crate::recipe::Recipe;

mod gemma2;
mod gemma3;
mod llama;
mod phi3;
mod qwen2;
mod qwen3;

/// Every architecture that can be run.
pub static RECIPES: &[&Recipe] = &[
    &gemma2::RECIPE,
    &gemma3::RECIPE,
    &llama::RECIPE,
    &phi3::RECIPE,
    &qwen2::RECIPE,
    &qwen3::RECIPE,
];

/// The recipe named by `general.architecture`.
pub fn find(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().copied().find(|recipe| recipe.name == name)
}

/// The names of all architectures, for messages.
pub fn names() -> String {
    RECIPES.iter().map(|recipe| recipe.name).collect::<Vec<_>>().join(", ")
}
