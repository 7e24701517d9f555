//! What rounding activations costs: the bundled models read a text with the kernels of
//! their own types and with weights turned into F32.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_testkit::kit;
use realm_testkit::perplexity::{TEXT, exact, perplexity};
use realm_testkit::program::Model;
use realm_tokenizer::{EncodeOptions, Tokenizer};

/// Tokens that are read at once.
const WINDOW: usize = 256;
/// Most that the two perplexities may differ by, relatively.
const TOLERANCE: f64 = 1e-3;

fn bundled() -> Vec<PathBuf> {
    let folder = kit::path().join("../models");
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).collect()
}

#[test]
fn quantised_arithmetic_keeps_perplexity_within_a_thousandth() {
    let backend = CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
    let paths = bundled();
    assert!(paths.len() >= 3, "{paths:?}");
    for path in paths {
        let gguf = Gguf::open(&path).unwrap();
        let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
        let tokens = tokenizer
            .encode(TEXT, EncodeOptions { parse_special: true, ..EncodeOptions::default() });
        assert!(tokens.len() > 2000, "{} tokens", tokens.len());
        let plan = realm_model::build(&gguf, WINDOW).unwrap();
        let model = Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers };
        let ours = perplexity(&model, &backend, &tokens, WINDOW).unwrap();
        let wanted = perplexity(&exact(&model), &backend, &tokens, WINDOW).unwrap();
        let difference = ours / wanted - 1.0;
        // A model that predicts nothing would be insensitive to rounding.
        assert!(wanted < 100.0, "{}: {wanted}", path.display());
        assert!(difference.abs() < TOLERANCE, "{}: {ours}, exactly {wanted}", path.display());
    }
}
