//! Attention of a few rows of one sequence, for the query heads that share one
//! key/value head.
//!
//! Positions are taken in chunks that begin at multiples of a fixed length. A chunk
//! by itself gives each query row the largest score, the sum of the weights relative
//! to it, and the weighted sum of the values; chunks are put together in their order
//! (online softmax, arXiv 2112.05682). Which rows share a tile, and which thread
//! takes which chunk, changes nothing in what a row gets.

use std::ops::Range;

use realm_ir::{Activation, Attend, KvLayer, SequenceView};
use realm_quant::{Element, Level};

use super::kernels;
use super::pages::{Kind, Pages, Place, Run};
use super::scratch::{Partial, Scratch, Work};
use crate::kv::{KvShape, LANES};
use crate::math;
use crate::parts::Parts;

/// Positions per chunk, or one page if that is more.
const CHUNK_TOKENS: usize = 128;

/// Query rows per tile, or the heads of one row if they are more: as many as find
/// room in the first-level cache beside their scores.
const TILE_QUERIES: usize = 48;

/// Rows of one sequence.
pub(super) struct Tile<'a> {
    pub sequence: &'a SequenceView<'a>,
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row.
    position: usize,
    /// Positions of the sequence up to the batch's last.
    end: usize,
    op: &'a Attend,
}

impl<'a> Tile<'a> {
    /// The tiles of the rows of `sequence`, whose first row is at `position`.
    pub fn of_sequence(
        op: &'a Attend,
        group: usize,
        sequence: &'a SequenceView<'a>,
        position: usize,
    ) -> impl Iterator<Item = Tile<'a>> {
        let per_tile = (TILE_QUERIES / group).max(1);
        let end = position + sequence.n_rows;
        (0..sequence.n_rows).step_by(per_tile).map(move |first| {
            let n = per_tile.min(sequence.n_rows - first);
            let rows = sequence.first_row + first..sequence.first_row + first + n;
            Tile { sequence, rows, position: position + first, end, op }
        })
    }

    /// The chunks that any row sees.
    pub fn chunks(&self, shape: &KvShape) -> Range<usize> {
        let n_tokens = chunk_tokens(shape);
        let last = self.seen_by(self.rows.len() - 1);
        self.seen_by(0).start / n_tokens..last.end.div_ceil(n_tokens)
    }

    /// Positions that row `row` of the tile sees.
    fn seen_by(&self, row: usize) -> Range<usize> {
        let position = self.position + row;
        let end = if self.op.causal { position + 1 } else { self.end };
        match self.op.window.map(|window| window as usize) {
            None => 0..end,
            Some(window) if self.op.chunked => position / window * window..end,
            Some(window) if self.op.causal => (position + 1).saturating_sub(window)..end,
            Some(window) => position.saturating_sub(window / 2)..end.min(position + window / 2 + 1),
        }
    }
}

fn chunk_tokens(shape: &KvShape) -> usize {
    (CHUNK_TOKENS / shape.page_tokens).max(1) * shape.page_tokens
}

/// Values of a worker's [`Scratch`] for heads of `layer`, each of which `group` query heads share.
pub(crate) fn scratch_values(layer: &KvLayer, group: usize, page_tokens: usize) -> usize {
    let n_queries = (TILE_QUERIES / group.max(1)).max(1) * group;
    let n_tokens = (CHUNK_TOKENS / page_tokens).max(1) * page_tokens;
    let value_stride = layer.value_width.next_multiple_of(LANES);
    let work = n_queries * (layer.key_width + n_tokens);
    let unpacked = page_tokens.next_multiple_of(LANES) * layer.key_width.max(value_stride);
    let partial = n_queries * (2 + value_stride);
    work + unpacked + 2 * partial
}

/// One page of a chunk, for all query rows of a tile.
struct Visit<'a> {
    page: u32,
    /// The page's first position within the chunk.
    page_start: usize,
    /// Positions of the chunk that each row sees.
    seen: &'a [Range<usize>],
    score_stride: usize,
    /// What is read next.
    ahead: &'a [u8],
}

