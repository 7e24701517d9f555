//! Embedding rows and matrix products.

use std::ops::RangeInclusive;

use bytemuck::cast_slice;
use realm_gguf::TensorData;
use realm_ir::{Embed, HeadLinear, Linear, LinearOutput, Result, Rows, WeightRef};

use super::addition::Site;
use super::{Dispatch, Grid, Planner, RowsGrid, at_least, count, expect};
use crate::gpu::Gpu;
use crate::kernel::{HEAD_REST, QUANTIZE, THREADS};
use crate::product::embed::{EmbedKernel, Source};
use crate::product::source::TILE_ROWS;
use crate::product::{
    Arithmetic, Flags, MOST_OUTS, Operands, Parameters, Places, ProductKernel, Tuning, Work,
    n_groups,
};
use crate::weight::{self, GROUP, Part, Values, Weight};

/// What a workgroup makes, by the rows of a batch: while generating and while reading.
const WORKS: [(RangeInclusive<usize>, Work); 4] = [
    (1..=1, Work::Vector(1)),
    (2..=8, Work::Vector(4)),
    (9..=32, Work::Matrix(32)),
    (33..=usize::MAX, Work::Matrix(64)),
];

/// Rows from which on the choices of an expert are put together.
pub(super) const FEWEST_TILED: usize = 9;

/// The same for experts, each of which has few rows however long a batch.
pub(super) const EXPERT_WORKS: [(RangeInclusive<usize>, Places, Work); 2] = [
    (1..=FEWEST_TILED - 1, Places::Choices, Work::Vector(1)),
    (FEWEST_TILED..=usize::MAX, Places::Tiles, Work::Matrix(TILE_ROWS)),
];

/// A matrix for each head.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub n_heads: usize,
    /// Values of a head in a row of the input and of the result.
    pub in_step: usize,
    pub out_step: usize,
}

/// A matrix for each expert.
#[derive(Clone, Copy)]
pub(super) struct Experts<'a> {
    pub n_experts: usize,
    /// Choices of a row.
    pub n_used: usize,
    /// First row of an expert's matrix that is used, and how many are.
    pub first_row: usize,
    pub n_columns: usize,
    /// Rows of the input are those of the batch, not choices.
    pub of_rows: bool,
    pub weigh_input: bool,
    /// Factor per expert.
    pub scale: Option<WeightRef>,
    /// `[rows, n_used]` both.
    pub choices: &'a wgpu::Buffer,
    pub weights: &'a wgpu::Buffer,
    /// The list that `group_choices.wgsl` makes.
    pub tiles: &'a wgpu::Buffer,
}

/// A product whose operands need not be slots.
pub(super) struct Product<'a> {
    pub weight: &'a Weight,
    /// The weight as adapters name it, where they may add to the result.
    pub target: Option<WeightRef>,
    pub bias: Option<WeightRef>,
    pub input: &'a wgpu::Buffer,
    /// Values per row.
    pub in_stride: usize,
    pub out: &'a wgpu::Buffer,
    /// Values per row.
    pub out_stride: usize,
    pub rows: Rows,
    pub scale: f32,
    pub accumulate: bool,
    pub step: &'static str,
    /// In f32, whatever else the device would be faster with.
    pub exact: bool,
}

impl Product<'_> {
    /// Whether one dispatch can make this beside others, whose matrices lie before its own.
    fn joins(&self, others: &[Self]) -> bool {
        others.len() < MOST_OUTS
            && others.last().is_some_and(|last| {
                last.weight.goes_on_with(self.weight)
                    && [last, self].iter().all(|product| !product.accumulate)
                    && (last.rows, last.scale) == (self.rows, self.scale)
            })
    }
}

