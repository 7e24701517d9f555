//! LoRA adapters for models that are sound.

use std::sync::LazyLock;

use realm_gguf::Gguf;
use realm_model::{ModelPlan, build, read_adapter};
use realm_testkit::families;

/// A dense model and one with experts.
static BASES: LazyLock<Vec<(Gguf, ModelPlan)>> =
    LazyLock::new(|| ["llama", "qwen3moe"].map(base).into());

fn base(name: &str) -> (Gguf, ModelPlan) {
    let family = families::all().into_iter().find(|family| family.name() == name);
    let file = family.expect("a family of this name").file();
    let gguf = Gguf::from_bytes(file).expect("a sound file");
    let plan = build(&gguf, 64).expect("a sound model");
    (gguf, plan)
}

/// Reads a file as an adapter; what is accepted fits the model.
pub fn adapter(bytes: &[u8]) {
    let Ok(file) = Gguf::from_bytes(bytes) else { return };
    for (gguf, plan) in BASES.iter() {
        let Ok((adapter, info)) = read_adapter(&file, gguf, &plan.program, &plan.parts) else {
            continue;
        };
        assert!(info.n_tensors > 0, "an adapter adds to something");
        for pair in &adapter.products {
            let weight = plan.program.weight(pair.weight);
            assert_eq!(pair.a.row_len(), weight.row_len(), "{}", weight.name());
            assert_eq!(pair.b.n_rows(), weight.n_rows(), "{}", weight.name());
        }
        for pair in &adapter.lookups {
            let table = plan.program.weight(pair.weight);
            assert_eq!(pair.a.n_rows(), table.n_rows(), "{}", table.name());
            assert_eq!(pair.b.n_rows(), table.row_len(), "{}", table.name());
        }
    }
}
