//! Rotation, the KV cache and attention.

use bytemuck::cast_slice;
use realm_ir::{
    Attend, HeadNorm, KvLayer, KvType, Result, Rope, RopeSpec, RopeStore, RopeStyle, SessionConfig,
    WeightRef,
};

use super::{Dispatch, Extent, Grid, MAX_GRID, Planner, count, flag, refuse};
use crate::gpu::Gpu;
use crate::kernel::{
    ATTEND_F16, ATTEND_F32, ATTEND_MERGE, Constants, ROPE, ROPE_STORE_F16, ROPE_STORE_F32, THREADS,
};
use crate::memory::KvBuffer;
use crate::rope;
use crate::sizes::QUAD;

/// How a workgroup of attention divides its work among its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tiling {
    /// Queries of a workgroup: heads of one key head, row after row.
    queries: usize,
    /// Queries of a thread.
    per_thread: usize,
    /// Positions at a time.
    keys: usize,
    /// Quads of each key in workgroup memory at a time.
    piece: usize,
}

const fn tiling(queries: usize, per_thread: usize, keys: usize, piece: usize) -> Tiling {
    Tiling { queries, per_thread, keys, piece }
}

/// All within 16 KiB of workgroup memory and the bounds of a thread in `attend.wgsl`.
const TILINGS: [Tiling; 6] = [
    tiling(1, 1, 64, 8),
    tiling(2, 1, 32, 16),
    tiling(4, 1, 32, 16),
    tiling(8, 1, 32, 16),
    tiling(16, 2, 32, 16),
    tiling(32, 4, 32, 8),
];

/// Quads of sums that a thread can keep: `MAX_QUADS` of `attend.wgsl`.
const MAX_QUADS: usize = 16;

/// What attention hands to the dispatch that puts shares together.
pub(crate) const SHARES: &str = "attention";

/// Values of the widest head whose sums the threads of a workgroup can keep.
pub(crate) const MOST_VALUE_WIDTH: usize = MAX_QUADS * THREADS * QUAD;

/// Workgroups that keep a device busy: with fewer, several share the positions of a query.
const BUSY_GROUPS: usize = 256;

/// What belongs to the cache's type of the types there are kernels for.
fn of_type<T>(ty: KvType, f32: T, f16: T) -> Result<T> {
    match ty {
        KvType::F32 => Ok(f32),
        KvType::F16 => Ok(f16),
        KvType::Q8_0 => Err(refuse(format!("a KV cache of {}", ty.as_str()))),
    }
}

impl Tiling {
    /// Whether a thread can keep its part of values of so many quads.
    fn fits(&self, value_quads: usize) -> bool {
        let lanes = THREADS * self.per_thread / self.queries;
        self.per_thread * value_quads.div_ceil(lanes) <= MAX_QUADS
    }
}

/// The grid of attention, which depends on how many rows there are and how far they see.
#[derive(Clone, Debug)]
pub(crate) struct AttendGrid {
    /// Query heads of a row, and how many of them share a key head.
    n_heads: usize,
    heads_per_kv: usize,
    /// Key heads of this dispatch, and the most that one of the layer's has.
    n_kv_heads: usize,
    most_kv_heads: usize,
    window: Option<usize>,
    /// For one row of a sequence, and for many.
    tilings: Vec<Tiling>,
    /// Heads of rows times shares that there is memory for.
    n_shared: usize,
}

impl AttendGrid {
    /// Index of the tiling, and workgroups for key heads, tiles of queries and shares of
    /// the positions.
    pub fn of(&self, extent: &Extent) -> Option<(usize, [usize; 3])> {
        let rows_per_sequence = extent.n_rows.checked_div(extent.n_sequences)?;
        let queries = rows_per_sequence * self.heads_per_kv;
        let last = self.tilings.len() - 1;
        let chosen = self.tilings.iter().position(|tiling| tiling.queries >= queries);
        let chosen = chosen.unwrap_or(last);
        let tiling = self.tilings[chosen];
        let n_tiles = (extent.n_rows * self.heads_per_kv).div_ceil(tiling.queries);
        let reach = self.window.map_or(usize::MAX, |window| window + extent.n_rows);
        // Shares of fewer keys are not worth putting together.
        let most = extent.n_positions.min(reach).div_ceil(2 * tiling.keys).max(1);
        let most = most.min(self.n_shared.checked_div(extent.n_rows * self.n_heads)?).max(1);
        let n_shares = BUSY_GROUPS.checked_div(self.most_kv_heads * n_tiles)?.clamp(1, most);
        Some((chosen, [self.n_kv_heads, n_tiles, n_shares]))
    }

