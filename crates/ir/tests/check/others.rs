//! The steps that dense decoders do not have.

use realm_ir::{
    Activation, Add, Conv, DeltaNet, ExpertWeights, Gating, HeadLinear, Mix, Moe, Program, Rope,
    RopeSpec, RopeStyle, Rows, SelectiveScan, Slot, SlotInfo, Sparsify, Step,
};

use crate::{Case, config, getter, refused};

getter! {
    rope = Rope: Rope,
    head_linear = HeadLinear: HeadLinear,
    mix = Mix: Mix,
    add = Add: Add,
    conv = Conv: Conv,
    delta_net = DeltaNet: DeltaNet,
    scan = SelectiveScan: SelectiveScan,
    moe = Moe: Moe,
    sparsify = Sparsify: Sparsify,
}

/// The steps that dense decoders do not have, each alone in slots of its own.
fn others() -> Case {
    let program = Program {
        slots: vec![
            SlotInfo { width: 16, rows: Rows::Batch },
            SlotInfo { width: 16, rows: Rows::Outputs },
        ],
        weights: vec![],
        segments: vec![vec![], vec![], vec![]],
        hidden: Slot(0),
        carried: vec![],
        logits: Slot(1),
    };
    let mut case = Case { program, config: config(vec![], vec![3 * 12, 4 * 5 * 6, 6 * 2 * 3]) };
    let rope = RopeSpec {
        style: RopeStyle::Halves,
        inverse_frequencies: [1.0, 0.5].into(),
        magnitude: 1.0,
        offset: 2,
    };
    let heads = Rope { heads: case.slot(24), n_heads: 3, head_width: 8, rope };
    let (n_heads, in_width, out_width, rest) = (3, 4, 5, 2);
    let head_linear = HeadLinear {
        input: case.slot(18),
        out: case.slot(21),
        weight: case.weight(&[4, 5, 3]),
        n_heads,
        in_width,
        out_width,
        rest,
    };
    let [a, b, c] = [(); 3].map(|()| case.slot(10));
    let weights = case.slot(4);
    let mix = Mix { inputs: vec![a, b], outputs: vec![b, c], weights, accumulate: false };
    let add = Add { a, b, out: c, a_scale: 1.0, scale: 1.0 };
    let conv = Conv {
        input: case.slot(12),
        out: case.slot(13),
        weight: case.weight(&[4, 12]),
        bias: Some(case.weight(&[12])),
        activation: Activation::Silu,
        state: 0,
    };
    let net = DeltaNet {
        qkv: case.slot(2 * 2 * 5 + 4 * 6),
        alpha: case.slot(4),
        beta: case.slot(4),
        out: case.slot(24),
        decay: case.weight(&[4]),
        bias: case.weight(&[4]),
        n_key_heads: 2,
        n_value_heads: 4,
        grouped: true,
        key_width: 5,
        value_width: 6,
        epsilon: 1e-6,
        state: 1,
    };
    let scan = SelectiveScan {
        x: case.slot(12),
        dt: case.slot(6),
        b: case.slot(6),
        c: case.slot(6),
        out: case.slot(12),
        decay: case.weight(&[1, 6]),
        bias: case.weight(&[6]),
        skip: case.weight(&[1, 6]),
        n_heads: 6,
        head_width: 2,
        state_width: 3,
        n_groups: 2,
        state: 2,
    };
    let moe = experts(&mut case);
    let sparse = Sparsify { values: case.slot(9), width: 8, deviations: 1.0 };
    case.program.segments[1] = vec![
        Step::Rope(heads),
        Step::HeadLinear(head_linear),
        Step::Mix(mix),
        Step::Add(add),
        Step::Conv(conv),
        Step::DeltaNet(net),
        Step::SelectiveScan(scan),
        Step::Moe(Box::new(moe)),
        Step::Sparsify(sparse),
    ];
    case
}

/// Four experts of 5 values in 6, in two groups.
fn experts(case: &mut Case) -> Moe {
    let input = case.slot(7);
    let experts = ExpertWeights {
        gate: Some(case.weight(&[6, 5, 4])),
        up: case.weight(&[6, 5, 4]),
        down: case.weight(&[5, 6, 4]),
        gate_bias: Some(case.weight(&[5, 4])),
        up_bias: None,
        down_bias: Some(case.weight(&[6, 4])),
        gate_scale: None,
        up_scale: Some(case.weight(&[4])),
        down_scale: None,
    };
    Moe {
        input,
        router_input: input,
        out: case.slot(6),
        accumulate: true,
        router: case.weight(&[6, 4]),
        router_bias: None,
        choice_bias: Some(case.weight(&[4])),
        gating: Gating::Softmax,
        normalize: true,
        scale: 1.0,
        n_experts: 4,
        n_used: 2,
        n_groups: 2,
        n_groups_used: 1,
        experts,
        activation: Activation::Silu,
        weigh_input: false,
    }
}

