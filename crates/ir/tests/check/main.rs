//! Programs that contradict themselves are refused by segment, step and operand.

mod dense;
mod others;

use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Backend, Coded, Error, ErrorCode, KvLayer, KvLayout, KvType, Program, Rows, SessionConfig,
    Slot, SlotInfo, StateLayout, Step, WeightLayout, WeightRef,
};
use realm_testkit::oracle::NaiveBackend;

use dense::decoder;

/// A program and what a session of it is opened for.
#[derive(Clone)]
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

/// A function that takes a step of one kind, for [`Case::step`].
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
use getter;

type Change = fn(&mut Case);

/// Checks that each change is refused, with the words that name it.
#[track_caller]
fn refused(sound: fn() -> Case, changes: &[(&str, Change)]) {
    let sound = sound();
    sound.check().expect("sound without the change");
    for (expected, change) in changes {
        let mut case = sound.clone();
        change(&mut case);
        let error = case.check().expect_err(expected);
        assert_eq!(error.code(), ErrorCode::ModelInvalid, "{error}");
        assert!(error.to_string().contains(expected), "{error}\nis not about: {expected}");
    }
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
    case.program.segments[1].remove(2);
    let error = open(&case, weights).err().unwrap();
    assert!(matches!(error, Error::InvalidProgram { .. }), "{error}");
}
