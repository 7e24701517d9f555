//! Steps whose operands are the same slot: run where their definition allows it, with the
//! oracle's values, and refused otherwise before anything runs.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Activation, Add, Attend, BatchView, Conv, DeltaNet, Error, ExpertWeights, GatedAct, Gating,
    HeadLinear, KvLayer, Linear, LinearOutput, Mix, Moe, Norm, NormKind, Program, RopeStore, Rows,
    SelectiveScan, SequenceView, Slot, SlotInfo, Step, TakeRows, WeightRef,
};
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Model, Size, read};
use realm_testkit::random::{self, Random};

/// Values per row of every slot, enough for all that a step reads of it.
const WIDTH: usize = 96;
const N_SLOTS: usize = 8;
const N_ROWS: usize = 3;
/// The slot with the factors of two sums of two slots.
const FACTORS: usize = 6;

/// Every weight that a step below names, by its number.
fn weights(random: &mut Random) -> Vec<TensorData> {
    let negative = random.normals(2).into_iter().flat_map(|value| (-value.abs()).to_le_bytes());
    let shapes: [&[usize]; 7] =
        [&[32, 32], &[32, 4], &[32, 32, 4], &[4, 32], &[16, 16, 2], &[2], &[32]];
    let mut weights: Vec<_> = shapes
        .iter()
        .map(|shape| random::tensor(random, "w", shape, TensorType::F32, 0.2))
        .collect();
    let negative = negative.collect();
    let negative = TensorData::from_vec("negative", &[1, 2], TensorType::F32, negative);
    weights.push(negative.unwrap());
    weights
}

const MATRIX: WeightRef = WeightRef(0);
const ROUTER: WeightRef = WeightRef(1);
const EXPERTS: WeightRef = WeightRef(2);
const TAPS: WeightRef = WeightRef(3);
const PER_HEAD: WeightRef = WeightRef(4);
const OF_HEADS: WeightRef = WeightRef(5);
const NEGATIVE: WeightRef = WeightRef(7);

fn model(step: &Step) -> Model {
    let slot = |index| {
        let rows = if index == N_SLOTS - 1 { Rows::Outputs } else { Rows::Batch };
        SlotInfo { width: if index == FACTORS { 4 } else { WIDTH }, rows }
    };
    let program = Program {
        slots: (0..N_SLOTS).map(slot).collect(),
        weights: weights(&mut Random::new(3)),
        // All that there is, and a head of nothing.
        segments: vec![vec![step.clone()], vec![]],
        hidden: Slot(0),
        carried: vec![],
        logits: Slot(N_SLOTS - 1),
    };
    let kv_layer = KvLayer { n_kv_heads: 1, key_width: 16, value_width: 16 };
    Model { program: Arc::new(program), kv_layers: vec![kv_layer] }
}

/// What every slot holds after the step, all being filled before.
fn results(backend: &dyn realm_ir::Backend, step: &Step) -> Result<Vec<Vec<f32>>, Error> {
    let model = model(step);
    let mut session = model.open(backend, Size::default())?;
    let mut random = Random::new(4);
    for slot in 0..N_SLOTS {
        let width = model.program.width(Slot(slot));
        session.write(Slot(slot), &random.normals(N_ROWS * width))?;
    }
    let sequence =
        SequenceView { first_row: 0, n_rows: N_ROWS, pages: &[1], state: 0, adapters: &[] };
    let batch = BatchView {
        tokens: &[],
        positions: &[0, 1, 2],
        sequences: &[sequence],
        output_rows: &[0, 1, 2],
        interrupt: None,
    };
    session.run(0..1, &batch)?;
    (0..N_SLOTS).map(|slot| read(&model, &mut *session, Slot(slot), N_ROWS)).collect()
}

fn cpu() -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() }).unwrap()
}

fn linear(input: usize, outputs: &[usize]) -> Step {
    let output = |out: &usize| LinearOutput {
        weight: MATRIX,
        bias: None,
        out: Slot(*out),
        scale: 1.0,
        accumulate: false,
    };
    Step::Linear(Linear { input: Slot(input), outputs: outputs.iter().map(output).collect() })
}

fn norm(input: usize, out: usize) -> Step {
    Step::Norm(Norm {
        input: Slot(input),
        out: Slot(out),
        kind: NormKind::Rms,
        groups: 1,
        width: WIDTH,
        weight: None,
        bias: None,
        epsilon: 1e-5,
    })
}

fn rope_store(q: usize, k: usize, v: usize) -> Step {
    Step::RopeStore(RopeStore {
        q: Slot(q),
        k: Slot(k),
        v: Slot(v),
        kv_layer: 0,
        n_heads: 2,
        head_norm: None,
        rope: None,
        temperature: None,
    })
}

fn attend(q: usize, out: usize) -> Step {
    Step::Attend(Attend {
        q: Slot(q),
        out: Slot(out),
        kv_layer: 0,
        n_heads: 2,
        scale: 0.25,
        window: None,
        chunked: false,
        softcap: None,
        sinks: None,
        alibi_max_bias: None,
        causal: true,
    })
}

fn gated(gate: usize, up: usize, out: usize) -> Step {
    Step::GatedAct(GatedAct {
        gate: Slot(gate),
        up: Some(Slot(up)),
        up_offset: 0,
        out: Slot(out),
        activation: Activation::Silu,
    })
}

