//! Models with adapters against the oracle on models that the adapters have been
//! merged into: `w + scale * b a` in the file, nothing beside it.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::{Gguf, TensorInfo, TensorType};
use realm_ir::{Adapter, AdapterUse, Backend, Coded, ErrorCode, Session, Uploaded};
use realm_model::{ModelPlan, read_adapter};
use realm_testkit::compare::compare;
use realm_testkit::kit;
use realm_testkit::lora::Lora;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Model, Size};

const PAGES: [u32; 3] = [3, 11, 2];
const PROMPT: [u32; 9] = [5, 9, 30, 1, 2, 31, 7, 8, 8];

/// A model of the kit.
struct Base {
    bytes: Vec<u8>,
    gguf: Gguf,
    plan: ModelPlan,
}

impl Base {
    /// None for a family that cannot be run yet.
    fn new(bytes: Vec<u8>) -> Option<Self> {
        let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
        let plan = realm_model::build(&gguf, 64).ok()?;
        Some(Base { bytes, gguf, plan })
    }

    fn kit(name: &str) -> Self {
        Base::new(kit::read_maybe_gz(&format!("models/{name}/model.gguf.gz"))).unwrap()
    }

    fn model(&self) -> Model {
        let program = Arc::new(self.plan.program.clone());
        Model { program, kv_layers: self.plan.kv_layers.clone() }
    }

    fn adapter(&self, lora: &Lora) -> Adapter {
        let file = Gguf::from_bytes(lora.to_bytes()).unwrap();
        read_adapter(&file, &self.gguf, &self.plan.program, &self.plan.parts).unwrap().0
    }

    /// The same model with adapters merged into its file.
    fn merged(&self, loras: &[(&Lora, f32)]) -> Base {
        let mut bytes = self.bytes.clone();
        loras.iter().for_each(|(lora, scale)| lora.merge_into(&mut bytes, *scale));
        Base::new(bytes).unwrap()
    }

    fn random(&self, seed: u64, rank: usize) -> Lora {
        let has_output = self.gguf.tensor("output.weight").is_some();
        Lora::random(&self.gguf, seed, rank, TensorType::F32, |tensor| {
            is_matrix(tensor) && (has_output || tensor.name() != "token_embd.weight")
        })
    }
}

/// Tensors of more than one dimension that rows are not simply multiplied with.
const OTHERS: [&str; 9] = [
    ".bias",
    "norm",
    "position_embd",
    "per_layer_token_embd",
    "conv",
    "attn_k_b",
    "attn_v_b",
    "attn_kv_b",
    "ssm_a.",
];

fn is_matrix(tensor: &TensorInfo) -> bool {
    let is_other = OTHERS.iter().any(|other| tensor.name().contains(other));
    tensor.ty() == TensorType::F32 && tensor.shape().len() > 1 && !is_other
}

fn cpu(threads: usize) -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(threads), ..Default::default() }).unwrap()
}

/// Uploads adapters and gives them a scale.
fn upload(backend: &CpuBackend, base: &Base, loras: &[(&Lora, f32)]) -> Vec<AdapterUse> {
    let used = loras.iter().map(|(lora, scale)| {
        let adapter = backend.upload_adapter(&base.adapter(lora)).unwrap();
        AdapterUse { adapter, scale: *scale }
    });
    used.collect()
}

/// Logits of a prompt, then of one more token.
fn logits(model: &Model, session: &mut dyn Session, used: &[AdapterUse]) -> Vec<f32> {
    let prompt = Call::one(&PROMPT, 0, &PAGES).with(used);
    let mut logits = prompt.logits(model, session).unwrap();
    let next = Call::one(&[12], PROMPT.len() as u32, &PAGES).with(used);
    logits.extend(next.logits(model, session).unwrap());
    logits
}

fn oracle(base: &Base) -> Vec<f32> {
    let model = base.model();
    logits(&model, &mut *model.open(&NaiveBackend, Size::default()).unwrap(), &[])
}

fn adapted(base: &Base, loras: &[(&Lora, f32)]) -> Vec<f32> {
    let (backend, model) = (cpu(2), base.model());
    let used = upload(&backend, base, loras);
    logits(&model, &mut *model.open(&backend, Size::default()).unwrap(), &used)
}

