//! Perplexity of model files with the kernels of their own types and in exact arithmetic,
//! with all weights turned into F32:
//!
//! `cargo bench -p realm-cpu --bench perplexity -- FILE... [--json FILE]`
//!
//! The text is a fixed one of simple stories, read in windows of 256 tokens.

#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::path::Path;
use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_testkit::perplexity::{TEXT, exact, perplexity};
use realm_testkit::program::Model;
use realm_tokenizer::{EncodeOptions, Tokenizer};
use serde_json::{Value, json};

const WINDOW: usize = 256;

fn main() {
    let mut files: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let json = files.iter().position(|a| a == "--json").map(|at| {
        assert!(at + 1 < files.len(), "--json wants a file");
        files.drain(at..at + 2).next_back().expect("two were taken")
    });
    if files.is_empty() {
        // `cargo bench` without a file runs every bench of the crate.
        println!("perplexity: name GGUF files to measure");
    }
    let results: Vec<_> = files.iter().map(|file| measure(Path::new(file))).collect();
    if let Some(json) = json {
        let record = json!({ "files": results });
        std::fs::write(json, format!("{record:#}\n")).expect("the file can be written");
    }
}

fn measure(path: &Path) -> Value {
    let backend = CpuBackend::new(CpuOptions { threads: None, ..Default::default() })
        .expect("the threads start");
    let gguf = Gguf::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).expect("a tokenizer");
    let options = EncodeOptions { parse_special: true, ..EncodeOptions::default() };
    let tokens = tokenizer.encode(TEXT, options);
    let plan = realm_model::build(&gguf, WINDOW).expect("a supported model");
    let model = Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers };
    let of = |model: &Model| perplexity(model, &backend, &tokens, WINDOW).expect("the model runs");
    let (ours, wanted) = (of(&model), of(&exact(&model)));
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into());
    println!(
        "{name}: {ours:.5} over {} tokens, in exact arithmetic {wanted:.5} ({:+.4} %)",
        tokens.len(),
        100.0 * (ours / wanted - 1.0)
    );
    json!({
        "name": name,
        "tokens": tokens.len(),
        "perplexity": ours,
        "exactPerplexity": wanted,
    })
}