/// Where queries come from and results go.
pub(super) struct Operands<'a> {
    pub q: &'a [f32],
    pub q_width: usize,
    pub out: Parts<'a, f32>,
    pub out_width: usize,
    /// Extra score of each head, or none.
    pub sinks: &'a [f32],
}

/// One key/value head of a tile, and the cache's values.
pub(super) struct Head<'a, P: ?Sized> {
    pub op: &'a Attend,
    pub shape: &'a KvShape,
    pub kv: &'a P,
    pub level: Level,
    pub tile: &'a Tile<'a>,
    /// Number of the key/value head.
    pub head: usize,
    /// Query heads that share it.
    pub group: usize,
}

impl<P: Pages + ?Sized> Head<'_, P> {
    /// Attention over all positions that the tile sees.
    pub fn attend(&self, operands: &Operands<'_>, scratch: &mut Scratch) {
        let Scratch { work, chunk, total } = scratch;
        self.load_queries(operands, work);
        total.clear(self.n_queries(), self.value_stride());
        for index in self.tile.chunks(self.shape) {
            self.chunk(index, work, chunk);
            total.merge(chunk, self.level);
        }
        self.store(total, operands);
    }

    /// Attention over one chunk only.
    pub fn attend_chunk(
        &self,
        index: usize,
        operands: &Operands<'_>,
        scratch: &mut Scratch,
        out: &mut Partial,
    ) {
        self.load_queries(operands, &mut scratch.work);
        self.chunk(index, &mut scratch.work, out);
    }

    /// Puts the chunks of [`Head::attend_chunk`] together, given in their order.
    pub fn merge(&self, chunks: &[Partial], operands: &Operands<'_>, scratch: &mut Scratch) {
        let total = &mut scratch.total;
        total.clear(self.n_queries(), self.value_stride());
        chunks.iter().for_each(|chunk| total.merge(chunk, self.level));
        self.store(total, operands);
    }

    fn place(&self, page: u32, kind: Kind) -> Place<'_> {
        Place { shape: self.shape, layer: self.op.kv_layer, page, head: self.head, kind }
    }

    fn n_queries(&self) -> usize {
        self.tile.rows.len() * self.group
    }

    fn value_stride(&self) -> usize {
        self.shape.value_stride(self.op.kv_layer)
    }

    fn load_queries(&self, operands: &Operands<'_>, work: &mut Work) {
        let width = self.group * self.shape.layer(self.op.kv_layer).key_width;
        work.queries.clear();
        for row in self.tile.rows.clone() {
            let first = row * operands.q_width + self.head * width;
            let queries = &operands.q[first..first + width];
            work.queries.extend(queries.iter().map(|q| self.op.scale * q));
        }
    }

    /// What chunk `index` alone gives each query row.
    fn chunk(&self, index: usize, work: &mut Work, out: &mut Partial) {
        let n_tokens = chunk_tokens(self.shape);
        // The last page's scores reach up to a register beyond its positions.
        let score_stride = n_tokens + LANES;
        out.clear(self.n_queries(), self.value_stride());
        work.scores.resize(self.n_queries() * score_stride, 0.0);
        let seen: Vec<_> =
            (0..self.tile.rows.len()).map(|row| self.seen_in_chunk(row, index)).collect();
        let mut ahead = self.runs(index, &seen).skip(1);
        let mut visit = |(page_start, page)| {
            let ahead = ahead.next().unwrap_or_default();
            Visit { page, page_start, seen: &seen, score_stride, ahead }
        };
        for page in self.pages(index, &seen) {
            self.score_page(&visit(page), work);
        }
        for (query, scores) in work.scores.chunks_exact_mut(score_stride).enumerate() {
            let seen = seen[query / self.group].clone();
            if !seen.is_empty() {
                let first = index * n_tokens + seen.start;
                let (max, sum) = self.weights(query, first, &mut scores[seen]);
                (out.max[query], out.sum[query]) = (max, sum);
            }
        }
        for page in self.pages(index, &seen) {
            self.add_page(&visit(page), work, out);
        }
    }

    /// The memory that a chunk reads, in this order: the keys, then the values, and at last
    /// the keys with which the next chunk begins.
    fn runs(&self, index: usize, seen: &[Range<usize>]) -> impl Iterator<Item = &[u8]> {
        let of_chunk = |kind| self.pages(index, seen).map(move |(_, page)| (page, kind));
        let next = (index + 1) * chunk_tokens(self.shape);
        let is_seen = next < self.tile.seen_by(self.tile.rows.len() - 1).end;
        let next = is_seen.then(|| self.tile.sequence.pages[next / self.shape.page_tokens]);
        of_chunk(Kind::Keys)
            .chain(of_chunk(Kind::Values))
            .chain(next.map(|page| (page, Kind::Keys)))
            .map(|(page, kind)| self.kv.stored(self.place(page, kind)))
    }

    /// Positions of the chunk that row `row` of the tile sees, counted from its first.
    fn seen_in_chunk(&self, row: usize, index: usize) -> Range<usize> {
        let n_tokens = chunk_tokens(self.shape);
        let within = |position: usize| position.saturating_sub(index * n_tokens).min(n_tokens);
        let seen = self.tile.seen_by(row);
        within(seen.start)..within(seen.end)
    }

    /// The pages of the chunk that any row sees: the first position within the
    /// chunk, and number in the cache.
    fn pages(
        &self,
        index: usize,
        seen: &[Range<usize>],
    ) -> impl Iterator<Item = (usize, u32)> + Clone {
        let (n_tokens, page_tokens) = (chunk_tokens(self.shape), self.shape.page_tokens);
        let first = seen.first().map_or(0, |seen| seen.start) / page_tokens;
        let end = seen.last().map_or(0, |seen| seen.end).div_ceil(page_tokens);
        let table = &self.tile.sequence.pages[index * n_tokens / page_tokens..];
        (first..end).map(move |page| (page * page_tokens, table[page]))
    }

    /// Groups of query rows that are computed together, about as many in each.
    fn blocks(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        let n = self.n_queries();
        let per_block = n.div_ceil(n.div_ceil(kernels::most_rows(self.level)));
        (0..n).step_by(per_block).map(move |first| first..n.min(first + per_block))
    }

    /// Products with the keys of one page, for the query rows that see any of them.
    fn score_page(&self, visit: &Visit<'_>, work: &mut Work) {
        let Work { queries, scores, unpacked } = work;
        let place = self.place(visit.page, Kind::Keys);
        match self.kv.run(self.level, place, self.blocks().len(), unpacked) {
            Run::Stored(keys) => self.score_blocks(visit, keys, queries, scores),
            Run::Unpacked(keys) => self.score_blocks(visit, keys, queries, scores),
        }
    }

    fn score_blocks<T: Element>(
        &self,
        visit: &Visit<'_>,
        keys: &[T],
        queries: &[f32],
        scores: &mut [f32],
    ) {
        let layer = self.op.kv_layer;
        let (width, stride) = (self.shape.layer(layer).key_width, self.shape.key_stride());
        let Visit { page_start, seen, score_stride, mut ahead, .. } = *visit;
        for block in self.blocks() {
            let (first, last) =
                (&seen[block.start / self.group], &seen[(block.end - 1) / self.group]);
            if first.start >= page_start + self.shape.page_tokens || last.end <= page_start {
                continue;
            }
            let queries = &queries[block.start * width..block.end * width];
            let out = &mut scores[block.start * score_stride + page_start..];
            let (n_rows, out_stride) = (block.len(), score_stride);
            kernels::Products { n_rows, queries, keys, stride, out, out_stride, ahead }
                .compute(self.level);
            ahead = &[];
        }
    }

    /// Makes weights of one query row's scores, the first of position `first`: the
    /// largest score, and the sum of the weights relative to it.
    fn weights(&self, query: usize, first: usize, scores: &mut [f32]) -> (f32, f32) {
        if let Some(cap) = self.op.softcap {
            math::gated(self.level, Activation::Softcap(cap), scores, None);
        }
        if let Some(max_bias) = self.op.alibi_max_bias {
            let head = self.head * self.group + query % self.group;
            let slope = slope(head, self.op.n_heads, max_bias);
            let position = self.tile.position + query / self.group;
            for (i, score) in scores.iter_mut().enumerate() {
                *score -= slope * position.abs_diff(first + i) as f32;
            }
        }
        math::softmax_weights(self.level, scores)
    }

    /// Adds one page's weighted values.
    fn add_page(&self, visit: &Visit<'_>, work: &mut Work, out: &mut Partial) {
        let Work { scores, unpacked, .. } = work;
        let place = self.place(visit.page, Kind::Values);
        match self.kv.run(self.level, place, self.blocks().len(), unpacked) {
            Run::Stored(values) => self.add_blocks(visit, values, scores, out),
            Run::Unpacked(values) => self.add_blocks(visit, values, scores, out),
        }
    }

    fn add_blocks<T: Element>(
        &self,
        visit: &Visit<'_>,
        values: &[T],
        scores: &[f32],
        out: &mut Partial,
    ) {
        let stride = self.value_stride();
        let Visit { page_start, seen, score_stride, mut ahead, .. } = *visit;
        let end = page_start + self.shape.page_tokens;
        let mut add = |queries: Range<usize>, positions: Range<usize>| {
            if positions.is_empty() {
                return;
            }
            let weights = &scores[queries.start * score_stride + positions.start..];
            let values = &values[(positions.start - page_start) * stride..];
            let out = &mut out.values[queries.start * stride..queries.end * stride];
            let values = &values[..positions.len() * stride];
            let (n_rows, weight_stride) = (queries.len(), score_stride);
            kernels::AddWeighted { n_rows, weights, weight_stride, values, stride, out, ahead }
                .compute(self.level);
            ahead = &[];
        };
        for block in self.blocks() {
            let seen = |query: usize| {
                let seen = &seen[query / self.group];
                seen.start.clamp(page_start, end)..seen.end.clamp(page_start, end)
            };
            // Rows see more and more: what all of a block see is between what only the
            // first ones and what only the last ones do.
            let all = seen(block.end - 1).start..seen(block.start).end;
            let all = all.start..all.end.max(all.start);
            block.clone().for_each(|q| add(q..q + 1, seen(q).start..seen(q).end.min(all.start)));
            add(block.clone(), all.clone());
            block.clone().for_each(|q| add(q..q + 1, seen(q).start.max(all.end)..seen(q).end));
        }
    }

    /// Divides by the sums and writes the result.
    fn store(&self, total: &Partial, operands: &Operands<'_>) {
        let (stride, group) = (self.value_stride(), self.group);
        let width = self.shape.layer(self.op.kv_layer).value_width;
        for (row, values) in self.tile.rows.clone().zip(total.values.chunks_exact(group * stride)) {
            let first = row * operands.out_width + self.head * group * width;
            // SAFETY: a row's heads of one group belong to one task.
            let out = unsafe { operands.out.part(first..first + group * width) };
            let heads = out.chunks_exact_mut(width).zip(values.chunks_exact(stride));
            for (i, (out, values)) in heads.enumerate() {
                let query = (row - self.tile.rows.start) * group + i;
                let sink = operands.sinks.get(self.head * group + i).copied();
                let factor = normalizer(total.max[query], total.sum[query], sink);
                out.iter_mut().zip(values).for_each(|(out, value)| *out = factor * value);
            }
        }
    }
}

/// What makes the weights, and that of a `sink` without a value, sum to 1.
fn normalizer(max: f32, sum: f32, sink: Option<f32>) -> f32 {
    let Some(sink) = sink else { return 1.0 / sum };
    let largest = max.max(sink);
    let factor = math::exp(max - largest);
    factor / (sum * factor + math::exp(sink - largest))
}

/// How much a head's score falls per position of distance (ALiBi): a geometric
/// series over the largest power of two of heads, then every other term of the next.
fn slope(head: usize, n_heads: usize, max_bias: f32) -> f32 {
    let n = n_heads.next_power_of_two() >> usize::from(!n_heads.is_power_of_two());
    let (n, k) = if head < n { (n, head + 1) } else { (2 * n, 2 * (head - n) + 1) };
    (-max_bias * k as f32 / n as f32).exp2()
}
