//! Every family against llama.cpp: `references/README.md` says how its values were made.

use std::path::Path;
use std::{fs, io};

use realm_cpu::Level;
use realm_gguf::Gguf;
use realm_model::arch;
use realm_testkit::compare::compare;
use realm_testkit::families::{self, Family};
use realm_testkit::kit;

use crate::{model, outputs};

/// What llama.cpp gives for each token of the prompt.
fn reference(family: &Family) -> io::Result<Vec<f32>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references");
    let bytes = fs::read(folder.join(format!("{}.f32", family.name())))?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// Families whose activation is GELU. llama.cpp looks it up in a table of f16, and
/// computes it with a hyperbolic tangent where some have the error function.
const GELU: &[&str] = &[
    "bert",
    "bloom",
    "codeshell",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma4",
    "gemma-embedding",
    "gpt2",
    "gptneox",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "mpt",
    "nomic-bert-moe",
    "phi2",
    "starcoder",
    "starcoder2",
];

/// Largest difference allowed, of outputs whose size is 1.
fn bound(family: &Family) -> f32 {
    match family.architecture {
        gelu if GELU.contains(&gelu) => 6e-3,
        // llama.cpp's unit lengths of queries and keys have no epsilon, which is felt
        // where the first positions' are short.
        "qwen35" | "qwen35moe" | "qwen3next" => 5e-4,
        _ => 5e-5,
    }
}

/// How the family is off, if it is.
fn fault(family: &Family) -> Option<String> {
    let model = match model(&family.file()) {
        Ok(model) => model,
        Err(error) => return Some(error.to_string()),
    };
    let n_first = if model.is_causal() { 9 } else { families::PROMPT.len() };
    let wanted = match reference(family) {
        Ok(wanted) => wanted,
        Err(error) => return Some(format!("no reference: {error}")),
    };
    let got = outputs(&model, n_first, Level::best());
    if got.len() != wanted.len() {
        return Some(format!("{} values, llama.cpp gives {}", got.len(), wanted.len()));
    }
    let off = compare(&got, &wanted);
    if off.rms_wanted < 0.9 || off.rms_wanted > 16.0 {
        return Some(format!("outputs of a size that shows nothing: {off}"));
    }
    if let Some(level) = Level::available().find(|l| outputs(&model, n_first, *l) != got) {
        return Some(format!("other bits at level {level}"));
    }
    let bound = bound(family) * off.rms_wanted;
    (off.max_abs > bound).then(|| format!("{off}, allowed {bound:.1e}"))
}

#[test]
fn every_family_gives_what_llama_cpp_gives_and_the_same_bits_at_every_level() {
    let faults: Vec<String> = families::all()
        .iter()
        .filter_map(|family| Some(format!("{}: {}", family.name(), fault(family)?)))
        .collect();
    assert!(faults.is_empty(), "{} off:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_architecture_is_here_or_in_the_kit() {
    let here = families::all().into_iter().map(|family| family.architecture.to_owned());
    let kit = kit::cases("logits").into_iter().filter_map(|case| {
        let bytes = kit::read_maybe_gz(case["model"].as_str()?);
        let gguf = Gguf::from_bytes(bytes).ok()?;
        Some(gguf.metadata().require_str("general.architecture").ok()?.to_owned())
    });
    // Has a file of tests alone.
    let elsewhere = ["gemma3n".to_owned()];
    let known: Vec<String> = here.chain(kit).chain(elsewhere).collect();
    let missing: Vec<_> = arch::RECIPES
        .iter()
        .map(|recipe| recipe.name)
        .filter(|name| !known.iter().any(|known| known == name))
        .collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}