    /// The grid of what puts shares together, if there are several.
    pub fn merge(&self, extent: &Extent) -> Option<(usize, [usize; 3])> {
        let (_, [_, _, n_shares]) = self.of(extent)?;
        (n_shares > 1).then_some((0, [self.n_heads, extent.n_rows, 1]))
    }
}

impl<'a> Planner<'a> {
    pub(super) fn rope_store(&mut self, step: &RopeStore) -> Result<Vec<Dispatch>> {
        let (layer, buffers) = self.kv_layer(step.kv_layer);
        let temperature = step.temperature.as_ref();
        let length = temperature.map_or(1, |temperature| temperature.length);
        let offset = temperature.map_or(0, |temperature| temperature.offset);
        let mut constants = self.kv_constants(layer);
        constants.extend(rope_constants(step.rope.as_ref()));
        constants.extend([
            ("q_row_width", count(self.width(step.q))),
            ("k_row_width", count(self.width(step.k))),
            ("v_row_width", count(self.width(step.v))),
            ("has_norm", flag(step.head_norm.is_some())),
            ("norm_after_rope", flag(step.head_norm.as_ref().is_some_and(|norm| norm.after_rope))),
            ("epsilon", step.head_norm.as_ref().map_or(0.0, |norm| norm.epsilon.into())),
            ("temperature_scale", temperature.map_or(0.0, |temperature| temperature.scale.into())),
            ("temperature_length", length.into()),
            ("temperature_steps", (offset / length).into()),
            ("temperature_rest", (offset % length).into()),
        ]);
        let angles = self.angles(step.rope.as_ref())?;
        let norm = self.head_norm(step.head_norm.as_ref(), layer.key_width)?;
        let [q, k, v] = [step.q, step.k, step.v].map(|slot| self.slot(slot));
        let kernel = of_type(self.config.kv.ty, &ROPE_STORE_F32, &ROPE_STORE_F16)?;
        let of_buffer = |kv: &KvBuffer| {
            // Queries turn once, beside the layer's first heads.
            let n_heads = if kv.heads.start == 0 { step.n_heads } else { 0 };
            let mut constants = constants.clone();
            constants.push(("n_heads", count(n_heads)));
            constants.extend(head_constants(kv));
            let operands = [&angles, k, v, &norm, q, &kv.buffer];
            self.rowwise(kernel, &constants, &operands, n_heads + kv.heads.len(), step.q)
        };
        Ok(buffers.iter().map(of_buffer).collect())
    }

    pub(super) fn rope(&mut self, step: &Rope) -> Result<Vec<Dispatch>> {
        let row_width = self.width(step.heads);
        let mut constants = rope_constants(Some(&step.rope));
        constants.extend([("key_width", count(step.head_width)), ("row_width", count(row_width))]);
        let angles = self.angles(Some(&step.rope))?;
        let operands = [&angles, self.slot(step.heads)];
        Ok(vec![self.rowwise(&ROPE, &constants, &operands, step.n_heads, step.heads)])
    }