#[test]
fn every_family_of_the_kit_runs_with_an_adapter_as_if_it_were_merged() {
    let mut n_run = 0;
    for case in kit::cases("logits") {
        let id = case["id"].as_str().unwrap();
        let Some(base) = Base::new(kit::read_maybe_gz(case["model"].as_str().unwrap())) else {
            continue;
        };
        let lora = base.random(7, 4);
        if lora.pairs.is_empty() {
            continue;
        }
        n_run += 1;
        let wanted = oracle(&base.merged(&[(&lora, 0.75)]));
        let changed = compare(&oracle(&base), &wanted);
        assert!(changed.relative() > 0.05, "{id}: the adapter shows: {changed}");
        let off = compare(&adapted(&base, &[(&lora, 0.75)]), &wanted);
        assert!(off.max_abs <= 1e-4 * off.rms_wanted.max(1.0), "{id}: {off}");
    }
    assert!(n_run > 15, "{n_run} families");
}

#[test]
fn the_projections_of_gemma_3n_have_a_pair_of_matrices_for_each_stream() {
    let base = Base::new(realm_testkit::gemma3n::file()).unwrap();
    for part in ["altup_proj", "altup_unembd_proj"] {
        let wanted = |tensor: &TensorInfo| tensor.name() == format!("{part}.weight");
        let lora = Lora::random(&base.gguf, 3, 4, TensorType::F32, wanted);
        assert_eq!(lora.pairs.len(), 1, "{part}");
        let merged = oracle(&base.merged(&[(&lora, 0.75)]));
        let changed = compare(&oracle(&base), &merged);
        assert!(changed.relative() > 0.02, "{part}: the adapter shows: {changed}");
        let off = compare(&adapted(&base, &[(&lora, 0.75)]), &merged);
        assert!(off.max_abs <= 1e-4 * off.rms_wanted.max(1.0), "{part}: {off}");
    }
}

#[test]
fn several_adapters_add_up() {
    let base = Base::kit("phi3");
    let (first, second) = (base.random(1, 4), base.random(2, 3));
    let used = [(&first, 0.5), (&second, -0.8)];
    let off = compare(&adapted(&base, &used), &oracle(&base.merged(&used)));
    assert!(off.max_abs <= 1e-4 * off.rms_wanted.max(1.0), "{off}");
}

#[test]
fn alpha_and_rank_make_the_factor_and_an_alpha_of_0_leaves_it_out() {
    let base = Base::kit("llama");
    let plain = base.random(3, 4);
    let wanted = adapted(&base, &[(&plain, 1.0)]);
    for (alpha, scale) in [(8.0, 0.5), (2.0, 2.0), (0.0, 1.0)] {
        let scaled = Lora { alpha, ..plain.clone() };
        assert!(adapted(&base, &[(&scaled, scale)]) == wanted, "alpha {alpha}");
    }
}

#[test]
fn matrices_of_other_types_are_read_in_place() {
    let base = Base::kit("llama");
    // Products of quantised matrices round their input to int8.
    for (ty, rank, allowed) in [
        (TensorType::F16, 5, 1e-4),
        (TensorType::BF16, 5, 1e-4),
        (TensorType::Q8_0, 32, 2e-2),
        (TensorType::Q4_0, 32, 2e-2),
    ] {
        let lora = Lora::random(&base.gguf, 4, rank, ty, is_matrix);
        let wanted = oracle(&base.merged(&[(&lora, 1.0)]));
        let off = compare(&adapted(&base, &[(&lora, 1.0)]), &wanted);
        assert!(off.relative() <= allowed, "{ty}: {off}");
    }
}

#[test]
fn an_embedding_that_is_the_output_too_is_only_adapted_where_it_is_looked_up() {
    let base = Base::kit("llama-spm-tied");
    let is_embedding = |tensor: &TensorInfo| tensor.name() == "token_embd.weight";
    let lora = Lora::random(&base.gguf, 6, 4, TensorType::F32, is_embedding);
    let model = base.model();
    // The same file with the output written out: only there can both differ.
    let merged = base.merged(&[(&lora, 1.0)]);
    let mut program = base.plan.program.clone();
    let realm_ir::Step::Embed(embed) = &mut program.segments[0][0] else { panic!("embeds first") };
    let table = merged.gguf.tensor("token_embd.weight").unwrap();
    program.weights.push(table);
    embed.table = realm_ir::WeightRef(program.weights.len() - 1);
    let untied = Model { program: Arc::new(program), kv_layers: model.kv_layers };
    let mut session = untied.open(&NaiveBackend, Size::default()).unwrap();
    let wanted = logits(&untied, &mut *session, &[]);
    let off = compare(&adapted(&base, &[(&lora, 1.0)]), &wanted);
    assert!(off.max_abs <= 1e-4 * off.rms_wanted.max(1.0), "{off}");
}

