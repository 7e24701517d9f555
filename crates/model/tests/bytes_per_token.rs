//! How much of a model making one token reads.

use realm_gguf::Gguf;
use realm_model::build;
use realm_testkit::families;

/// What the tensors say: of experts the share that is used, of a table of embeddings that is
/// not also the head one row, all of everything else.
fn expected(gguf: &Gguf) -> u64 {
    let number = |key: &str| {
        let architecture = gguf.metadata().require_str("general.architecture").unwrap();
        gguf.metadata().u32(&format!("{architecture}.{key}")).unwrap()
    };
    let has_head = gguf.tensors().iter().any(|tensor| tensor.name() == "output.weight");
    let read = |tensor: &realm_gguf::TensorInfo| {
        let bytes = tensor.n_bytes() as u64;
        match tensor.name() {
            "token_embd.weight" if has_head => bytes / tensor.shape()[1] as u64,
            name if name.ends_with("_exps.weight") => {
                let used = number("expert_used_count").unwrap();
                bytes / u64::from(number("expert_count").unwrap()) * u64::from(used)
            }
            _ => bytes,
        }
    };
    gguf.tensors().iter().map(read).sum()
}

#[test]
fn a_token_reads_its_own_embedding_the_experts_it_is_sent_to_and_all_else() {
    // With a head, with a tied head, with experts.
    for name in ["llama", "gemma2", "llama.experts", "qwen3moe"] {
        let family = families::all().into_iter().find(|family| family.name() == name).unwrap();
        let gguf = Gguf::from_bytes(family.file()).unwrap();
        let plan = build(&gguf, 64).unwrap();
        assert_eq!(plan.program.bytes_per_token(), expected(&gguf), "{name}");
    }
}