    pub(super) fn attend(&mut self, step: &Attend) -> Result<Vec<Dispatch>> {
        let (layer, buffers) = self.kv_layer(step.kv_layer);
        let value_quads = layer.value_width.div_ceil(QUAD);
        let heads_per_kv = step.n_heads / layer.n_kv_heads;
        let tilings = tilings(heads_per_kv, value_quads)?;
        let most = tilings.iter().map(|tiling| tiling.queries).max().unwrap_or(1);
        let n_shared = n_shared(self.gpu, self.config, step, most * buffers.len());
        let grid = AttendGrid {
            n_heads: layer.n_kv_heads * heads_per_kv,
            heads_per_kv,
            n_kv_heads: layer.n_kv_heads,
            most_kv_heads: buffers.iter().map(|kv| kv.heads.len()).max().unwrap_or(0),
            window: step.window.map(|window| window as usize),
            tilings: tilings.clone(),
            n_shared,
        };
        require_grid(self.config, heads_per_kv, most)?;
        let mut constants = self.kv_constants(layer);
        constants.extend([
            ("n_heads", count(step.n_heads)),
            ("heads_per_kv", count(heads_per_kv)),
            ("q_row_width", count(self.width(step.q))),
            ("out_row_width", count(self.width(step.out))),
            ("scale", step.scale.into()),
            ("softcap", step.softcap.unwrap_or(0.0).into()),
            ("window", step.window.unwrap_or(0).into()),
            ("chunked", flag(step.chunked)),
            ("causal", flag(step.causal)),
            ("has_sinks", flag(step.sinks.is_some())),
            ("has_slopes", flag(step.alibi_max_bias.is_some())),
        ]);
        let terms = self.attend_terms(step)?;
        let shares = self.scratch(SHARES, &[n_shared + 1, share_len(value_quads)])?;
        let (q, out) = (self.slot(step.q), self.slot(step.out));
        let kernel = of_type(self.config.kv.ty, &ATTEND_F32, &ATTEND_F16)?;
        let of_buffer = |kv: &KvBuffer| {
            let variants = tilings.iter().map(|tiling| {
                let mut constants = constants.clone();
                constants.extend(head_constants(kv));
                constants.extend([
                    ("tile", count(tiling.queries)),
                    ("per_thread", count(tiling.per_thread)),
                    ("tile_keys", count(tiling.keys)),
                    ("piece", count(tiling.piece)),
                ]);
                self.gpu.pipelines.pipeline(self.gpu, kernel, &constants)
            });
            let operands = [q, &kv.buffer, &terms, &shares, out];
            Dispatch {
                variants: variants.collect(),
                bind_group: self.gpu.pipelines.bind(self.gpu, kernel, &operands),
                grid: Grid::Attend(AttendGrid { n_kv_heads: kv.heads.len(), ..grid.clone() }),
                sites: Vec::new(),
            }
        };
        let mut dispatches: Vec<_> = buffers.iter().map(of_buffer).collect();
        let constants = vec![
            ("n_heads", count(step.n_heads)),
            ("value_width", count(layer.value_width)),
            ("value_quads", count(value_quads)),
            ("out_row_width", count(self.width(step.out))),
            ("has_sinks", flag(step.sinks.is_some())),
        ];
        dispatches.push(Dispatch {
            variants: vec![self.gpu.pipelines.pipeline(self.gpu, &ATTEND_MERGE, &constants)],
            bind_group: self.gpu.pipelines.bind(self.gpu, &ATTEND_MERGE, &[&terms, &shares, out]),
            grid: Grid::AttendMerge(grid),
            sites: Vec::new(),
        });
        Ok(dispatches)
    }

    /// A layer of the cache and the buffers that its heads lie in. The program was checked
    /// against the cache's layers before.
    fn kv_layer(&self, index: usize) -> (KvLayer, &'a [KvBuffer]) {
        (self.config.kv.layers[index], &self.memory.kv[index])
    }

    /// Per head its slope and its sink, in one buffer.
    fn attend_terms(&self, step: &Attend) -> Result<wgpu::Buffer> {
        if step.sinks.is_none() && step.alibi_max_bias.is_none() {
            return Ok(self.gpu.nothing.clone());
        }
        let sinks = match step.sinks {
            Some(sinks) => self.vector_values(sinks, step.n_heads, "Attend")?,
            None => vec![0.0; step.n_heads],
        };
        let slope = |head| step.alibi_max_bias.map_or(0.0, |max| slope(head, step.n_heads, max));
        let terms: Vec<[f32; 2]> =
            sinks.into_iter().enumerate().map(|(head, sink)| [slope(head), sink]).collect();
        self.gpu.constant("terms of heads", cast_slice(&terms))
    }

    /// The norm of a query head, then that of a key head, in one buffer.
    fn head_norm(&self, norm: Option<&HeadNorm>, width: usize) -> Result<wgpu::Buffer> {
        let Some(norm) = norm else { return Ok(self.gpu.nothing.clone()) };
        let values = |weight: WeightRef| self.vector_values(weight, width, "RopeStore");
        let values = [values(norm.q_weight)?, values(norm.k_weight)?].concat();
        self.gpu.constant("head norm", cast_slice(&values))
    }

    fn angles(&mut self, rope: Option<&RopeSpec>) -> Result<wgpu::Buffer> {
        let Some(rope) = rope else { return Ok(self.gpu.nothing.clone()) };
        if let Some((_, buffer)) = self.angles.iter().find(|(other, _)| is_same_table(other, rope))
        {
            return Ok(buffer.clone());
        }
        let buffer = self.gpu.constant("rope angles", cast_slice(&rope::angles(rope)))?;
        self.angles.push((rope.clone(), buffer.clone()));
        Ok(buffer)
    }

    fn kv_constants(&self, layer: KvLayer) -> Constants {
        vec![
            ("page_tokens", count(self.config.kv.page_tokens)),
            ("key_width", count(layer.key_width)),
            ("value_width", count(layer.value_width)),
            ("key_quads", count(layer.key_width.div_ceil(QUAD))),
            ("value_quads", count(layer.value_width.div_ceil(QUAD))),
        ]
    }
}