#[test]
fn a_recurrent_step_has_a_state_of_its_own() {
    refused(
        others,
        &[
            ("step 4 (Conv): recurrent state: found 3, expected one of 3", |case| {
                case.step(4, conv).state = 3;
            }),
            ("step 5 (DeltaNet): recurrent state: found 36 values, expected 120", |case| {
                case.step(5, delta_net).state = 0;
            }),
            ("step 5 (Conv): recurrent state: found one of another step", |case| {
                let again = Step::Conv(case.step(4, conv).clone());
                case.program.segments[1].insert(5, again);
            }),
            ("step 4 (Conv): recurrent state: found none in the session", |case| {
                case.config.states.n_states = 0;
            }),
        ],
    );
}

#[test]
fn every_other_step_is_checked_too() {
    refused(
        others,
        &[
            ("step 0 (Rope): values that turn: found 4 behind 5 others", |case| {
                case.step(0, rope).rope.offset = 5;
            }),
            ("step 0 (Rope): heads: found 24 values per row", |case| {
                case.step(0, rope).n_heads = 4
            }),
            (
                "step 1 (HeadLinear): matrices made.weight: found shape [4, 5, 3], expected 18 rows of 4",
                |case| {
                    case.step(1, head_linear).out_width = 6;
                },
            ),
            (
                "step 1 (HeadLinear): input: found 18 values per row in slot 3, expected at least 21",
                |case| {
                    case.step(1, head_linear).rest = 3;
                },
            ),
            ("step 2 (Mix): factors: found rows of 4 values, expected rows of 2", |case| {
                case.step(2, mix).inputs.truncate(1);
            }),
            ("step 2 (Mix): inputs and outputs: found 0", |case| case.step(2, mix).outputs.clear()),
            ("step 2 (Mix): results: found slot 6 twice", |case| {
                case.step(2, mix).outputs = vec![Slot(6), Slot(6)];
            }),
            ("step 2 (Mix): result: found rows of 21 values, expected rows of 10", |case| {
                case.step(2, mix).outputs[1] = Slot(4);
            }),
            ("step 3 (Add): result: found slot 6, which the step reads", |case| {
                let add = case.step(3, add);
                add.out = add.b;
            }),
            ("step 3 (Add): factor on the first term: found NaN", |case| {
                case.step(3, add).a_scale = f32::NAN;
            }),
            ("step 4 (Conv): terms made.weight: found shape [4]", |case| {
                let bias = Some(case.weight(&[4]));
                case.step(4, conv).bias = bias;
            }),
            (
                "step 5 (DeltaNet): value heads: found 4, expected 1 or more that are a multiple of 3",
                |case| {
                    case.step(5, delta_net).n_key_heads = 3;
                },
            ),
            ("step 5 (DeltaNet): queries, keys and values: found 44 values per row", |case| {
                case.step(5, delta_net).key_width = 6;
            }),
            (
                "step 6 (SelectiveScan): decay made.weight: found shape [2, 6], expected 6 rows of 3",
                |case| {
                    let decay = case.weight(&[2, 6]);
                    case.step(6, scan).decay = decay;
                },
            ),
            (
                "step 6 (SelectiveScan): heads: found 6, expected 1 or more that are a multiple of 4",
                |case| {
                    case.step(6, scan).n_groups = 4;
                },
            ),
            ("step 7 (Moe): experts of a row: found 3, expected 1 to 2", |case| {
                case.step(7, moe).n_used = 3;
            }),
            (
                "step 7 (Moe): experts: found 4, expected 1 or more that are a multiple of 3",
                |case| {
                    case.step(7, moe).n_groups = 3;
                },
            ),
            (
                "step 7 (Moe): router made.weight: found shape [6, 4], expected 5 rows of 6",
                |case| {
                    let moe = case.step(7, moe);
                    (moe.n_experts, moe.n_groups, moe.n_groups_used) = (5, 1, 1);
                },
            ),
            (
                "step 7 (Moe): up matrices made.weight: found shape [6, 4, 4], expected 20 rows of 6",
                |case| {
                    let up = case.weight(&[6, 4, 4]);
                    case.step(7, moe).experts.up = up;
                },
            ),
            (
                "step 7 (Moe): gate and up matrices made.weight: found shape [6, 5, 4], expected 40",
                |case| {
                    let moe = case.step(7, moe);
                    moe.experts.gate = Some(moe.experts.up);
                },
            ),
            ("step 7 (Moe): result: found slot", |case| {
                let moe = case.step(7, moe);
                moe.out = moe.input;
            }),
            ("step 8 (Sparsify): width: found 1", |case| case.step(8, sparsify).width = 1),
            ("step 8 (Sparsify): values: found 9 values per row", |case| {
                case.step(8, sparsify).width = 10;
            }),
        ],
    );
}