#[test]
fn sequences_of_one_batch_have_their_own_adapters_and_the_results_they_have_alone() {
    for name in ["llama", "phi3", "mixtral", "qwen35"] {
        let base = Base::kit(name);
        let (first, second) = (base.random(1, 4), base.random(2, 9));
        for threads in [1, 3] {
            let (backend, model) = (cpu(threads), base.model());
            let a = upload(&backend, &base, &[(&first, 1.0)]);
            let b = upload(&backend, &base, &[(&second, 0.5), (&first, 0.25)]);
            let open = || model.open(&backend, Size::default()).unwrap();
            let alone = |tokens: &[u32], used: &[AdapterUse]| {
                let call = Call::one(tokens, 0, &PAGES).with(used);
                call.logits(&model, &mut *open()).unwrap()
            };
            let parts: [(&[u32], &[AdapterUse]); 4] = [
                (&[5, 9, 30, 1, 2], &a),
                (&[4, 4, 8], &b),
                (&[17, 3, 9], &[]),
                (&[5, 9, 30, 1, 7], &b),
            ];
            // Recurrent states are the sequence's own, and the kit's calls have but one.
            let parts = if name == "qwen35" { &parts[..1] } else { &parts[..] };
            let mut together = Call::default();
            let mut wanted = Vec::new();
            for (index, (tokens, used)) in parts.iter().enumerate() {
                let pages = [2 * index as u32, 2 * index as u32 + 1];
                together = together.and(tokens, 0, &pages).with(used);
                wanted.extend(alone(tokens, used));
            }
            let got = together.logits(&model, &mut *open()).unwrap();
            assert!(got == wanted, "{name}, {threads} threads");
            // Token by token, too.
            let (tokens, used) = parts[0];
            let mut session = open();
            let steps = tokens.iter().enumerate().flat_map(|(i, token)| {
                let call = Call::one(&[*token], i as u32, &PAGES).with(used);
                call.logits(&model, &mut *session).unwrap()
            });
            assert!(steps.collect::<Vec<_>>() == alone(tokens, used), "{name}, token by token");
        }
    }
}

#[test]
fn a_sequence_without_adapters_is_what_it_was_before_there_were_any() {
    let base = Base::kit("llama");
    let lora = base.random(1, 4);
    let (backend, model) = (cpu(2), base.model());
    let used = upload(&backend, &base, &[(&lora, 1.0)]);
    let mut session = model.open(&backend, Size::default()).unwrap();
    let before = logits(&model, &mut *session, &[]);
    let with = logits(&model, &mut *session, &used);
    let after = logits(&model, &mut *session, &[]);
    assert!(before == after && before != with, "the weights stay as they are");
    assert!(logits(&model, &mut *session, &upload(&backend, &base, &[(&lora, 0.0)])) == before);
}

#[test]
fn an_adapter_for_another_program_or_backend_is_refused_before_it_can_harm() {
    let base = Base::kit("llama");
    let (backend, model) = (cpu(1), base.model());
    let mut narrow = base.adapter(&base.random(1, 4));
    for part in narrow.products.iter_mut().chain(&mut narrow.lookups) {
        part.b = part.b.rows(0..1).unwrap();
    }
    let mut session = model.open(&backend, Size::default()).unwrap();
    for (adapter, code) in [
        (backend.upload_adapter(&narrow).unwrap(), ErrorCode::ShapeMismatch),
        (Arc::new(0u8) as Uploaded, ErrorCode::ModelUnsupported),
    ] {
        let call = Call::one(&PROMPT, 0, &PAGES).with(&[AdapterUse { adapter, scale: 1.0 }]);
        let error = call.logits(&model, &mut *session).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    // The session goes on.
    assert!(Call::one(&PROMPT, 0, &PAGES).logits(&model, &mut *session).is_ok());
}