/// Whether two rotations have the same table of angles.
pub(crate) fn is_same_table(a: &RopeSpec, b: &RopeSpec) -> bool {
    a.inverse_frequencies == b.inverse_frequencies && a.magnitude == b.magnitude
}

/// Values of a share: a head's sums, with their largest score and the sum of the weights.
fn share_len(value_quads: usize) -> usize {
    QUAD * (value_quads + 1)
}

/// Heads of rows times shares that there is memory for, where the dispatches' tiles have at most
/// so many queries.
fn n_shared(gpu: &Gpu, config: &SessionConfig, step: &Attend, most_queries: usize) -> usize {
    let value_quads = config.kv.layers[step.kv_layer].value_width.div_ceil(QUAD);
    let n_positions = config.kv.n_pages.saturating_mul(config.kv.page_tokens);
    // Shares that the positions of the whole cache make.
    let longest = n_positions.div_ceil(2 * TILINGS[TILINGS.len() - 1].keys);
    // Several shares are made for at most so many workgroups of each dispatch.
    let wanted =
        (BUSY_GROUPS * most_queries).min((config.max_rows * step.n_heads).saturating_mul(longest));
    let share_bytes = 4 * share_len(value_quads) as u64;
    let n_fitting = (gpu.max_binding_bytes / share_bytes).saturating_sub(1);
    wanted.min(usize::try_from(n_fitting).unwrap_or(usize::MAX))
}

/// That tiles of at most so many queries make a grid of a batch's rows.
///
/// # Errors
/// `Unsupported` for too many rows.
fn require_grid(config: &SessionConfig, heads_per_kv: usize, most_queries: usize) -> Result<()> {
    let n_rows = config.max_rows;
    match n_rows.saturating_mul(heads_per_kv).div_ceil(most_queries) > MAX_GRID {
        true => Err(refuse(format!("attention of {n_rows} rows at {heads_per_kv} heads each"))),
        false => Ok(()),
    }
}

/// Dimensions of the memory for shares, where keys and values lie in so many buffers.
///
/// # Errors
/// `Unsupported` for values that are too wide, and for too many rows.
pub(crate) fn shares(
    gpu: &Gpu,
    config: &SessionConfig,
    step: &Attend,
    n_buffers: usize,
) -> Result<[usize; 2]> {
    let layer = config.kv.layers[step.kv_layer];
    let value_quads = layer.value_width.div_ceil(QUAD);
    let heads_per_kv = step.n_heads / layer.n_kv_heads;
    let tilings = tilings(heads_per_kv, value_quads)?;
    let most = tilings.iter().map(|tiling| tiling.queries).max().unwrap_or(1);
    require_grid(config, heads_per_kv, most)?;
    Ok([n_shared(gpu, config, step, most * n_buffers) + 1, share_len(value_quads)])
}

/// Which of a layer's heads a dispatch is for.
fn head_constants(kv: &KvBuffer) -> [(&'static str, f64); 2] {
    [("n_kv_heads", count(kv.heads.len())), ("first_kv_head", count(kv.heads.start))]
}

/// For one row of a sequence, and for many.
fn tilings(heads_per_kv: usize, value_quads: usize) -> Result<Vec<Tiling>> {
    let fitting = TILINGS.iter().filter(|tiling| tiling.fits(value_quads));
    let Some(many) = fitting.clone().next_back() else {
        let width = value_quads * QUAD;
        return Err(refuse(format!("attention to values of {width} columns")));
    };
    let one = fitting.clone().find(|tiling| tiling.queries >= heads_per_kv).unwrap_or(many);
    Ok(if one == many { vec![*many] } else { vec![*one, *many] })
}

/// How much a head's score falls per position of distance: a geometric series over the
/// largest power of two of heads, then every other term of the next one.
fn slope(head: usize, n_heads: usize, max_bias: f32) -> f32 {
    let n = 1 << n_heads.ilog2();
    let (n, index) = if head < n { (n, head + 1) } else { (2 * n, 2 * (head - n) + 1) };
    (-f64::from(max_bias) * index as f64 / n as f64).exp2() as f32
}

fn rope_constants(rope: Option<&RopeSpec>) -> Constants {
    let (offset, n_dims) = rope.map_or((0, 0), |rope| (rope.offset, rope.n_dims()));
    vec![
        ("n_dims", count(n_dims)),
        ("rope_offset", count(offset)),
        ("interleaved", flag(rope.is_some_and(|rope| rope.style == RopeStyle::Interleaved))),
    ]
}
