//! Models with adapters against the oracle on models that the adapters have been merged into:
//! `w + scale * b a` in the file, nothing beside it.

mod common;

use std::sync::Arc;

use realm_gguf::{Gguf, TensorData, TensorInfo, TensorType};
use realm_ir::{
    Adapter, AdapterUse, Backend, BatchView, Coded, ErrorCode, SequenceView, Session, Step,
    Uploaded, WeightRef,
};
use realm_model::{ModelPlan, read_adapter};
use realm_testkit::compare::compare;
use realm_testkit::kit;
use realm_testkit::lora::Lora;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Model, Size, read};

use common::{backend, open};

const PAGES: [u32; 4] = [3, 11, 2, 7];
const PROMPT: [u32; 11] = [5, 9, 30, 1, 2, 31, 7, 8, 8, 4, 21];

/// A model of the kit.
struct Base {
    bytes: Vec<u8>,
    gguf: Gguf,
    plan: ModelPlan,
}

impl Base {
    fn new(bytes: Vec<u8>) -> Self {
        let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
        let plan = realm_model::build(&gguf, 64).unwrap();
        Base { bytes, gguf, plan }
    }

    fn kit(name: &str) -> Self {
        Base::new(kit::read_maybe_gz(&format!("models/{name}/model.gguf.gz")))
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
        Base::new(bytes)
    }

    /// Pairs for all matrices that rows are multiplied with.
    fn random(&self, seed: u64, rank: usize, ty: TensorType) -> Lora {
        let has_output = self.gguf.tensor("output.weight").is_some();
        Lora::random(&self.gguf, seed, rank, ty, |tensor| {
            is_matrix(tensor) && (has_output || tensor.name() != "token_embd.weight")
        })
    }

    /// Logits of a prompt, then of one more token.
    fn logits(&self, backend: &dyn Backend, used: &[AdapterUse]) -> Vec<f32> {
        let model = self.model();
        logits(&model, &mut *model.open(backend, Size::default()).unwrap(), used)
    }

    /// The oracle's, with adapters merged.
    fn wanted(&self, loras: &[(&Lora, f32)]) -> Vec<f32> {
        self.merged(loras).logits(&NaiveBackend, &[])
    }

