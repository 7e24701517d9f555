//! Steps that work on each row by itself.

use realm_gguf::TensorType;
use realm_ir::{
    Activation, Add, GatedAct, HeadLinear, Mix, Norm, NormKind, Sparsify, Step, TakeRows,
};
use realm_testkit::bench::Bench;

use super::{Case, F32_ROUNDING};

pub fn all() -> Vec<Case> {
    [norms(), activations(), sums(), output_rows(), heads(), mixes(), sparse()].concat()
}

/// Groups of a row that is longer, with factors of each, of all, and none.
pub fn norms() -> Vec<Case> {
    let of = |(kind, width)| {
        let (groups, epsilon) = (3, 1e-5);
        let mut bench = Bench::new(1);
        let [own, shared, bare, input, out] = [(); 5].map(|()| bench.slot(groups * width + 8));
        let mut values = |n: usize| Some(bench.values(&[n]));
        let n_all = groups * width;
        let (all, one) = ([values(n_all), values(n_all)], [values(width), values(width)]);
        let norm = |input, out, [weight, bias]: [_; 2]| {
            Step::Norm(Norm { input, out, kind, groups, width, weight, bias, epsilon })
        };
        let steps = vec![
            norm(own, own, all),
            norm(shared, shared, one),
            norm(bare, bare, [None, None]),
            norm(input, out, all),
        ];
        Case::new(format!("norm {kind:?} of {width}"), bench, steps, &[own, shared, bare, out])
    };
    // Few values for the threads of a workgroup, and many.
    [(NormKind::Rms, 80), (NormKind::Layer, 80), (NormKind::Rms, 1100), (NormKind::Layer, 1100)]
        .map(of)
        .into()
}

/// Every activation, to slots of its own and to those that it reads.
pub fn activations() -> Vec<Case> {
    let all = [
        Activation::Identity,
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::ClampedSwiglu,
        Activation::Softcap(1.5),
        Activation::Clamp(2.0),
        Activation::Xielu { positive: 0.9, negative: 0.6, beta: 0.5, epsilon: -1e-6 },
    ];
    all.into_iter().flat_map(activation).collect()
}

/// A case per result, since they are of different sizes.
fn activation(activation: Activation) -> Vec<Case> {
    let mut bench = Bench::new(7);
    // Beyond the bounds at 7 too.
    bench.spread = 4.0;
    let (gate, up, one) = (bench.slot(64), bench.slot(64), bench.slot(1));
    let outs = [(); 3].map(|()| bench.slot(64));
    let wide = bench.slot(100);
    let act = |gate, up, up_offset, out| {
        Step::GatedAct(GatedAct { gate, up, up_offset, out, activation })
    };
    let steps = vec![
        act(gate, None, 0, outs[0]),
        act(one, Some(up), 0, outs[1]),
        act(gate, Some(wide), 36, outs[2]),
        // To where the gate was.
        act(gate, Some(up), 0, gate),
    ];
    let case = |out| {
        let what = format!("{activation:?} to {out:?}");
        // A function of what itself made needs as much room as that is large.
        Case::new(what, bench.clone(), steps.clone(), &[out]).within(2.0 * F32_ROUNDING)
    };
    [outs[0], outs[1], outs[2], gate].map(case).into()
}

/// Sums, some of which replace their first term.
pub fn sums() -> Vec<Case> {
    let mut bench = Bench::new(8);
    let (a, b, out) = (bench.slot(40), bench.slot(40), bench.slot(40));
    let add = |a, b, out| Step::Add(Add { a, b, out, a_scale: -0.5, scale: 3.0 });
    let steps = vec![add(a, b, out), add(a, out, a), add(a, a, b)];
    vec![Case::new("sums", bench, steps, &[a, b, out])]
}

pub fn output_rows() -> Vec<Case> {
    let mut bench = Bench::new(9);
    let (input, out) = (bench.slot(70), bench.output_slot(70));
    let activation = Activation::Softcap(2.0);
    let steps = vec![
        Step::TakeRows(TakeRows { input, out }),
        Step::GatedAct(GatedAct { gate: out, up: None, up_offset: 0, out, activation }),
    ];
    vec![Case::new("output rows", bench, steps, &[out])]
}

/// A matrix for each head.
pub fn heads() -> Vec<Case> {
    let shapes = [
        (TensorType::F32, 64, 96, 0),
        (TensorType::F32, 96, 30, 16),
        (TensorType::F32, 32, 5, 70),
        (TensorType::Q4_K, 256, 96, 0),
    ];
    let of_shape = |(ty, in_width, out_width, rest)| {
        let mut bench = Bench::new(10);
        let n_heads = 3;
        let input = bench.slot(n_heads * (in_width + rest) + 3);
        let out = bench.slot(n_heads * (out_width + rest) + 1);
        let weight = bench.matrix(&[in_width, out_width, n_heads], ty);
        let step = HeadLinear { input, out, weight, n_heads, in_width, out_width, rest };
        let what = format!("heads of {ty}, {in_width} to {out_width} and {rest}");
        let case = Case::new(what, bench, vec![Step::HeadLinear(step)], &[out]);
        if ty == TensorType::F32 { case } else { case.with_products() }
    };
    shapes.map(of_shape).into()
}

/// Mixes of slots, some of which are their own results: one, then one more after it, and so on.
pub fn mixes() -> Vec<Case> {
    let mut bench = Bench::new(11);
    let slots = [(); 6].map(|()| bench.slot(40));
    let [a, b, c, d, e, f] = slots;
    let mut steps = Vec::new();
    for (inputs, outputs, accumulate) in [
        (vec![a, b], vec![c, d], false),
        (vec![a, b], vec![c, d], true),
        (vec![a, b, c], vec![a, b, c], false),
        (vec![b, c], vec![d, b], true),
        (vec![a], vec![b, c, d], true),
        (vec![a, b, c, d, e, f], vec![e, f], false),
    ] {
        let weights = bench.slot(inputs.len() * outputs.len());
        steps.push(Step::Mix(Mix { inputs, outputs, weights, accumulate }));
    }
    let of_first = |n| {
        let case = Case::new(format!("{n} mixes"), bench.clone(), steps[..n].to_vec(), &slots);
        case.within(2.0 * F32_ROUNDING)
    };
    (1..=steps.len()).map(of_first).collect()
}

pub fn sparse() -> Vec<Case> {
    let mut bench = Bench::new(12);
    let mut outs = Vec::new();
    let mut steps = Vec::new();
    for (width, deviations) in [(200, 1.6448536), (160, 0.5), (2, -0.25), (200, -2.0)] {
        let values = bench.slot(200);
        outs.push(values);
        steps.push(Step::Sparsify(Sparsify { values, width, deviations }));
    }
    vec![Case::new("sparse rows", bench, steps, &outs)]
}
