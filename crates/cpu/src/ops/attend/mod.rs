//! Attention of each row over its own sequence.
//!
//! A task is a tile of rows and one key/value head: the query heads that share it
//! read each key and value while it is in a near cache. Where there are too few
//! tasks for the workers, the chunks of a long sequence become tasks of their own.

mod kernels;
mod pages;
pub(crate) mod scratch;
mod tile;

use realm_ir::{Attend, BatchView};
use realm_quant::Level;

use self::pages::Pages;
use self::scratch::{Partial, Scratch};
pub(crate) use self::tile::scratch_values;
use self::tile::{Head, Operands, Tile};
use crate::kv::{KvShape, KvValues};
use crate::parts::Parts;
use crate::pool::Team;
use crate::state::{PerWorker, State};
use crate::weight::WeightHandle;

/// Fewer tasks than this per worker leave some idle at the end.
const TASKS_PER_WORKER: usize = 2;

/// Runs attention for every row.
pub(crate) fn attend(
    op: &Attend,
    sinks: Option<&WeightHandle>,
    state: &mut State,
    team: &Team<'_>,
    batch: &BatchView<'_>,
) {
    let shape = state.kv.shape();
    let group = op.n_heads / shape.layer(op.kv_layer).n_kv_heads;
    let (q_width, out_width) = (state.slots.width(op.q), state.slots.width(op.out));
    let (out, others) = state.slots.split(op.out);
    let operands = Operands {
        q: others.get(op.q),
        q_width,
        out: Parts::new(out),
        out_width,
        sinks: sinks.map_or(&[], |sinks| sinks.values()),
    };
    let sequences = batch.sequences.iter().filter(|sequence| sequence.n_rows > 0);
    let tiles: Vec<Tile<'_>> = sequences
        .flat_map(|sequence| {
            let position = batch.positions[sequence.first_row] as usize;
            Tile::of_sequence(op, group, sequence, position)
        })
        .collect();
    let (level, scratch) = (state.level, &state.scratch.attention);
    let step = AttendStep { op, level, shape, group, tiles, operands, scratch };
    match state.kv.values() {
        KvValues::F32(values) => step.run(values.as_slice(), team),
        KvValues::F16(values) => step.run(values.as_slice(), team),
        KvValues::Q8_0(values) => step.run(values, team),
    }
}

/// One step over one batch.
struct AttendStep<'a> {
    op: &'a Attend,
    level: Level,
    shape: &'a KvShape,
    /// Query heads per key/value head.
    group: usize,
    tiles: Vec<Tile<'a>>,
    operands: Operands<'a>,
    scratch: &'a PerWorker<Scratch>,
}

impl AttendStep<'_> {
    fn run<P: Pages + ?Sized>(&self, kv: &P, team: &Team<'_>) {
        let n_heads = self.shape.layer(self.op.kv_layer).n_kv_heads;
        let n_tasks = self.tiles.len() * n_heads;
        let n_chunks = self.tiles.iter().map(|tile| tile.chunks(self.shape).len()).max();
        let is_few = n_tasks < TASKS_PER_WORKER * team.n_workers();
        if is_few && team.n_workers() > 1 && n_chunks > Some(1) {
            return self.run_chunks(kv, team);
        }
        // One head after another, whose keys and values stay in a near cache; the tiles
        // that see most come first.
        let n_tiles = self.tiles.len();
        team.for_each(n_tasks, &|worker, task| {
            let tile = &self.tiles[n_tiles - 1 - task % n_tiles];
            let head = self.head(kv, tile, task / n_tiles);
            head.attend(&self.operands, &mut self.scratch.of(worker));
        });
    }

    /// The same with a task for each chunk, whose results are put together at the end.
    fn run_chunks<P: Pages + ?Sized>(&self, kv: &P, team: &Team<'_>) {
        let n_heads = self.shape.layer(self.op.kv_layer).n_kv_heads;
        let heads: Vec<Head<'_, P>> = self
            .tiles
            .iter()
            .flat_map(|tile| (0..n_heads).map(move |head| self.head(kv, tile, head)))
            .collect();
        let mut tasks = Vec::new();
        for (i, head) in heads.iter().enumerate() {
            tasks.extend(head.tile.chunks(self.shape).map(|chunk| (i, chunk)));
        }
        let mut partials: Vec<Partial> = tasks.iter().map(|_| Partial::default()).collect();
        let parts = Parts::new(&mut partials);
        team.for_each(tasks.len(), &|worker, task| {
            let (head, chunk) = tasks[task];
            // SAFETY: each task has a partial result of its own.
            let out = &mut unsafe { parts.part(task..task + 1) }[0];
            heads[head].attend_chunk(chunk, &self.operands, &mut self.scratch.of(worker), out);
        });
        let mut rest = &partials[..];
        for head in &heads {
            let (chunks, others) = rest.split_at(head.tile.chunks(self.shape).len());
            head.merge(chunks, &self.operands, &mut self.scratch.of(0));
            rest = others;
        }
    }

    fn head<'a, P: ?Sized>(&'a self, kv: &'a P, tile: &'a Tile<'a>, head: usize) -> Head<'a, P> {
        let &Self { op, level, shape, group, .. } = self;
        Head { op, level, shape, kv, tile, head, group }
    }
}
