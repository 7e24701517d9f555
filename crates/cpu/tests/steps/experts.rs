//! Mixtures of experts.

use realm_gguf::TensorType;
use realm_ir::{Activation, ExpertWeights, Gating, Moe, Step};
use realm_testkit::oracle::NaiveBackend;

use crate::bench::{Bench, Change, F32_ROUNDING, tolerance};

/// A mixture of 8 experts, 256 wide inside and out, with biases if asked for.
fn moe(bench: &mut Bench, ty: TensorType, biases: bool) -> Moe {
    const N: usize = 8;
    let (input, out) = (bench.slot(256), bench.slot(256));
    let mut bias = |width: usize| biases.then(|| bench.values(&[width, N]));
    let (gate_bias, up_bias, down_bias) = (bias(256), bias(256), bias(256));
    let experts = ExpertWeights {
        gate: Some(bench.matrix(&[256, 256, N], ty)),
        up: bench.matrix(&[256, 256, N], ty),
        down: bench.matrix(&[256, 256, N], ty),
        gate_bias,
        up_bias,
        down_bias,
        gate_scale: None,
        up_scale: None,
        down_scale: None,
    };
    Moe {
        input,
        router_input: input,
        out,
        accumulate: false,
        router: bench.matrix(&[256, N], TensorType::F32),
        router_bias: biases.then(|| bench.values(&[N])),
        choice_bias: None,
        gating: Gating::Softmax,
        normalize: false,
        scale: 1.0,
        n_experts: N,
        n_used: 3,
        n_groups: 1,
        n_groups_used: 1,
        experts,
        activation: Activation::Silu,
        weigh_input: false,
    }
}

#[test]
fn experts_equal_the_oracle_in_every_gating_and_weight_type() {
    for gating in [Gating::Softmax, Gating::SoftmaxOfChosen, Gating::Sigmoid] {
        for ty in [TensorType::F32, TensorType::Q8_0, TensorType::Q4_K] {
            for biases in [false, true] {
                for normalize in [false, true] {
                    let mut bench = Bench::new(1);
                    let base = moe(&mut bench, ty, biases);
                    let step = Moe { gating, normalize, scale: 2.5, ..base };
                    let what = format!("{gating:?}, {ty}, biases {biases}, normalize {normalize}");
                    let out = step.out;
                    bench.check(&what, &[Step::Moe(step.into())], out, tolerance(ty));
                }
            }
        }
    }
}

#[test]
fn options_of_experts_equal_the_oracle_and_change_the_result() {
    let run = |what: &str, change: Change<Moe>| {
        let mut bench = Bench::new(2);
        let mut step = moe(&mut bench, TensorType::F32, false);
        change(&mut bench, &mut step);
        let out = step.out;
        let steps = [Step::Moe(step.into())];
        bench.check(what, &steps, out, F32_ROUNDING);
        bench.together(&NaiveBackend, &steps, out)
    };
    let plain = run("plain", |_, _| {});
    let changes: [(&str, Change<Moe>); 11] = [
        ("choice bias", |bench, step| step.choice_bias = Some(bench.values(&[8]))),
        ("groups", |_, step| (step.n_groups, step.n_groups_used) = (4, 2)),
        ("groups and choice bias", |bench, step| {
            (step.n_groups, step.n_groups_used) = (2, 1);
            step.choice_bias = Some(bench.values(&[8]));
        }),
        ("weighed input", |_, step| {
            (step.weigh_input, step.n_used, step.gating) = (true, 1, Gating::Sigmoid);
        }),
        ("accumulate", |_, step| step.accumulate = true),
        ("no gate", |_, step| step.experts.gate = None),
        ("one weight for gate and up", |bench, step| {
            let both = bench.matrix(&[256, 512, 8], TensorType::F32);
            (step.experts.gate, step.experts.up) = (Some(both), both);
        }),
        ("factors", |bench, step| {
            step.experts.gate_scale = Some(bench.values(&[8]));
            step.experts.up_scale = Some(bench.values(&[8]));
            step.experts.down_scale = Some(bench.values(&[8]));
            step.experts.down_bias = Some(bench.values(&[256, 8]));
        }),
        ("another input for the router", |bench, step| step.router_input = bench.slot(300)),
        ("all experts", |_, step| step.n_used = 8),
        ("clamped", |_, step| step.activation = Activation::ClampedSwiglu),
    ];
    for (what, change) in changes {
        assert!(run(what, change) != plain, "{what} changes nothing");
    }
}
