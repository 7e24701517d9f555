//! A session: one program, ready to run.

use std::ops::Range;
use std::sync::Arc;

use realm_ir::{
    BatchLimits, BatchView, Error, Program, ReadFuture, Result, Session, SessionConfig, Slot,
    Uploaded,
};

use realm_quant::Level;

use crate::NAME;
use crate::ops;
use crate::packer::Packer;
use crate::plan::{self, Op};
use crate::pool::{Pool, Seat, Team};
use crate::state::State;

/// Runs one program.
pub(crate) struct CpuSession {
    seat: Seat,
    segments: Vec<Vec<Op>>,
    limits: BatchLimits,
    state: State,
    /// Makes copies until it is dropped.
    _packer: Packer,
    /// Set while operations run: where it is set before, one of them panicked.
    is_running: bool,
}

impl CpuSession {
    pub fn new(
        pool: Arc<Pool>,
        level: Level,
        program: &Program,
        weights: &[Uploaded],
        config: &SessionConfig,
    ) -> Result<Self> {
        let limits = BatchLimits {
            max_rows: config.max_rows,
            max_outputs: config.max_outputs,
            n_vocab: plan::n_vocab(program),
            page_tokens: config.kv.page_tokens,
            n_pages: config.kv.n_pages,
            n_states: config.states.n_states,
        };
        let segments = plan::plan(program, weights)?;
        let state = State::new(level, program, config, pool.n_workers())?;
        let layout = (config.layout, level);
        let packer = Packer::start(program, weights, layout, pool.n_workers())?;
        let seat = Seat::new(pool);
        Ok(CpuSession { seat, segments, limits, state, _packer: packer, is_running: false })
    }

    /// Refuses a session that was left in the middle of an operation.
    fn check_whole(&self) -> Result<()> {
        match self.is_running {
            true => Err(Error::SessionLost { backend: NAME }),
            false => Ok(()),
        }
    }

    fn run_segments(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()> {
        let mut team = self.seat.team();
        for index in segments {
            for op in &self.segments[index] {
                team.give_way();
                if batch.is_interrupted() {
                    return Err(Error::Interrupted);
                }
                let result = run_op(op, &mut self.state, &team, batch);
                result.map_err(|error| in_segment(index, error))?;
            }
        }
        Ok(())
    }

    /// [`Session::read`].
    fn copy_rows(&self, slot: Slot, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        self.check_whole()?;
        let width = self.state.slots.width(slot);
        let values = self.state.slots.get(slot);
        let wanted = rows.len().saturating_mul(width);
        let end = rows.end.saturating_mul(width);
        if out.len() != wanted || end > values.len() {
            let what = format!("rows {rows:?} of slot {}", slot.0);
            return Err(Error::ShapeMismatch { what, expected: wanted, found: out.len() });
        }
        out.copy_from_slice(&values[end - wanted..end]);
        Ok(())
    }

    fn check_pages(&self, pages: &[u32]) -> Result<()> {
        match pages.iter().find(|page| **page as usize >= self.limits.n_pages) {
            Some(page) => {
                let message = format!("page {page}, the cache has {}", self.limits.n_pages);
                Err(Error::InvalidBatch { message })
            }
            None => Ok(()),
        }
    }
}

impl Session for CpuSession {
    fn run(&mut self, segments: Range<usize>, batch: &BatchView<'_>) -> Result<()> {
        self.check_whole()?;
        batch.check(&self.limits)?;
        let n_segments = self.segments.len();
        if self.segments.get(segments.clone()).is_none() {
            let message = format!("segments {segments:?} of {n_segments}");
            return Err(Error::InvalidBatch { message });
        }
        if batch.n_rows() == 0 {
            return Ok(());
        }
        self.is_running = true;
        let result = self.run_segments(segments, batch);
        self.is_running = false;
        result
    }

    fn write(&mut self, slot: Slot, data: &[f32]) -> Result<()> {
        self.check_whole()?;
        let width = self.state.slots.width(slot);
        let values = self.state.slots.get_mut(slot);
        if !data.len().is_multiple_of(width) || data.len() > values.len() {
            let what = format!("slot {}, rows of {width}", slot.0);
            return Err(Error::ShapeMismatch { what, expected: values.len(), found: data.len() });
        }
        values[..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn read<'a>(
        &'a mut self,
        slot: Slot,
        rows: Range<usize>,
        out: &'a mut [f32],
    ) -> ReadFuture<'a> {
        Box::pin(std::future::ready(self.copy_rows(slot, rows, out)))
    }