impl Planner<'_> {
    pub(super) fn embed(&mut self, step: &Embed) -> Result<Vec<Dispatch>> {
        let (rows, out) = (self.rows(step.out), self.slot(step.out));
        let out = (out, self.width(step.out));
        let weights = self.weights;
        let table = &weights[step.table.0];
        let mut dispatches = self.look_up(table, out, rows, Source::Token, step.scale)?;
        if let Some(last) = dispatches.last_mut() {
            last.sites = vec![Site::of_lookup(step.table, out, rows, step.scale)];
        }
        let others = [(step.positions, Source::Position), (step.constant, Source::First)];
        for (table, source) in others {
            if let Some(table) = table {
                let table = &weights[table.0];
                dispatches.extend(self.look_up(table, out, rows, source, 1.0)?);
            }
        }
        Ok(dispatches)
    }

    /// Rows of a table, a dispatch for each part of it. The first table's replace what is there.
    pub(super) fn look_up(
        &mut self,
        table: &Weight,
        (out, out_width): (&wgpu::Buffer, usize),
        rows: Rows,
        source: Source,
        scale: f32,
    ) -> Result<Vec<Dispatch>> {
        at_least("embedding", out_width, table.width)?;
        let kernel = EmbedKernel { format: table.format, any_width: any_width(table), source };
        let mut dispatches = Vec::new();
        for part in &table.parts {
            let parameters = Parameters {
                first_matrix: part.rows.start as u32,
                matrix_rows: table.n_rows as u32,
                out_stride: out_width as u32,
                scale,
                flags: Flags::of(&[(Flags::ACCUMULATE, source != Source::Token)]),
                ..Parameters::of(table, part)
            };
            let products = &self.gpu.products;
            let n_threads = 4 * n_groups(table.width);
            let grid = RowsGrid::new(n_threads.div_ceil(THREADS), rows);
            dispatches.push(Dispatch {
                variants: vec![products.embed(self.gpu, kernel)],
                bind_group: products.bind_embed(self.gpu, &part.buffer, out, &parameters)?,
                grid: Grid::PerRow(grid),
                sites: Vec::new(),
            });
        }
        Ok(dispatches)
    }

    pub(super) fn linear(&mut self, step: &Linear) -> Result<Vec<Dispatch>> {
        let weights = self.weights;
        let product = |output: &LinearOutput| Product {
            weight: &weights[output.weight.0],
            target: Some(output.weight),
            bias: output.bias,
            input: self.slot(step.input),
            in_stride: self.width(step.input),
            out: self.slot(output.out),
            out_stride: self.width(output.out),
            rows: self.rows(output.out),
            scale: output.scale,
            accumulate: output.accumulate,
            step: "Linear",
            exact: false,
        };
        let mut products: Vec<_> = step.outputs.iter().map(product).collect();
        // As they lie in their buffers, which keeps those in one buffer next to each other.
        products.sort_by_key(|product| product.weight.parts[0].first_row);
        let mut groups: Vec<Vec<Product<'_>>> = Vec::new();
        for product in products {
            match groups.iter_mut().find(|group| product.joins(group)) {
                Some(group) => group.push(product),
                None => groups.push(vec![product]),
            }
        }
        let mut dispatches = Vec::new();
        let mut rounded = None;
        for group in groups {
            dispatches.extend(self.products(&group, &mut rounded)?);
        }
        Ok(dispatches)
    }

    pub(super) fn head_linear(&mut self, step: &HeadLinear) -> Result<Vec<Dispatch>> {
        let (in_stride, out_stride) = (self.width(step.input), self.width(step.out));
        let heads = Heads {
            n_heads: step.n_heads,
            in_step: step.in_width + step.rest,
            out_step: step.out_width + step.rest,
        };
        let product = Product {
            weight: &self.weights[step.weight.0],
            target: None,
            bias: None,
            input: self.slot(step.input),
            in_stride,
            out: self.slot(step.out),
            out_stride,
            rows: self.rows(step.out),
            scale: 1.0,
            accumulate: false,
            step: "HeadLinear",
            exact: false,
        };
        let mut dispatches = self.head_products(&product, heads)?;
        if step.rest > 0 {
            let constants = vec![
                ("n_heads", count(step.n_heads)),
                ("rest", count(step.rest)),
                ("in_head", count(heads.in_step)),
                ("out_head", count(heads.out_step)),
                ("in_stride", count(in_stride)),
                ("out_stride", count(out_stride)),
            ];
            let operands = [self.slot(step.input), self.slot(step.out)];
            let n_groups = (step.n_heads * step.rest).div_ceil(THREADS);
            dispatches.push(self.rowwise(&HEAD_REST, &constants, &operands, n_groups, step.out));
        }
        Ok(dispatches)
    }

    /// The dispatches of products of one input with a matrix each. `rounded` is the input in int8,
    /// once it has been needed. Of few rows one dispatch makes all products; with many rows there is
    /// nothing to be gained.
    pub(super) fn products(
        &mut self,
        products: &[Product<'_>],
        rounded: &mut Option<wgpu::Buffer>,
    ) -> Result<Vec<Dispatch>> {
        let Some(first) = products.first() else { return Ok(Vec::new()) };
        let any_width = any_width(first.weight) || !first.in_stride.is_multiple_of(4);
        let places = |work: &Work| match work {
            Work::Vector(_) if products.len() > 1 => Places::SideBySide,
            _ => Places::Dense,
        };
        let works = self.works(first.rows).map(|(when, work)| (when, places(&work), work));
        let kernels = self.kernels(first, any_width, works);
        let mut dispatches = self.round(first, &kernels, 1, rounded)?;
        let (together, alone): (Vec<_>, Vec<_>) =
            kernels.into_iter().partition(|(_, kernel)| kernel.places == Places::SideBySide);
        if !together.is_empty() {
            dispatches.extend(self.side_by_side(products, &together, rounded)?);
        }
        for product in products {
            dispatches.extend(self.product(product, &alone, rounded)?);
        }
        if let Some(last) = dispatches.last_mut() {
            last.sites = products.iter().filter_map(|own| Site::of_product(own, None)).collect();
        }
        Ok(dispatches)
    }

    fn product(
        &mut self,
        product: &Product<'_>,
        kernels: &[(RangeInclusive<usize>, ProductKernel)],
        rounded: &Option<wgpu::Buffer>,
    ) -> Result<Vec<Dispatch>> {
        let weight = product.weight;
        let bias = self.vector(product.bias, weight.n_rows, product.step)?;
        let mut dispatches = Vec::new();
        for part in &weight.parts {
            let parameters = Parameters {
                first_column: part.rows.start as u32,
                flags: self.flags(product),
                ..self.parameters(product, part)
            };
            for (when, kernel) in kernels {
                let grid = dense_grid(part.rows.len(), product.rows, when, kernel);
                let operands = Operands {
                    weight: &part.buffer,
                    bias: &bias,
                    input: product.input,
                    out: product.out,
                    more: Vec::new(),
                };
                dispatches.push(self.run(*kernel, operands, parameters, grid, rounded)?);
            }
        }
        Ok(dispatches)
    }

    /// The dispatches of products whose matrices follow each other in one buffer.
    fn side_by_side(
        &mut self,
        products: &[Product<'_>],
        kernels: &[(RangeInclusive<usize>, ProductKernel)],
        rounded: &Option<wgpu::Buffer>,
    ) -> Result<Vec<Dispatch>> {
        let (first, part) = (&products[0], &products[0].weight.parts[0]);
        let ends = products.iter().scan(0, |end, product| {
            *end += product.weight.n_rows;
            Some(*end)
        });
        let ends: Vec<_> = ends.collect();
        let n_columns = ends[products.len() - 1];
        let mut biases = Vec::new();
        for (product, end) in products.iter().zip(&ends) {
            if let Some(bias) = product.bias {
                biases.extend(self.vector_values(bias, product.weight.n_rows, product.step)?);
            }
            // Zeros where one of them has none.
            biases.resize(*end, 0.0);
        }
        let has_bias = products.iter().any(|product| product.bias.is_some());
        let bias = match has_bias {
            true => self.gpu.constant("biases", cast_slice(&biases))?,
            false => self.gpu.nothing.clone(),
        };
        let third = products.get(2);
        let parameters = Parameters {
            n_columns: n_columns as u32,
            second_at: ends[0] as u32,
            third_at: ends[1] as u32,
            second_stride: products[1].out_stride as u32,
            third_stride: third.map_or(0, |third| third.out_stride as u32),
            flags: self.flags(first) | Flags::of(&[(Flags::HAS_BIAS, has_bias)]),
            ..self.parameters(first, part)
        };
        let mut dispatches = Vec::new();
        for (when, kernel) in kernels {
            let grid = dense_grid(n_columns, first.rows, when, kernel);
            let operands = Operands {
                weight: &part.buffer,
                bias: &bias,
                input: first.input,
                out: first.out,
                more: vec![products[1].out, third.map_or(&self.gpu.nowhere, |third| third.out)],
            };
            dispatches.push(self.run(*kernel, operands, parameters, grid, rounded)?);
        }
        Ok(dispatches)
    }

    /// The dispatches of products with a matrix for each head, which are never in int8.
    fn head_products(&mut self, product: &Product<'_>, heads: Heads) -> Result<Vec<Dispatch>> {
        let weight = product.weight;
        at_least("heads with a matrix each", heads.n_heads, 1)?;
        let n_columns = weight.n_rows / heads.n_heads;
        let strides = [product.in_stride, heads.in_step];
        let any_width = any_width(weight) || strides.iter().any(|stride| !stride.is_multiple_of(4));
        let works = self.works(product.rows).map(|(when, work)| (when, Places::Heads, work));
        let kernels = self.kernels(product, any_width, works);
        let mut dispatches = Vec::new();
        for part in &weight.parts {
            let parameters = Parameters {
                n_columns: n_columns as u32,
                matrix_rows: n_columns as u32,
                n_matrices: (part.rows.len() / n_columns) as u32,
                first_matrix: (part.rows.start / n_columns) as u32,
                in_step: heads.in_step as u32,
                out_step: heads.out_step as u32,
                ..self.parameters(product, part)
            };
            for (when, kernel) in &kernels {
                let grid = RowsGrid {
                    n_groups: n_columns.div_ceil(kernel.work.n_columns()),
                    rows: product.rows,
                    when: when.clone(),
                    row_items: 1,
                    group_items: kernel.work.n_rows(),
                    more: 0,
                    depth: part.rows.len() / n_columns,
                };
                let operands = Operands {
                    weight: &part.buffer,
                    bias: &self.gpu.nothing,
                    input: product.input,
                    out: product.out,
                    more: Vec::new(),
                };
                dispatches.push(self.run(*kernel, operands, parameters, grid, &None)?);
            }
        }
        Ok(dispatches)
    }

    /// The dispatches of products with the matrices of the experts that each row has chosen;
    /// results have a row per choice.
    pub(super) fn expert_products(
        &mut self,
        product: &Product<'_>,
        experts: &Experts<'_>,
        works: &[(RangeInclusive<usize>, Places, Work)],
        rounded: &mut Option<wgpu::Buffer>,
    ) -> Result<Vec<Dispatch>> {
        let weight = product.weight;
        at_least(&weight.name, product.in_stride, weight.width)?;
        let matrix_rows = weight.n_rows / experts.n_experts;
        expect(&weight.name, weight.n_rows, experts.n_experts * matrix_rows)?;
        at_least(&weight.name, matrix_rows, experts.first_row + experts.n_columns)?;
        let n_biases = experts.n_experts * experts.n_columns;
        let bias = self.vector(product.bias, n_biases, product.step)?;
        let scales = self.vector(experts.scale, experts.n_experts, product.step)?;
        let any_width = any_width(weight) || !product.in_stride.is_multiple_of(4);
        let kernels = self.kernels(product, any_width, works.iter().cloned());
        let input_items = if experts.of_rows { 1 } else { experts.n_used };
        let mut dispatches = self.round(product, &kernels, input_items, rounded)?;
        for part in &weight.parts {
            // The only matrix, as an adapter has it, may be in several parts.
            let is_split = experts.n_experts == 1 && weight.parts.len() > 1;
            let own_rows = if is_split { part.rows.len() } else { matrix_rows };
            let columns = if is_split { part.rows.clone() } else { 0..experts.n_columns };
            let parameters = Parameters {
                n_columns: columns.len() as u32,
                first_column: columns.start as u32,
                matrix_rows: own_rows as u32,
                first_row: (part.first_row + experts.first_row) as u32,
                n_matrices: (part.rows.len() / own_rows) as u32,
                first_matrix: if is_split { 0 } else { (part.rows.start / matrix_rows) as u32 },
                outputs_per_input: if experts.of_rows { experts.n_used as u32 } else { 1 },
                flags: self.flags(product)
                    | Flags::of(&[
                        (Flags::HAS_MATRIX_SCALE, experts.scale.is_some()),
                        (Flags::WEIGH_INPUT, experts.weigh_input),
                    ]),
                ..self.parameters(product, part)
            };
            for (when, kernel) in &kernels {
                let is_tiled = kernel.places == Places::Tiles;
                let grid = RowsGrid {
                    n_groups: columns.len().div_ceil(kernel.work.n_columns()),
                    rows: product.rows,
                    when: when.clone(),
                    row_items: experts.n_used,
                    group_items: kernel.work.n_rows(),
                    // The last tile of each expert may not be full.
                    more: if is_tiled { experts.n_experts } else { 0 },
                    depth: 1,
                };
                let listed = if is_tiled { experts.tiles } else { experts.choices };
                let operands = Operands {
                    weight: &part.buffer,
                    bias: &bias,
                    input: product.input,
                    out: product.out,
                    more: vec![experts.weights, &scales, listed],
                };
                dispatches.push(self.run(*kernel, operands, parameters, grid, rounded)?);
            }
        }
        if let Some(last) = dispatches.last_mut() {
            last.sites = Site::of_product(product, Some(experts)).into_iter().collect();
        }
        Ok(dispatches)
    }

    /// Those of [`WORKS`] that a slot has rows for. Software takes long to compile the largest
    /// tiles and is not faster with them.
    fn works(&self, rows: Rows) -> impl Iterator<Item = (RangeInclusive<usize>, Work)> + use<> {
        let most = super::max_rows(rows, self.config);
        let n_works = if self.gpu.description.software { WORKS.len() - 1 } else { WORKS.len() };
        let works = WORKS.into_iter().take(n_works).enumerate();
        let last_goes_on = move |(index, (when, work)): (usize, (RangeInclusive<usize>, Work))| {
            let end = if index + 1 == n_works { usize::MAX } else { *when.end() };
            (*when.start()..=end, work)
        };
        works.map(last_goes_on).filter(move |(when, _)| *when.start() <= most)
    }

    fn kernels(
        &mut self,
        product: &Product<'_>,
        any_width: bool,
        works: impl IntoIterator<Item = (RangeInclusive<usize>, Places, Work)>,
    ) -> Vec<(RangeInclusive<usize>, ProductKernel)> {
        let tuning = if product.exact { Tuning::default() } else { self.gpu.tuning };
        let kernel = |(when, places, work)| {
            (when, ProductKernel::choose(&tuning, product.weight.format, places, work, any_width))
        };
        works.into_iter().map(kernel).collect()
    }

    fn parameters(&self, product: &Product<'_>, part: &Part) -> Parameters {
        Parameters {
            in_stride: product.in_stride as u32,
            out_stride: product.out_stride as u32,
            scale: product.scale,
            ..Parameters::of(product.weight, part)
        }
    }

    fn flags(&self, product: &Product<'_>) -> u32 {
        Flags::of(&[
            (Flags::HAS_BIAS, product.bias.is_some()),
            (Flags::ACCUMULATE, product.accumulate),
            (Flags::OF_OUTPUTS, product.rows == Rows::Outputs),
        ])
    }

    /// Rounds the input to int8 for those of `kernels` that take it so, unless it has been.
    fn round(
        &mut self,
        product: &Product<'_>,
        kernels: &[(RangeInclusive<usize>, ProductKernel)],
        row_items: usize,
        rounded: &mut Option<wgpu::Buffer>,
    ) -> Result<Vec<Dispatch>> {
        let takes_int8 = |kernel: &ProductKernel| kernel.arithmetic == Arithmetic::Int8;
        let mut wanted = kernels.iter().filter(|(_, kernel)| takes_int8(kernel));
        let (Some((first, _)), None) = (wanted.next(), &rounded) else { return Ok(Vec::new()) };
        let last = wanted.next_back().map_or(first, |(when, _)| when);
        let n_groups = n_groups(product.weight.width);
        let n_items = row_items * super::max_rows(product.rows, self.config);
        let buffer = self.scratch(ROUNDED, &rounded_words(product.weight.width, n_items))?;
        let constants = vec![("n_groups", count(n_groups)), ("stride", count(product.in_stride))];
        let grid = RowsGrid {
            when: *first.start()..=*last.end(),
            row_items,
            ..RowsGrid::new(n_groups.div_ceil(THREADS), product.rows)
        };
        let operands = [product.input, &buffer];
        let dispatch = self.with_grid(&QUANTIZE, &constants, &operands, Grid::PerRow(grid));
        *rounded = Some(buffer);
        Ok(vec![dispatch])
    }

    fn run<'b>(
        &mut self,
        kernel: ProductKernel,
        mut operands: Operands<'b>,
        mut parameters: Parameters,
        grid: RowsGrid,
        rounded: &'b Option<wgpu::Buffer>,
    ) -> Result<Dispatch> {
        if let (Arithmetic::Int8, Some(rounded)) = (kernel.arithmetic, rounded) {
            operands.input = rounded;
            parameters.in_stride = parameters.n_groups * GROUP as u32;
        }
        self.kernels.insert(kernel);
        let products = &self.gpu.products;
        Ok(Dispatch {
            variants: vec![products.pipeline(self.gpu, kernel)],
            bind_group: products.bind(self.gpu, &kernel, &operands, &parameters)?,
            grid: Grid::PerRow(grid),
            sites: Vec::new(),
        })
    }
}