    fn adapted(&self, loras: &[(&Lora, f32)]) -> Vec<f32> {
        self.logits(backend(), &upload(self, loras))
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

/// Uploads adapters and gives them a scale.
fn upload(base: &Base, loras: &[(&Lora, f32)]) -> Vec<AdapterUse> {
    let used = loras.iter().map(|(lora, scale)| {
        let adapter = backend().upload_adapter(&base.adapter(lora)).unwrap();
        AdapterUse { adapter, scale: *scale }
    });
    used.collect()
}

fn logits(model: &Model, session: &mut dyn Session, used: &[AdapterUse]) -> Vec<f32> {
    let prompt = Call::one(&PROMPT, 0, &PAGES).with(used);
    let mut logits = prompt.logits(model, session).unwrap();
    let next = Call::one(&[12], PROMPT.len() as u32, &PAGES).with(used);
    logits.extend(next.logits(model, session).unwrap());
    logits
}

#[track_caller]
fn assert_near(what: &str, got: &[f32], wanted: &[f32]) {
    let off = compare(got, wanted);
    assert!(off.max_abs <= 1e-4 * off.rms_wanted.max(1.0), "{what}: {off}");
}

#[test]
fn every_family_of_the_kit_runs_with_an_adapter_as_if_it_were_merged() {
    let mut n_run = 0;
    for case in kit::cases("logits") {
        let id = case["id"].as_str().unwrap();
        let base = Base::new(kit::read_maybe_gz(case["model"].as_str().unwrap()));
        let lora = base.random(7, 4, TensorType::F32);
        if lora.pairs.is_empty() {
            continue;
        }
        n_run += 1;
        let wanted = base.wanted(&[(&lora, 0.75)]);
        let changed = compare(&base.logits(&NaiveBackend, &[]), &wanted);
        assert!(changed.relative() > 0.05, "{id}: the adapter shows: {changed}");
        assert_near(id, &base.adapted(&[(&lora, 0.75)]), &wanted);
    }
    assert!(n_run > 15, "{n_run} families");
}

#[test]
fn alpha_and_rank_make_a_factor_and_an_alpha_of_0_leaves_it_out() {
    let base = Base::kit("llama");
    let plain = base.random(3, 4, TensorType::F32);
    for (alpha, scale, factor) in [(8.0, 0.5, 1.0), (2.0, 1.0, 0.5), (0.0, 1.0, 1.0)] {
        let scaled = Lora { alpha, ..plain.clone() };
        let wanted = base.wanted(&[(&plain, factor)]);
        assert_near(&format!("alpha {alpha}"), &base.adapted(&[(&scaled, scale)]), &wanted);
    }
}

#[test]
fn matrices_of_other_types_and_ranks_are_added_unrounded() {
    let base = Base::kit("llama");
    for (ty, rank) in [
        (TensorType::F16, 5),
        (TensorType::BF16, 64),
        (TensorType::Q8_0, 32),
        (TensorType::Q4_0, 32),
    ] {
        let lora = base.random(4, rank, ty);
        assert_near(ty.name(), &base.adapted(&[(&lora, 1.0)]), &base.wanted(&[(&lora, 1.0)]));
    }
}

#[test]
fn matrices_above_the_binding_limit_are_split_by_rows() {
    // Products with known answers fit.
    const LIMIT: usize = 150_000;
    let small = open(Some(LIMIT));
    let base = Base::kit("llama");
    let lora = base.random(5, 700, TensorType::F32);
    let is_large = |matrix: &TensorData| matrix.bytes().len() > LIMIT;
    let adapter = base.adapter(&lora);
    assert!(adapter.products.iter().any(|pair| is_large(&pair.a) && is_large(&pair.b)));
    let used = AdapterUse { adapter: small.upload_adapter(&adapter).unwrap(), scale: 1.0 };
    assert_near("split", &base.logits(&small, &[used]), &base.wanted(&[(&lora, 1.0)]));
}

#[test]
fn an_embedding_that_is_the_output_too_is_only_adapted_where_it_is_looked_up() {
    let base = Base::kit("llama-spm-tied");
    let is_embedding = |tensor: &TensorInfo| tensor.name() == "token_embd.weight";
    let lora = Lora::random(&base.gguf, 6, 4, TensorType::F32, is_embedding);
    // The same file with the output written out: only there can both differ.
    let merged = base.merged(&[(&lora, 1.0)]);
    let mut program = base.plan.program.clone();
    let Step::Embed(embed) = &mut program.segments[0][0] else { panic!("embeds first") };
    program.weights.push(merged.gguf.tensor("token_embd.weight").unwrap());
    embed.table = WeightRef(program.weights.len() - 1);
    let untied = Model { program: Arc::new(program), kv_layers: base.plan.kv_layers.clone() };
    let mut session = untied.open(&NaiveBackend, Size::default()).unwrap();
    let wanted = logits(&untied, &mut *session, &[]);
    assert_near("tied", &base.adapted(&[(&lora, 1.0)]), &wanted);
}

/// Logits of the last rows of sequences in one batch, each with its tokens and adapters.
fn last_logits(
    model: &Model,
    session: &mut dyn Session,
    parts: &[(&[u32], &[AdapterUse])],
) -> Vec<Vec<f32>> {
    let pages: Vec<[u32; 3]> =
        (0..).step_by(3).map(|i| [i, i + 1, i + 2]).take(parts.len()).collect();
    let (mut tokens, mut positions, mut sequences, mut output_rows) =
        (vec![], vec![], vec![], vec![]);
    for ((own, adapters), pages) in parts.iter().zip(&pages) {
        let first_row = tokens.len();
        sequences.push(SequenceView { first_row, n_rows: own.len(), pages, state: 0, adapters });
        tokens.extend(*own);
        positions.extend(0..own.len() as u32);
        output_rows.push(tokens.len() as u32 - 1);
    }
    let (tokens, positions, sequences) = (&tokens[..], &positions[..], &sequences[..]);
    let batch =
        BatchView { tokens, positions, sequences, output_rows: &output_rows, interrupt: None };
    session.run(model.segments(), &batch).unwrap();
    let logits = read(model, session, model.program.logits, parts.len()).unwrap();
    logits.chunks(logits.len() / parts.len()).map(<[f32]>::to_vec).collect()
}

#[test]
fn sequences_of_one_batch_have_their_own_adapters_and_the_results_they_have_alone() {
    for name in ["llama", "mixtral"] {
        let base = Base::kit(name);
        let model = base.model();
        let (first, second) =
            (base.random(1, 4, TensorType::F32), base.random(2, 9, TensorType::F32));
        let lists: [&[(&Lora, f32)]; 4] =
            [&[(&first, 1.0)], &[(&second, 0.5), (&first, -0.25)], &[], &[(&second, 1.0)]];
        let used: Vec<_> = upload(&base, &[(&first, 1.0), (&second, 1.0)]);
        let uses = lists.map(|list| -> Vec<AdapterUse> {
            let of = |(lora, scale): &(&Lora, f32)| {
                let index = usize::from(std::ptr::eq(*lora, &second));
                AdapterUse { scale: *scale, ..used[index].clone() }
            };
            list.iter().map(of).collect()
        });
        let mut session = model.open(backend(), Size::default()).unwrap();
        // Few rows, then so many that those of one adapter are put together.
        for lens in [[1, 2, 1, 1], [5, 3, 4, 4]] {
            let tokens = [
                &PROMPT[..lens[0]],
                &PROMPT[3..3 + lens[1]],
                &PROMPT[..lens[2]],
                &PROMPT[4..4 + lens[3]],
            ];
            let parts: Vec<(&[u32], &[AdapterUse])> =
                tokens.iter().zip(&uses).map(|(tokens, uses)| (*tokens, &uses[..])).collect();
            let got = last_logits(&model, &mut *session, &parts);
            for ((tokens, list), got) in tokens.iter().zip(&lists).zip(got) {
                let merged = base.merged(list).model();
                let mut oracle = merged.open(&NaiveBackend, Size::default()).unwrap();
                let wanted = last_logits(&merged, &mut *oracle, &[(tokens, &[])]);
                assert_near(&format!("{name} {tokens:?}"), &got, &wanted[0]);
            }
        }
    }
}

#[test]
fn a_sequence_without_adapters_is_what_it_was_before_there_were_any() {
    let base = Base::kit("llama");
    let model = base.model();
    let used = upload(&base, &[(&base.random(1, 4, TensorType::F16), 1.0)]);
    let mut session = model.open(backend(), Size::default()).unwrap();
    let before = logits(&model, &mut *session, &[]);
    let with = logits(&model, &mut *session, &used);
    let after = logits(&model, &mut *session, &[]);
    assert!(before == after && before != with, "the weights stay as they are");
    let none = [AdapterUse { scale: 0.0, ..used[0].clone() }];
    assert!(logits(&model, &mut *session, &none) == before);
}

#[test]
fn an_adapter_for_another_program_or_backend_is_refused_before_it_can_harm() {
    let base = Base::kit("llama");
    let model = base.model();
    let mut narrow = base.adapter(&base.random(1, 4, TensorType::F32));
    for part in narrow.products.iter_mut().chain(&mut narrow.lookups) {
        part.b = part.b.rows(0..1).unwrap();
    }
    let mut session = model.open(backend(), Size::default()).unwrap();
    for (adapter, code) in [
        (backend().upload_adapter(&narrow).unwrap(), ErrorCode::ShapeMismatch),
        (Arc::new(0u8) as Uploaded, ErrorCode::ModelUnsupported),
    ] {
        let call = Call::one(&PROMPT, 0, &PAGES).with(&[AdapterUse { adapter, scale: 1.0 }]);
        let error = call.logits(&model, &mut *session).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    assert!(Call::one(&PROMPT, 0, &PAGES).logits(&model, &mut *session).is_ok());
}