    fn copy_page(&mut self, from: u32, to: u32) -> Result<()> {
        self.check_whole()?;
        self.check_pages(&[from, to])?;
        self.state.kv.copy_page(from as usize, to as usize);
        Ok(())
    }

    fn copy_state(&mut self, from: u32, to: u32) -> Result<()> {
        self.check_whole()?;
        if let Some(state) = [from, to].iter().find(|s| **s as usize >= self.limits.n_states) {
            let message = format!("state {state}, the session has {}", self.limits.n_states);
            return Err(Error::InvalidBatch { message });
        }
        self.state.recurrent.copy(from as usize, to as usize);
        Ok(())
    }
}

/// The error with the segment that it comes from.
fn in_segment(index: usize, error: Error) -> Error {
    let place = |what: String| format!("segment {index}, {what}");
    match error {
        Error::ShapeMismatch { what, expected, found } => {
            Error::ShapeMismatch { what: place(what), expected, found }
        }
        Error::InvalidBatch { message } => Error::InvalidBatch { message: place(message) },
        other => other,
    }
}

fn run_op(op: &Op, state: &mut State, team: &Team<'_>, batch: &BatchView<'_>) -> Result<()> {
    let _span = op.span().entered();
    match op {
        Op::Embed(op) => ops::rows::embed(op, state, batch)?,
        Op::PerRow(op) => ops::rows::per_row(op, state, team, batch),
        Op::Linear(op) => ops::linear::linear(op, state, team, batch)?,
        Op::RopeStore(op) => ops::rope::rope_store(op, state, team, batch),
        Op::Rope(op) => ops::rope::rope(op, state, team, batch),
        Op::Attend { step, sinks } => {
            ops::attend::attend(step, sinks.as_ref(), state, team, batch);
        }
        Op::Add(op) => ops::rows::add(op, state, batch),
        Op::TakeRows(op) => ops::rows::take_rows(op, state, batch),
        Op::Moe(op) => ops::moe::moe(op, state, team, batch)?,
        Op::HeadLinear { step, weight } => {
            ops::head_linear::head_linear(step, weight, state, team, batch)?;
        }
        Op::Mix(op) => ops::mix::mix(op, state, team, batch),
        Op::Conv { step, weight, bias } => {
            ops::recurrent::conv(step, weight, bias.as_ref(), state, batch);
        }
        Op::DeltaNet { step, decay, bias } => {
            ops::recurrent::delta_net(step, decay, bias, state, team, batch);
        }
        Op::SelectiveScan(op) => ops::recurrent::selective_scan(op, state, team, batch),
    }
    Ok(())
}

#[cfg(all(test, not(target_family = "wasm")))] // no unwinding there
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use realm_gguf::TensorType;
    use realm_ir::{
        Backend, Coded, ErrorCode, HeadLinear, Rows, SequenceView, SlotInfo, Step, WeightRef,
    };
    use realm_testkit::program::{Call, Decoder, Model, Size, read};
    use realm_testkit::random::{self, Random};

    use super::*;
    use crate::{CpuBackend, CpuOptions};

    fn cpu(threads: usize) -> CpuBackend {
        CpuBackend::new(CpuOptions { threads: Some(threads), ..Default::default() }).unwrap()
    }

    /// A model whose products have enough columns for several tasks each.
    fn model() -> Model {
        let shape =
            Decoder { ty: TensorType::Q4_0, head_norm: true, bias: true, ..Decoder::default() };
        shape.build()
    }

    /// Two sequences, so that there is a second row in every step.
    fn call() -> Call {
        Call::one(&[1, 2, 3], 0, &[0]).and(&[7, 9], 0, &[1])
    }

    fn assert_is_lost(session: &mut dyn Session, model: &Model) {
        let hidden = model.program.hidden;
        let results = [
            ("run", call().run(session, model.segments())),
            ("write", session.write(hidden, &[0.0; 256])),
            ("read", read(model, session, hidden, 1).map(drop)),
            ("copy a page", session.copy_page(0, 1)),
            ("copy a state", session.copy_state(0, 1)),
        ];
        for (what, result) in results {
            let code = result.expect_err(what).code();
            assert_eq!(code, ErrorCode::ModelLost, "{what}");
        }
    }

