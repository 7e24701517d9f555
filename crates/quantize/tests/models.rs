//! Whole models of the conformance kit: the mixes beside llama.cpp's files.

mod common;

use std::sync::Arc;

use common::shown;
use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::{Gguf, TensorType};
use realm_ir::{
    Backend, BatchView, KvLayout, KvType, SequenceView, SessionConfig, StateLayout, Uploaded,
};
use realm_quantize::{Error, Mix, QuantizeOptions, plan};
use realm_testkit::compare::compare;
use realm_testkit::kit;

/// Mixes of which the kit has a file that llama.cpp made from the F16 one.
const MIXES: [Mix; 8] = [
    Mix::Q4_0,
    Mix::Q8_0,
    Mix::Q2_K,
    Mix::Q3_K_M,
    Mix::Q4_K_M,
    Mix::Q5_K_M,
    Mix::Q6_K,
    Mix::IQ4_XS,
];

fn kit_model(name: &str) -> Gguf {
    Gguf::open(kit::path().join(format!("quant-models/llama-{name}.gguf"))).unwrap()
}

fn quantized(test: &str, mix: Mix) -> Gguf {
    let folder = common::folder(&format!("{test}-{mix}"));
    let input = kit::path().join("quant-models/llama-F16.gguf");
    // Without an importance matrix, as llama.cpp's files, where that is allowed.
    let mut options = QuantizeOptions::new(mix);
    if matches!(plan(&input, &options), Err(Error::NeedsImatrix { .. })) {
        options.imatrix = Some(common::importance(&folder, &input));
    }
    common::run(&folder, &input, &options).unwrap().1
}

/// Name, shape and type of every tensor, by name.
fn shapes(gguf: &Gguf) -> Vec<(String, Vec<usize>, TensorType)> {
    let shape = |tensor: &realm_gguf::TensorInfo| {
        (tensor.name().to_owned(), tensor.shape().to_vec(), tensor.ty())
    };
    let mut shapes: Vec<_> = gguf.tensors().iter().map(shape).collect();
    shapes.sort();
    shapes
}

/// Every key with what it holds, as text.
fn entries(gguf: &Gguf) -> Vec<String> {
    let mut entries: Vec<_> =
        gguf.metadata().iter().map(|(key, value)| format!("{key}: {}", shown(value))).collect();
    entries.sort();
    entries
}

#[test]
fn tensors_and_metadata_are_those_of_llama_cpp() {
    for mix in MIXES {
        let (ours, llama_cpp) = (quantized("types", mix), kit_model(mix.name()));
        assert_eq!(shapes(&ours), shapes(&llama_cpp), "{mix}");
        assert_eq!(entries(&ours), entries(&llama_cpp), "{mix}");
    }
}

/// Logits of every token in one batch.
fn logits(gguf: &Gguf, tokens: &[u32]) -> Vec<f32> {
    let plan = realm_model::build(gguf, 512).unwrap();
    let backend = CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() }).unwrap();
    let weights: Arc<[Uploaded]> =
        plan.program.weights.iter().map(|weight| backend.upload(weight).unwrap()).collect();
    let n = tokens.len();
    let pages: Vec<u32> = (0..n.div_ceil(16) as u32).collect();
    let kv =
        KvLayout { layers: plan.kv_layers, page_tokens: 16, n_pages: pages.len(), ty: KvType::F32 };
    let program = Arc::new(plan.program);
    let config = SessionConfig {
        kv,
        states: StateLayout::default(),
        max_rows: n,
        max_outputs: n,
        layout: Default::default(),
    };
    let mut session = backend.session(Arc::clone(&program), weights, config).unwrap();
    let positions: Vec<u32> = (0..n as u32).collect();
    let batch = BatchView {
        tokens,
        positions: &positions,
        sequences: &[SequenceView {
            first_row: 0,
            n_rows: n,
            pages: &pages,
            state: 0,
            adapters: &[],
        }],
        output_rows: &positions,
        interrupt: None,
    };
    session.run(0..program.segments.len(), &batch).unwrap();
    let mut out = vec![0.0; n * program.width(program.logits)];
    pollster::block_on(session.read(program.logits, 0..n, &mut out)).unwrap();
    out
}

fn tokens() -> Vec<u32> {
    let file = kit::json("quant-models/tokens.json");
    let ids = file.get("tokens").unwrap_or(&file).as_array().unwrap().clone();
    ids.iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn logits_are_as_near_to_the_whole_model_as_those_of_llama_cpp() {
    let tokens = tokens();
    let (_, whole) = kit::npy_f32("quant-models/llama-F16.dequant_f32.npy");
    for mix in MIXES {
        let ours = compare(&logits(&quantized("logits", mix), &tokens), &whole);
        let llama_cpp = compare(&logits(&kit_model(mix.name()), &tokens), &whole);
        // Random weights: which errors add up in a logit is chance.
        assert!(ours.rms <= llama_cpp.rms * 1.15, "{mix}: {ours}, llama.cpp's: {llama_cpp}");
    }
}

#[test]
fn every_other_mix_gives_a_model_that_runs() {
    let tokens = tokens();
    let whole = logits(&kit_model("F16"), &tokens);
    for mix in Mix::all().filter(|mix| !MIXES.contains(mix)) {
        let off = compare(&logits(&quantized("runs", mix), &tokens), &whole);
        // Logits that had nothing to do with the model's would be off by 1.4; random weights
        // in fewer than three bits come near that.
        let bound =
            if mix.base().block_bytes() * 8 < mix.base().block_len() * 3 { 1.3 } else { 0.9 };
        assert!(off.relative() < bound, "{mix}: {off}");
    }
}