fn add(a: usize, b: usize, out: usize) -> Step {
    Step::Add(Add { a: Slot(a), b: Slot(b), out: Slot(out), a_scale: 1.0, scale: 0.5 })
}

fn moe(input: usize, router_input: usize, out: usize) -> Step {
    let experts = ExpertWeights {
        gate: None,
        up: EXPERTS,
        down: EXPERTS,
        gate_bias: None,
        up_bias: None,
        down_bias: None,
        gate_scale: None,
        up_scale: None,
        down_scale: None,
    };
    Step::Moe(Box::new(Moe {
        input: Slot(input),
        router_input: Slot(router_input),
        out: Slot(out),
        accumulate: false,
        router: ROUTER,
        router_bias: None,
        choice_bias: None,
        gating: Gating::Softmax,
        normalize: false,
        scale: 1.0,
        n_experts: 4,
        n_used: 2,
        n_groups: 1,
        n_groups_used: 1,
        experts,
        activation: Activation::Silu,
        weigh_input: false,
    }))
}

fn head_linear(input: usize, out: usize) -> Step {
    Step::HeadLinear(HeadLinear {
        input: Slot(input),
        out: Slot(out),
        weight: PER_HEAD,
        n_heads: 2,
        in_width: 16,
        out_width: 16,
        rest: 0,
    })
}

fn mix(inputs: &[usize], outputs: &[usize], weights: usize) -> Step {
    let slots = |numbers: &[usize]| numbers.iter().map(|number| Slot(*number)).collect();
    let (inputs, outputs) = (slots(inputs), slots(outputs));
    Step::Mix(Mix { inputs, outputs, weights: Slot(weights), accumulate: false })
}

fn conv(input: usize, out: usize) -> Step {
    Step::Conv(Conv {
        input: Slot(input),
        out: Slot(out),
        weight: TAPS,
        bias: None,
        activation: Activation::Silu,
        state: 0,
    })
}

fn delta_net(qkv: usize, alpha: usize, beta: usize, out: usize) -> Step {
    Step::DeltaNet(DeltaNet {
        qkv: Slot(qkv),
        alpha: Slot(alpha),
        beta: Slot(beta),
        out: Slot(out),
        decay: NEGATIVE,
        bias: OF_HEADS,
        n_key_heads: 1,
        n_value_heads: 2,
        grouped: true,
        key_width: 16,
        value_width: 16,
        epsilon: 1e-5,
        state: 0,
    })
}

fn scan(x: usize, dt: usize, b: usize, c: usize, out: usize) -> Step {
    Step::SelectiveScan(SelectiveScan {
        x: Slot(x),
        dt: Slot(dt),
        b: Slot(b),
        c: Slot(c),
        out: Slot(out),
        decay: NEGATIVE,
        bias: OF_HEADS,
        skip: OF_HEADS,
        n_heads: 2,
        head_width: 8,
        state_width: 16,
        n_groups: 1,
        state: 0,
    })
}

#[test]
fn operands_that_may_be_one_slot_give_the_values_of_the_oracle() {
    let steps = [
        norm(1, 1),
        rope_store(1, 2, 2),
        gated(1, 2, 1),
        gated(1, 1, 2),
        add(1, 2, 1),
        add(1, 1, 2),
        moe(1, 1, 2),
        mix(&[1, 2], &[2, 1], FACTORS),
        mix(&[1, 1], &[2, 3], FACTORS),
        delta_net(1, 2, 2, 3),
        scan(1, 2, 3, 3, 4),
        scan(1, 1, 1, 1, 2),
    ];
    let backend = cpu();
    for step in steps {
        let wanted = results(&NaiveBackend, &step).unwrap();
        let got = results(&backend, &step).unwrap();
        for (slot, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            // What rotated keys leave behind is nobody's.
            if matches!(&step, Step::RopeStore(step) if step.k.0 == slot) {
                continue;
            }
            let off = compare(got, wanted);
            assert!(off.max_abs <= 2e-5 * off.rms_wanted.max(1.0), "{step:?}, {slot}: {off}");
        }
    }
}

#[test]
fn operands_that_must_differ_are_refused_when_the_session_is_opened() {
    let output = N_SLOTS - 1;
    let steps = [
        linear(1, &[1]),
        linear(1, &[2, 1]),
        linear(1, &[2, 2]),
        rope_store(1, 1, 2),
        rope_store(1, 2, 1),
        rope_store(1, 1, 1),
        attend(1, 1),
        gated(1, 2, 2),
        gated(1, 1, 1),
        add(1, 2, 2),
        add(1, 1, 1),
        Step::TakeRows(TakeRows { input: Slot(output), out: Slot(output) }),
        moe(1, 2, 1),
        moe(1, 2, 2),
        head_linear(1, 1),
        mix(&[1], &[2, 2], 3),
        mix(&[1], &[2, 3], 2),
        mix(&[1], &[2, 3], 1),
        conv(1, 1),
        delta_net(1, 2, 3, 1),
        delta_net(1, 2, 3, 2),
        delta_net(1, 2, 3, 3),
        scan(1, 2, 3, 4, 1),
        scan(1, 2, 3, 4, 2),
        scan(1, 2, 3, 4, 3),
        scan(1, 2, 3, 4, 4),
    ];
    let backend = cpu();
    for step in steps {
        let refused = results(&backend, &step);
        assert!(matches!(refused, Err(Error::InvalidProgram { .. })), "{step:?}: {refused:?}");
    }
}