    #[test]
    fn a_panic_in_any_task_loses_that_session_and_no_other() {
        let model = model();
        let wanted = {
            let mut session = model.open(&cpu(1), Size::default()).unwrap();
            call().logits(&model, &mut *session).unwrap()
        };
        for threads in [1, 3] {
            let backend = cpu(threads);
            let pool = Arc::clone(backend.pool());
            let mut other = model.open(&backend, Size::default()).unwrap();
            let mut n_panics = 0;
            loop {
                let mut session = model.open(&backend, Size::default()).unwrap();
                pool.break_after(n_panics);
                let run = || call().run(&mut *session, model.segments());
                let ended = catch_unwind(AssertUnwindSafe(run));
                pool.break_after(usize::MAX);
                if ended.is_ok() {
                    break;
                }
                n_panics += 1;
                assert_is_lost(&mut *session, &model);
                let got = call().logits(&model, &mut *other).unwrap();
                assert_eq!(got, wanted, "another session after a panic in task {n_panics}");
            }
            assert!(n_panics > 50, "{n_panics} tasks");
        }
    }

    #[test]
    fn a_product_that_does_not_fit_names_its_segment_and_its_tensor() {
        let shape = [64, 32, 2];
        let mut random = Random::new(1);
        let weight = random::tensor(&mut random, "attn_k_b", &shape, TensorType::Q8_0, 0.1);
        // Not whole blocks of 32.
        let in_width = 48;
        let step = HeadLinear {
            input: Slot(0),
            out: Slot(1),
            weight: WeightRef(0),
            n_heads: 2,
            in_width,
            out_width: 32,
            rest: 0,
        };
        let program = Program {
            slots: [Rows::Batch, Rows::Batch, Rows::Outputs]
                .map(|rows| SlotInfo { width: 128, rows })
                .to_vec(),
            weights: vec![weight],
            segments: vec![vec![], vec![Step::HeadLinear(step)]],
            hidden: Slot(0),
            carried: vec![],
            logits: Slot(2),
        };
        let model = Model { program: Arc::new(program), kv_layers: vec![] };
        // The check of the program would refuse it: this is what is behind that.
        let backend = cpu(2);
        let weights: Arc<[Uploaded]> =
            model.program.weights.iter().map(|w| backend.upload(w).unwrap()).collect();
        let config = model.config(Size::default());
        let program = Arc::clone(&model.program);
        let mut session = backend.open_session(program, weights, config).unwrap();
        let sequence =
            SequenceView { first_row: 0, n_rows: 1, pages: &[0], state: 0, adapters: &[] };
        let batch = BatchView {
            tokens: &[],
            positions: &[0],
            sequences: &[sequence],
            output_rows: &[],
            interrupt: None,
        };
        let message = session.run(model.segments(), &batch).unwrap_err().to_string();
        assert!(message.contains("segment 1, attn_k_b: "), "{message}");
        assert!(message.contains("48"), "{message}");
        // An error is no panic: the session goes on.
        session.write(Slot(0), &[0.0; 128]).unwrap();
    }

    #[test]
    fn weights_of_a_lost_session_give_a_new_one_the_same_logits() {
        let model = model();
        for threads in [1, 3] {
            let backend = cpu(threads);
            let weights: Arc<[Uploaded]> =
                model.program.weights.iter().map(|w| backend.upload(w).unwrap()).collect();
            let open = || {
                let (program, weights) = (Arc::clone(&model.program), Arc::clone(&weights));
                backend.session(program, weights, model.config(Size::default()))
            };
            let mut session = open().unwrap();
            let wanted = call().logits(&model, &mut *session).unwrap();
            backend.pool().break_after(20);
            let run = || call().run(&mut *session, model.segments());
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            backend.pool().break_after(usize::MAX);
            assert_is_lost(&mut *session, &model);
            drop(session);
            let got = call().logits(&model, &mut *open().unwrap()).unwrap();
            assert_eq!(got, wanted);
        }
    }
}
