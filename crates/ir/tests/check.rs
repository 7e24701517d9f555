//! Programs that contradict themselves are refused by segment, step and operand.

use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Activation, Add, Backend, Coded, Conv, DeltaNet, Error, ErrorCode, ExpertWeights, GatedAct,
    Gating, HeadLinear, KvLayer, KvLayout, KvType, Mix, Moe, Program, Rope, RopeSpec, RopeStyle,
    Rows, SelectiveScan, SessionConfig, Slot, SlotInfo, Sparsify, StateLayout, Step, Temperature,
    WeightLayout, WeightRef,
};
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::Decoder;

/// A program and what a session of it is opened for.
struct Case {
    program: Program,
    config: SessionConfig,
}

impl Case {
    fn check(&self) -> Result<(), Error> {
        self.program.check(&self.config)
    }

    /// A step of the first layer, which must be of the kind that `get` takes.
    fn step<T>(&mut self, index: usize, get: fn(&mut Step) -> Option<&mut T>) -> &mut T {
        get(&mut self.program.segments[1][index]).expect("a step of this kind")
    }

    fn slot(&mut self, width: usize) -> Slot {
        self.program.slots.push(SlotInfo { width, rows: Rows::Batch });
        Slot(self.program.slots.len() - 1)
    }

    fn weight(&mut self, shape: &[usize]) -> WeightRef {
        self.program.weights.push(tensor(shape));
        WeightRef(self.program.weights.len() - 1)
    }
}

fn tensor(shape: &[usize]) -> TensorData {
    let bytes = vec![0; 4 * shape.iter().product::<usize>()];
    TensorData::from_vec("made.weight", shape, TensorType::F32, bytes).unwrap()
}

fn config(kv_layers: Vec<KvLayer>, widths: Vec<usize>) -> SessionConfig {
    SessionConfig {
        kv: KvLayout { layers: kv_layers, page_tokens: 4, n_pages: 8, ty: KvType::F32 },
        states: StateLayout { widths, n_states: 2 },
        max_rows: 8,
        max_outputs: 4,
        layout: WeightLayout::Mapped,
    }
}

macro_rules! getter {
    ($($name:ident = $kind:ident: $ty:ty,)*) => {$(
        fn $name(step: &mut Step) -> Option<&mut $ty> {
            match step {
                Step::$kind(step) => Some(step),
                _ => None,
            }
        }
    )*};
}

getter! {
    norm = Norm: realm_ir::Norm,
    linear = Linear: realm_ir::Linear,
    rope_store = RopeStore: realm_ir::RopeStore,
    attend = Attend: realm_ir::Attend,
    gated_act = GatedAct: GatedAct,
    rope = Rope: Rope,
    head_linear = HeadLinear: HeadLinear,
    mix = Mix: Mix,
    sparsify = Sparsify: Sparsify,
    add = Add: Add,
    conv = Conv: Conv,
    delta_net = DeltaNet: DeltaNet,
    scan = SelectiveScan: SelectiveScan,
}

fn moe(step: &mut Step) -> Option<&mut Moe> {
    match step {
        Step::Moe(step) => Some(step),
        _ => None,
    }
}

