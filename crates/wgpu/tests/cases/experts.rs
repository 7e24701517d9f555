//! Mixtures of experts.

use realm_gguf::{TensorData, TensorType};
use realm_ir::{Activation, ExpertWeights, Gating, Moe, Step, WeightRef};
use realm_testkit::bench::Bench;
use realm_testkit::random::{self, Random};

use super::{Case, Change};

const TOLERANCE: f32 = 1e-4;

pub fn all() -> Vec<Case> {
    [types(), options(), ties()].concat()
}

/// Five experts of which each row uses two, without anything that a family may leave out.
fn plain(bench: &mut Bench, ty: TensorType) -> Moe {
    let [width, inner, n_experts] = [256, 256, 5];
    let [input, out] = [width, width + 4].map(|width| bench.slot(width));
    let mut up = || bench.matrix(&[width, inner, n_experts], ty);
    let (gate, up) = (Some(up()), up());
    let experts = ExpertWeights {
        gate,
        up,
        down: bench.matrix(&[inner, width, n_experts], ty),
        gate_bias: None,
        up_bias: None,
        down_bias: None,
        gate_scale: None,
        up_scale: None,
        down_scale: None,
    };
    Moe {
        input,
        router_input: input,
        out,
        accumulate: false,
        router: bench.matrix(&[width, n_experts], TensorType::F32),
        router_bias: None,
        choice_bias: None,
        gating: Gating::Softmax,
        normalize: true,
        scale: 1.5,
        n_experts,
        n_used: 2,
        n_groups: 1,
        n_groups_used: 1,
        experts,
        activation: Activation::Silu,
        weigh_input: false,
    }
}

fn case(what: impl Into<String>, bench: Bench, moe: Moe) -> Case {
    let out = moe.out;
    let case = Case::new(what, bench, vec![Step::Moe(Box::new(moe))], &[out]);
    case.within(TOLERANCE).with_products()
}

/// A mixture of each type, for few and many rows.
pub fn types() -> Vec<Case> {
    let of_type = |ty| {
        let mut bench = Bench::new(7);
        let moe = plain(&mut bench, ty);
        case(format!("experts of {ty}"), bench, moe)
    };
    [TensorType::F32, TensorType::Q4_K, TensorType::MXFP4, TensorType::IQ2_XXS].map(of_type).into()
}

/// A mixture without options, then with each.
pub fn options() -> Vec<Case> {
    let changes: [(&str, Change<Moe>); 10] = [
        ("no options", |_, _| {}),
        ("accumulate", |_, moe| moe.accumulate = true),
        ("weights on the inputs", |_, moe| moe.weigh_input = true),
        ("no gates", |_, moe| moe.experts.gate = None),
        ("gates beside ups", |bench, moe| {
            let both = bench.matrix(&[256, 512, 5], TensorType::Q4_0);
            (moe.experts.gate, moe.experts.up) = (Some(both), both);
        }),
        ("biases", |bench, moe| {
            moe.experts.gate_bias = Some(bench.values(&[256, 5]));
            moe.experts.up_bias = Some(bench.values(&[256, 5]));
            moe.experts.down_bias = Some(bench.values(&[256, 5]));
        }),
        ("factors", |bench, moe| {
            moe.experts.gate_scale = Some(bench.values(&[5]));
            moe.experts.up_scale = Some(bench.values(&[5]));
            moe.experts.down_scale = Some(bench.values(&[5]));
        }),
        ("another router", |bench, moe| {
            moe.gating = Gating::Sigmoid;
            moe.router_bias = Some(bench.values(&[5]));
            moe.choice_bias = Some(bench.values(&[5]));
        }),
        ("one expert", |_, moe| moe.n_used = 1),
        ("clamped", |_, moe| moe.activation = Activation::ClampedSwiglu),
    ];
    let with = |(what, change): (&str, Change<Moe>)| {
        let mut bench = Bench::new(8);
        let mut moe = plain(&mut bench, TensorType::Q4_0);
        change(&mut bench, &mut moe);
        case(format!("experts with {what}"), bench, moe)
    };
    changes.map(with).into()
}

/// A router of nine experts, of which several always get the same score.
fn router_with_ties(bench: &mut Bench) -> WeightRef {
    let mut random = Random::new(13);
    let different = [(); 4].map(|()| random.normals(256));
    let rows = [0, 1, 0, 2, 1, 0, 3, 3, 2].map(|row: usize| different[row].clone());
    let bytes = rows.concat().iter().flat_map(|value| (value / 16.0).to_le_bytes()).collect();
    bench.push(TensorData::from_vec("router", &[256, 9], TensorType::F32, bytes).unwrap())
}

/// Experts with equal scores, of which the first are chosen.
pub fn ties() -> Vec<Case> {
    // A bias that keeps ties, and makes some of what had none.
    let bias = [0.5f32, 0.0, 0.5, 0.25, 0.0, 0.5, 0.25, 0.25, 0.25];
    let mut cases = Vec::new();
    for gating in [Gating::Softmax, Gating::SoftmaxOfChosen, Gating::Sigmoid] {
        for (n_used, normalize, n_groups, n_groups_used, has_bias) in [
            (2, true, 1, 1, false),
            (4, false, 1, 1, true),
            (1, false, 3, 1, false),
            (3, true, 3, 2, true),
            (9, true, 1, 1, true),
        ] {
            let mut bench = Bench::new(14);
            let mut moe = plain(&mut bench, TensorType::F16);
            let mut matrices = |shape: [usize; 3]| bench.matrix(&shape, TensorType::F16);
            moe.experts.gate = Some(matrices([256, 64, 9]));
            moe.experts.up = matrices([256, 64, 9]);
            moe.experts.down = matrices([64, 256, 9]);
            moe.router = router_with_ties(&mut bench);
            moe.choice_bias = has_bias.then(|| bench.push(random::vector("choice", &bias)));
            (moe.n_experts, moe.n_used, moe.normalize) = (9, n_used, normalize);
            (moe.gating, moe.n_groups, moe.n_groups_used) = (gating, n_groups, n_groups_used);
            let what = format!("experts by {gating:?}, {n_used} of {n_groups} groups");
            cases.push(case(what, bench, moe));
        }
    }
    cases
}
