//! What adapters add while a session runs: the rows that run with each of them, and the
//! dispatches that add to what those rows have.
//!
//! An adapter is planned as experts are: every row chooses its one matrix or none. So rows of
//! sequences with other adapters, or without, are left alone, in one batch.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytemuck::cast_slice;
use realm_ir::{BatchView, Result, Rows, SessionConfig};

use crate::gpu::{Gpu, word_bytes};
use crate::low_rank::LowRankAdapter;
use crate::plan::{Dispatch, Planner, max_rows};
use crate::product::source::{TILE_ROWS, TILE_WORDS, TILES_AT};

/// Stands for no choice.
const NONE: u32 = u32::MAX;

/// One adapter in one session.
pub(crate) struct Additions {
    adapter: Weak<LowRankAdapter>,
    rows: AdaptedRows,
    /// By the segment and the dispatch in it that they follow.
    dispatches: HashMap<(usize, usize), Vec<Dispatch>>,
}

/// The rows of a batch that run with an adapter.
pub(crate) struct AdaptedRows {
    batch: RowList,
    outputs: RowList,
}

/// Some rows as products with experts want them.
pub(crate) struct RowList {
    /// Per row: matrix 0 or [`NONE`].
    pub choices: wgpu::Buffer,
    /// Per row: factor on what is added.
    pub factors: wgpu::Buffer,
    /// The list that `group_choices.wgsl` would make of the choices.
    pub tiles: wgpu::Buffer,
}

impl AdaptedRows {
    pub fn of(&self, rows: Rows) -> &RowList {
        match rows {
            Rows::Batch => &self.batch,
            Rows::Outputs => &self.outputs,
        }
    }
}

impl RowList {
    fn new(gpu: &Gpu, max_rows: usize) -> Result<Self> {
        let n_tiles = max_rows.div_ceil(TILE_ROWS);
        let list = |what, words: usize| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            gpu.buffer(what, word_bytes(&[words]), usage)
        };
        Ok(RowList {
            choices: list("rows with an adapter", max_rows)?,
            factors: list("scales of an adapter", max_rows)?,
            tiles: list("tiles with an adapter", TILES_AT + TILE_WORDS * n_tiles + max_rows)?,
        })
    }

    /// Sets the scale of each row, none for those that run without.
    fn write(&self, gpu: &Gpu, scales: &[Option<f32>]) {
        let choices: Vec<u32> = scales.iter().map(|s| if s.is_some() { 0 } else { NONE }).collect();
        let factors: Vec<f32> = scales.iter().map(|scale| scale.unwrap_or(0.0)).collect();
        let tiles = tiles(&choices);
        gpu.queue.write_buffer(&self.choices, 0, cast_slice(&choices));
        gpu.queue.write_buffer(&self.factors, 0, cast_slice(&factors));
        gpu.queue.write_buffer(&self.tiles, 0, cast_slice(&tiles));
    }
}

/// The list of tiles for rows that choose matrix 0 or none.
fn tiles(choices: &[u32]) -> Vec<u32> {
    let order: Vec<u32> = (0..).zip(choices).filter(|(_, c)| **c == 0).map(|(i, _)| i).collect();
    let n_tiles = order.len().div_ceil(TILE_ROWS);
    let mut words = vec![n_tiles as u32, (TILES_AT + TILE_WORDS * n_tiles) as u32];
    for (tile, rows) in order.chunks(TILE_ROWS).enumerate() {
        words.extend([0, (tile * TILE_ROWS) as u32, rows.len() as u32]);
    }
    words.extend(order);
    words
}

impl Additions {
    /// Plans what `adapter` adds to the results of `segments`.
    ///
    /// # Errors
    /// `ShapeMismatch` for an adapter of another program, `OutOfMemory`.
    pub fn new(
        planner: &mut Planner<'_>,
        segments: &[Vec<Dispatch>],
        adapter: &Arc<LowRankAdapter>,
        config: &SessionConfig,
    ) -> Result<Self> {
        let list = |rows| RowList::new(planner.gpu, max_rows(rows, config));
        let rows = AdaptedRows { batch: list(Rows::Batch)?, outputs: list(Rows::Outputs)? };
        let mut dispatches = HashMap::new();
        for (segment, commands) in segments.iter().enumerate() {
            for (index, command) in commands.iter().enumerate() {
                let mut added = Vec::new();
                for site in &command.sites {
                    added.extend(planner.add_low_rank(site, adapter, rows.of(site.rows))?);
                }
                if !added.is_empty() {
                    dispatches.insert((segment, index), added);
                }
            }
        }
        Ok(Additions { adapter: Arc::downgrade(adapter), rows, dispatches })
    }

    /// Whether these are those of an adapter.
    pub fn are_of(&self, adapter: &Arc<LowRankAdapter>) -> bool {
        std::ptr::eq(self.adapter.as_ptr(), Arc::as_ptr(adapter))
    }

    /// Whether anybody can still run with them.
    pub fn are_in_use(&self) -> bool {
        self.adapter.strong_count() > 0
    }

    /// Uploads which rows of a batch run with the adapter.
    pub fn write(&self, gpu: &Gpu, batch: &BatchView<'_>) {
        let mut scales = vec![None; batch.n_rows()];
        for sequence in batch.sequences {
            let is_own = |adapter: *const ()| adapter == self.adapter.as_ptr().cast();
            let own =
                sequence.adapters.iter().filter(|used| is_own(Arc::as_ptr(&used.adapter).cast()));
            let Some(scale) = own.map(|used| used.scale).reduce(|a, b| a + b) else { continue };
            scales[sequence.first_row..][..sequence.n_rows].fill(Some(scale));
        }
        let of_outputs: Vec<_> =
            batch.output_rows.iter().map(|row| scales[*row as usize]).collect();
        self.rows.batch.write(gpu, &scales);
        self.rows.outputs.write(gpu, &of_outputs);
    }

    /// What follows a dispatch of a segment.
    pub fn after(&self, segment: usize, index: usize) -> &[Dispatch] {
        self.dispatches.get(&(segment, index)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_with_an_adapter_is_in_one_tile() {
        let choices: Vec<u32> = (0..100).map(|i| if i % 3 == 1 { NONE } else { 0 }).collect();
        let words = tiles(&choices);
        assert_eq!(words[0], 3, "67 rows");
        let order = &words[words[1] as usize..];
        let mut found: Vec<u32> = Vec::new();
        for tile in words[TILES_AT..words[1] as usize].chunks(TILE_WORDS) {
            assert_eq!(tile[0], 0);
            found.extend(&order[tile[1] as usize..][..tile[2] as usize]);
        }
        let wanted: Vec<u32> = (0..100).filter(|i| i % 3 != 1).collect();
        assert_eq!(found, wanted);
        assert_eq!(tiles(&[NONE; 9]), [0, 2]);
    }
}