/// A layer of a small llama: norm, q k v, rotation, attention, output, norm, gate and up,
/// activation, down.
fn decoder() -> Case {
    let decoder = Decoder {
        n_layers: 1,
        n_vocab: 16,
        width: 32,
        n_heads: 4,
        n_kv_heads: 2,
        key_width: 8,
        value_width: 6,
        ff_width: 48,
        rope_dims: 8,
        head_norm: true,
        bias: true,
        ..Decoder::default()
    };
    let model = decoder.build();
    Case { program: (*model.program).clone(), config: config(model.kv_layers, vec![]) }
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

type Change = fn(&mut Case);

/// Checks that each change is refused, with the words that name it.
#[track_caller]
fn refused(sound: fn() -> Case, changes: &[(&str, Change)]) {
    sound().check().expect("sound without the change");
    for (expected, change) in changes {
        let mut case = sound();
        change(&mut case);
        let error = case.check().expect_err(expected);
        assert_eq!(error.code(), ErrorCode::ModelInvalid, "{error}");
        assert!(error.to_string().contains(expected), "{error}\nis not about: {expected}");
    }
}

#[test]
fn slots_and_weights_that_are_not_there_are_refused() {
    refused(
        decoder,
        &[
            ("layer 0, step 0 (Norm): input: found slot 99, expected one of 10", |case| {
                case.step(0, norm).input = Slot(99);
            }),
            ("layer 0, step 1 (Linear): matrix: found weight 999", |case| {
                case.step(1, linear).outputs[1].weight = WeightRef(999);
            }),
            ("layer 0, step 2 (RopeStore): layer of the KV cache: found 1", |case| {
                case.step(2, rope_store).kv_layer = 1;
            }),
            ("program: segments: found 1 segments", |case| case.program.segments.truncate(1)),
            ("program: a slot of the layer-level API: found slot 77", |case| {
                case.program.carried = vec![Slot(77)];
            }),
            ("slots of the layer-level API: found slot 0 twice", |case| {
                case.program.carried = vec![Slot(0)];
            }),
            ("the slot of the logits: found a row for every row of the batch", |case| {
                case.program.logits = Slot(1);
            }),
            ("rows of no values", |case| case.program.slots[1].width = 0),
        ],
    );
}

#[test]
fn steps_that_read_or_write_more_than_there_is_are_refused() {
    refused(
        decoder,
        &[
            (
                "layer 0, step 0 (Linear): input: found 31 values per row in slot 1, expected at least 32",
                |case| {
                    case.program.slots[1].width = 31;
                    case.program.segments[1].remove(0);
                },
            ),
            (
                "layer 0, step 0 (Norm): result: found rows of 31 values, expected rows of 32",
                |case| {
                    case.program.slots[1].width = 31;
                },
            ),
            (
                "step 1 (Linear): result: found room for 31 values per row in slot 2, expected at least 32",
                |case| {
                    case.program.slots[2].width = 31;
                },
            ),
            ("step 3 (Attend): result: found room for 23 values per row in slot 5", |case| {
                case.program.slots[5].width = 23;
            }),
            // The slot is wide enough, but this layer has made only a part of it.
            (
                "step 4 (Linear): input: found 24 values per row in slot 5, expected at least 25",
                |case| {
                    case.program.slots[5].width = 40;
                    let matrix = case.weight(&[25, 32]);
                    case.step(4, linear).outputs[0].weight = matrix;
                },
            ),
            (
                "step 7 (GatedAct): argument: found rows of 48 values, expected at least 50",
                |case| {
                    case.step(7, gated_act).out = Slot(10);
                    case.slot(50);
                },
            ),
            ("step 7 (GatedAct): factor: found rows of 48 values, expected at least 49", |case| {
                case.step(7, gated_act).up_offset = 1;
            }),
            ("step 7 (GatedAct): columns of the factor: found", |case| {
                case.step(7, gated_act).up_offset = usize::MAX;
            }),
            // Keys are gone once they are stored.
            ("step 5 (Norm): input: found 0 values per row in slot 3", |case| {
                let norm = case.step(5, norm);
                (norm.input, norm.out, norm.width, norm.weight) = (Slot(3), Slot(3), 16, None);
            }),
        ],
    );
}

#[test]
fn slots_that_a_step_both_reads_and_writes_are_refused_where_it_cannot() {
    refused(
        decoder,
        &[
            ("step 1 (Linear): results: found slot 2 twice", |case| {
                case.step(1, linear).outputs[1].out = Slot(2);
            }),
            ("step 1 (Linear): result: found slot 1, which the step reads", |case| {
                case.step(1, linear).outputs[0].out = Slot(1);
            }),
            ("step 2 (RopeStore): queries: found slot 2, which the step reads", |case| {
                case.step(2, rope_store).k = Slot(2);
            }),
            (
                "step 2 (RopeStore): keys that are values too: found 2 heads of 8 as values of 6",
                |case| {
                    case.step(2, rope_store).v = Slot(3);
                },
            ),
            ("step 3 (Attend): result: found slot 2", |case| case.step(3, attend).out = Slot(2)),
            ("step 7 (GatedAct): result: found slot 7", |case| {
                case.step(7, gated_act).out = Slot(7);
            }),
            ("step 0 (Norm): result: found a row for every output row", |case| {
                case.step(0, norm).out = Slot(8);
            }),
        ],
    );
}

#[test]
fn weights_of_another_shape_are_refused_by_name() {
    refused(
        decoder,
        &[
            (
                "embedding, step 0 (Embed): positions made.weight: found shape [31, 3], expected 3 rows of 32",
                |case| {
                    let positions = Some(case.weight(&[31, 3]));
                    if let Step::Embed(embed) = &mut case.program.segments[0][0] {
                        embed.positions = positions;
                    }
                },
            ),
            (
                "embedding, step 1 (Embed): table made.weight: found shape [32, 15], expected 16 rows of 32",
                |case| {
                    let table = case.weight(&[32, 15]);
                    let Step::Embed(mut second) = case.program.segments[0][0].clone() else {
                        panic!()
                    };
                    second.table = table;
                    case.program.segments[0].push(Step::Embed(second));
                },
            ),
            ("step 0 (Norm): factors made.weight: found shape [33], expected 32 values", |case| {
                let weight = Some(case.weight(&[33]));
                case.step(0, norm).weight = weight;
            }),
            (
                "step 1 (Linear): matrix made.weight: found shape [16, 16], expected 16 rows of 32",
                |case| {
                    let matrix = case.weight(&[16, 16]);
                    case.step(1, linear).outputs[1].weight = matrix;
                },
            ),
            ("step 1 (Linear): terms made.weight: found shape [7], expected 32 values", |case| {
                let bias = Some(case.weight(&[7]));
                case.step(1, linear).outputs[0].bias = bias;
            }),
            (
                "step 2 (RopeStore): factors of a key head made.weight: found shape [6], expected 8",
                |case| {
                    let factors = case.weight(&[6]);
                    case.step(2, rope_store).head_norm.as_mut().unwrap().k_weight = factors;
                },
            ),
            ("step 3 (Attend): sinks made.weight: found shape [2], expected 4 values", |case| {
                let sinks = Some(case.weight(&[2]));
                case.step(3, attend).sinks = sinks;
            }),
        ],
    );
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    refused(
        decoder,
        &[
            ("step 0 (Norm): epsilon: found 0", |case| case.step(0, norm).epsilon = 0.0),
            ("step 0 (Norm): epsilon: found NaN", |case| case.step(0, norm).epsilon = f32::NAN),
            ("step 0 (Norm): groups of the norm: found 0", |case| case.step(0, norm).groups = 0),
            ("step 1 (Linear): factor: found inf", |case| {
                case.step(1, linear).outputs[0].scale = f32::INFINITY;
            }),
            ("step 1 (Linear): products: found none", |case| case.step(1, linear).outputs.clear()),
            (
                "step 2 (RopeStore): query heads: found 3, expected 1 or more that are a multiple of 2",
                |case| {
                    case.step(2, rope_store).n_heads = 3;
                },
            ),
            (
                "step 2 (RopeStore): values that turn: found 8 behind 1 others, expected at most the 8",
                |case| {
                    case.step(2, rope_store).rope.as_mut().unwrap().offset = 1;
                },
            ),
            ("step 2 (RopeStore): radians per position: found inf", |case| {
                let rope = case.step(2, rope_store).rope.as_mut().unwrap();
                rope.inverse_frequencies = [1.0, f32::INFINITY].into();
            }),
            ("step 2 (RopeStore): positions of one factor on queries: found 0", |case| {
                let temperature = Temperature { scale: 0.1, length: 0, offset: 0 };
                case.step(2, rope_store).temperature = Some(temperature);
            }),
            ("step 3 (Attend): query heads: found 0", |case| case.step(3, attend).n_heads = 0),
            ("step 3 (Attend): queries: found", |case| {
                case.step(3, attend).n_heads = usize::MAX / 4 + 1;
            }),
            ("step 3 (Attend): window: found 0", |case| case.step(3, attend).window = Some(0)),
            ("step 3 (Attend): cap on scores: found 0", |case| {
                case.step(3, attend).softcap = Some(0.0);
            }),
            ("step 7 (GatedAct): the bound: found -1", |case| {
                case.step(7, gated_act).activation = Activation::Clamp(-1.0);
            }),
            ("layer 0 of the KV cache: width of a value: found 0", |case| {
                case.config.kv.layers[0].value_width = 0;
            }),
            ("positions of a page of the KV cache: found 0", |case| case.config.kv.page_tokens = 0),
        ],
    );
}

#[test]
fn caches_and_states_are_written_by_one_step_each_and_read_after_that() {
    refused(
        decoder,
        &[
            (
                "step 2 (Attend): layer of the KV cache: found layer 0, which no step has stored",
                |case| {
                    case.program.segments[1].remove(2);
                },
            ),
            ("step 3 (RopeStore): layer of the KV cache: found stored twice", |case| {
                let mut again = case.step(2, rope_store).clone();
                again.k = case.slot(16);
                case.program.segments[1].insert(3, Step::RopeStore(again));
            }),
        ],
    );
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

#[test]
fn memory_that_cannot_be_counted_is_out_of_memory() {
    let changes: [(&str, Change); 3] = [
        ("activations", |case| _ = case.slot(usize::MAX / 4)),
        ("the KV cache", |case| case.config.kv.n_pages = usize::MAX / 8),
        ("recurrent states", |case| case.config.states.widths = vec![usize::MAX, 2]),
    ];
    for (what, change) in changes {
        let mut case = decoder();
        change(&mut case);
        let error = case.check().unwrap_err();
        assert_eq!(error.code(), ErrorCode::OutOfMemory);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn no_session_is_opened_for_what_was_not_checked() {
    let mut case = decoder();
    let upload = |weight: &TensorData| NaiveBackend.upload(weight).unwrap();
    let weights: Arc<[_]> = case.program.weights.iter().map(upload).collect();
    let open = |case: &Case, weights| {
        NaiveBackend.session(Arc::new(case.program.clone()), weights, case.config.clone())
    };
    open(&case, weights.clone()).unwrap();
    let few = open(&case, weights[1..].into()).err().unwrap();
    assert!(few.to_string().contains("uploaded weights"), "{few}");
    case.step(3, attend).n_heads = 3;
    let error = open(&case, weights).err().unwrap();
    assert!(matches!(error, Error::InvalidProgram { .. }), "{error}");
}