/// The grid of a matrix, or several, for all rows.
fn dense_grid(
    n_columns: usize,
    rows: Rows,
    when: &RangeInclusive<usize>,
    kernel: &ProductKernel,
) -> RowsGrid {
    RowsGrid {
        when: when.clone(),
        group_items: kernel.work.n_rows(),
        ..RowsGrid::new(n_columns.div_ceil(kernel.work.n_columns()), rows)
    }
}

/// Words of a group of inputs in int8: `shaders/linear/packed.wgsl`.
const QUANTIZED_WORDS: usize = 12;

/// What products of one input in int8 share.
pub(crate) const ROUNDED: &str = "inputs in int8";

/// Dimensions of `n_items` rows of inputs in int8, in words.
pub(crate) fn rounded_words(width: usize, n_items: usize) -> [usize; 3] {
    [QUANTIZED_WORDS, n_groups(width), n_items]
}

/// Whether products with a weight, of rows that are `in_stride` apart and of which there are at
/// most `n_rows`, take them in int8.
pub(crate) fn takes_int8(
    gpu: &Gpu,
    tensor: &TensorData,
    in_stride: usize,
    n_rows: usize,
    is_of_experts: bool,
) -> bool {
    let Some(format) = weight::format(tensor.ty()).filter(|_| tensor.n_rows() > 1) else {
        return false;
    };
    let any_width = !in_stride.is_multiple_of(4);
    let places = if is_of_experts { Places::Tiles } else { Places::Dense };
    // All works of one kind take the same numbers.
    let works = [(1, Work::Vector(1)), (FEWEST_TILED, Work::Matrix(TILE_ROWS))];
    works.into_iter().filter(|(fewest, _)| *fewest <= n_rows).any(|(_, work)| {
        let kernel = ProductKernel::choose(&gpu.tuning, format, places, work, any_width);
        kernel.arithmetic == Arithmetic::Int8
    })
}

/// Whether rows of a weight are not whole groups.
fn any_width(weight: &Weight) -> bool {
    matches!(weight.format.values, Values::Floats(_)) && !weight.width.is_multiple_of(GROUP)
}
