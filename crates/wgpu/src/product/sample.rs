//! Small products with known answers.

use std::ops::Range;

use half::{bf16, f16};
use realm_gguf::TensorType;
use realm_ir::Result;
use realm_quant::Group;

use super::source::{TILE_WORDS, TILES_AT};
use super::{Arithmetic, Flags, Operands, Parameters, Places, ProductKernel, Work, n_groups};
use crate::gpu::{Gpu, word_bytes};
use crate::weight::{BLOCK_GROUPS, Format, GROUP, Quants, Scales, Values, pack};

/// Matrices of a sample with several; as many choices has each row of the input.
const N_MATRICES: usize = 2;

/// A product, its operands on the device, and what must come out of it.
pub(super) struct Sample {
    pub kernel: ProductKernel,
    pub bind_group: wgpu::BindGroup,
    /// Results, of so many values; the answers have one after another.
    pub outs: Vec<wgpu::Buffer>,
    pub out_values: Vec<usize>,
    /// Workgroups in x, y and z.
    pub grid: [u32; 3],
    pub batch: wgpu::Buffer,
    pub answers: Vec<f32>,
    /// How far results may be off, in parts of the answers' root of the mean square.
    pub tolerance: f32,
}

/// Numbers from -1 to 1 that are the same everywhere (Numerical Recipes' generator).
struct Numbers(u32);

impl Numbers {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn below(&mut self, n: u32) -> u32 {
        self.bits() % n
    }

    fn unit(&mut self) -> f32 {
        self.bits() as f32 / (1 << 23) as f32 - 1.0
    }

    fn units(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

impl Sample {
    /// A product with known answers.
    pub fn of(gpu: &Gpu, kernel: ProductKernel) -> Result<Self> {
        let problem = Problem::answerable(kernel);
        problem.upload(gpu, problem.answers())
    }

    /// A sample of a size, with any weights and no answers: to be timed.
    pub fn unanswered(
        gpu: &Gpu,
        kernel: ProductKernel,
        width: usize,
        n_columns: usize,
        n_rows: usize,
    ) -> Result<Self> {
        let mut problem = Problem::new(kernel, [width, n_columns, n_rows]);
        let n_values = problem.n_matrices * n_columns * width;
        let n_words = kernel.format.bytes(n_values as u64) / 4;
        let mut numbers = Numbers(2);
        problem.words = (0..n_words).map(|_| numbers.bits()).collect();
        problem.upload(gpu, Vec::new())
    }
}

/// The operands of a product.
struct Problem {
    kernel: ProductKernel,
    width: usize,
    n_columns: usize,
    n_rows: usize,
    n_matrices: usize,
    /// Rows of the result for each of the input, and all of them.
    per_input: usize,
    n_items: usize,
    in_stride: usize,
    /// Columns of each result.
    outs: Vec<Range<usize>>,
    /// The weight as it lies on the device, and its values.
    words: Vec<u32>,
    weights: Vec<f32>,
    /// The same of the input.
    input_words: Vec<u32>,
    inputs: Vec<f32>,
    bias: Vec<f32>,
    /// Of each matrix, and of each item.
    scales: Vec<f32>,
    factors: Vec<f32>,
    /// Matrix of each item.
    chosen: Vec<usize>,
    parameters: Parameters,
}

impl Problem {
    /// As large as it must be to go through all loops of `kernel` and leave a part of the last
    /// tile unused.
    fn answerable(kernel: ProductKernel) -> Self {
        let width = match (kernel.any_width, kernel.work) {
            (true, _) if kernel.format.ty == TensorType::F32 => 75,
            (_, Work::Vector(_)) => 768,
            (_, Work::Matrix(_)) => 256,
        };
        let n_columns = kernel.work.n_columns() + 1;
        let n_rows = match kernel.work.n_rows() {
            1 => 3,
            rows => rows + 2,
        };
        let mut problem = Problem::new(kernel, [width, n_columns, n_rows]);
        let n_weights = problem.n_matrices * n_columns * width;
        (problem.words, problem.weights) = weights(kernel.format, n_weights, &mut Numbers(2));
        problem
    }

    /// Of such a width, so many columns per matrix and rows of the input; without a weight.
    fn new(kernel: ProductKernel, [width, n_columns, n_rows]: [usize; 3]) -> Self {
        let mut numbers = Numbers(1);
        let is_one = matches!(kernel.places, Places::Dense | Places::SideBySide);
        let n_matrices = if is_one { 1 } else { N_MATRICES };
        let per_input = if kernel.has_choices() { N_MATRICES } else { 1 };
        let n_items = n_rows * per_input;
        let n_heads = if kernel.places == Places::Heads { N_MATRICES } else { 1 };
        let (in_stride, out_stride) = (n_heads * width, n_heads * n_columns);
        let mut inputs = numbers.units(n_rows * in_stride);
        let input_words = match kernel.arithmetic {
            Arithmetic::Int8 => rounded(&mut inputs),
            _ => inputs.iter().map(|value| value.to_bits()).collect(),
        };
        let mut parameters = parameters(kernel, width, n_columns, n_matrices * n_columns);
        parameters.in_stride = in_stride as u32;
        let mut bounds = vec![0, out_stride];
        if kernel.places == Places::SideBySide {
            // The last has one column, and the results are as wide as their columns.
            let [second, third] = [n_columns / 2, n_columns - 1];
            bounds = vec![0, second, third, n_columns];
            parameters.second_at = second as u32;
            parameters.third_at = third as u32;
            parameters.second_stride = (third - second) as u32;
            parameters.third_stride = 1;
        }
        let outs: Vec<_> = bounds.windows(2).map(|bounds| bounds[0]..bounds[1]).collect();
        parameters.out_stride = outs[0].len() as u32;
        if kernel.arithmetic == Arithmetic::Int8 {
            parameters.in_stride = (GROUP * n_groups(width)) as u32;
        }
        Problem {
            kernel,
            width,
            n_columns,
            n_rows,
            n_matrices,
            per_input,
            n_items,
            in_stride,
            outs,
            words: Vec::new(),
            weights: Vec::new(),
            input_words,
            inputs,
            bias: numbers.units(n_matrices * n_columns),
            scales: numbers.units(n_matrices),
            factors: numbers.units(n_items),
            chosen: (0..n_items).map(|item| (item + item / 3) % n_matrices).collect(),
            parameters,
        }
    }

    fn answers(&self) -> Vec<f32> {
        let of_out = |columns: &Range<usize>| {
            let columns = columns.clone();
            (0..self.n_items).flat_map(move |item| columns.clone().map(move |c| (item, c)))
        };
        let places = self.outs.iter().flat_map(of_out);
        places.map(|(item, column)| self.answer(item, column)).collect()
    }

    fn answer(&self, item: usize, column: usize) -> f32 {
        let (matrix, column, in_at) = match self.kernel.places {
            Places::Heads => {
                let head = column / self.n_columns;
                (head, column % self.n_columns, head * self.width)
            }
            _ => (self.chosen[item], column, 0),
        };
        let weight_row = matrix * self.n_columns + column;
        let weight = &self.weights[weight_row * self.width..][..self.width];
        let input = &self.inputs[item / self.per_input * self.in_stride + in_at..];
        let products = weight.iter().zip(input);
        let sum: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let mut answer = sum as f32;
        if self.kernel.has_choices() {
            answer *= self.scales[matrix] * self.factors[item];
        }
        if self.kernel.places != Places::Heads {
            answer += self.bias[weight_row];
        }
        self.parameters.scale * answer
    }

    /// The choices or tiles.
    fn listed(&self) -> Vec<u32> {
        match self.kernel.places {
            Places::Tiles => tiles(&self.chosen, self.kernel.work.n_rows()),
            _ => self.chosen.iter().map(|matrix| *matrix as u32).collect(),
        }
    }

    /// Workgroups in x, y and z.
    fn grid(&self) -> [u32; 3] {
        let rows_of_group = self.kernel.work.n_rows();
        let (y, z) = match self.kernel.places {
            Places::Dense | Places::SideBySide => (self.n_items.div_ceil(rows_of_group), 1),
            Places::Heads => (self.n_items.div_ceil(rows_of_group), N_MATRICES),
            Places::Choices => (self.n_items, 1),
            // One more than there are.
            Places::Tiles => (self.listed()[0] as usize + 1, 1),
        };
        [self.n_columns.div_ceil(self.kernel.work.n_columns()), y, z].map(|n| n as u32)
    }

    fn tolerance(&self) -> f32 {
        match self.kernel.arithmetic {
            Arithmetic::F32 | Arithmetic::Int8 => 2e-5,
            Arithmetic::F16 => 2e-2,
        }
    }

    /// The batch that all rows of the input are in.
    fn batch(&self) -> [u32; 4] {
        [self.n_rows as u32, self.n_rows as u32, 0, 0]
    }

    /// Values of each result.
    fn out_values(&self) -> Vec<usize> {
        self.outs.iter().map(|columns| self.n_items * columns.len()).collect()
    }

    fn upload(&self, gpu: &Gpu, answers: Vec<f32>) -> Result<Sample> {
        let kernel = self.kernel;
        let constant = |data: &[u32]| gpu.constant("sample", bytemuck::cast_slice(data));
        let constants = |data: &[f32]| gpu.constant("sample", bytemuck::cast_slice(data));
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let out_values = self.out_values();
        let out = |n_values: &usize| gpu.buffer("sample", word_bytes(&[*n_values]), usage);
        let outs = out_values.iter().map(out).collect::<Result<Vec<_>>>()?;
        let listed = constant(&self.listed())?;
        let choices = [constants(&self.factors)?, constants(&self.scales)?, listed];
        let operands = Operands {
            weight: &constant(&self.words)?,
            bias: &constants(&self.bias)?,
            input: &constant(&self.input_words)?,
            out: &outs[0],
            more: if kernel.has_choices() {
                choices.iter().collect()
            } else {
                outs[1..].iter().collect()
            },
        };
        let bind_group = gpu.products.bind(gpu, &kernel, &operands, &self.parameters)?;
        let (batch, grid, tolerance) = (constant(&self.batch())?, self.grid(), self.tolerance());
        Ok(Sample { kernel, bind_group, outs, out_values, grid, batch, answers, tolerance })
    }
}

fn parameters(
    kernel: ProductKernel,
    width: usize,
    n_columns: usize,
    n_weight_rows: usize,
) -> Parameters {
    let mut at = [0; 4];
    let words = kernel.format.plane_words((n_weight_rows * width) as u64);
    for plane in 0..3 {
        at[plane + 1] = at[plane] + words[plane] as u32;
    }
    let choices = kernel.has_choices();
    Parameters {
        width: width as u32,
        n_groups: n_groups(width) as u32,
        high_at: at[1],
        scales_at: at[2],
        blocks_at: at[3],
        n_columns: n_columns as u32,
        matrix_rows: n_columns as u32,
        n_matrices: N_MATRICES as u32,
        in_step: width as u32,
        out_step: n_columns as u32,
        outputs_per_input: if choices { N_MATRICES as u32 } else { 1 },
        scale: 0.5,
        flags: Flags::of(&[
            (Flags::HAS_BIAS, kernel.places != Places::Heads),
            (Flags::ACCUMULATE, true),
            (Flags::HAS_MATRIX_SCALE | Flags::WEIGH_INPUT, choices),
        ]),
        ..Parameters::default()
    }
}

/// What `group_choices.wgsl` would make of choices.
fn tiles(chosen: &[usize], n_rows: usize) -> Vec<u32> {
    let (mut tiles, mut order) = (Vec::new(), Vec::new());
    for matrix in 0..N_MATRICES {
        let items: Vec<_> = (0..chosen.len()).filter(|item| chosen[*item] == matrix).collect();
        for items in items.chunks(n_rows) {
            tiles.extend([matrix as u32, order.len() as u32, items.len() as u32]);
            order.extend(items.iter().map(|item| *item as u32));
        }
    }
    let n_tiles = tiles.len() / TILE_WORDS;
    let mut words = vec![n_tiles as u32, (TILES_AT + tiles.len()) as u32];
    words.extend(tiles);
    words.extend(order);
    words
}

/// Rounds values as `quantize.wgsl` does and gives its words.
fn rounded(values: &mut [f32]) -> Vec<u32> {
    let mut words = Vec::new();
    for group in values.chunks_exact_mut(GROUP) {
        let scale = group.iter().fold(0.0, |most: f32, value| most.max(value.abs())) / 127.0;
        let quants: Vec<i8> = group.iter().map(|value| (value / scale).round() as i8).collect();
        for (value, quant) in group.iter_mut().zip(&quants) {
            *value = scale * f32::from(*quant);
        }
        let four = |four: &[i8; 4]| u32::from_le_bytes(four.map(|quant| quant as u8));
        words.extend(quants.as_chunks().0.iter().map(four));
        let sum = |half: &[i8]| scale * half.iter().map(|q| f32::from(*q)).sum::<f32>();
        let numbers = [scale, sum(&quants[..16]), sum(&quants[16..]), 0.0];
        words.extend(numbers.map(f32::to_bits));
    }
    words
}

/// The words of `n` weights as a format has them, and their values.
fn weights(format: &Format, n: usize, numbers: &mut Numbers) -> (Vec<u32>, Vec<f32>) {
    let quants = match &format.values {
        Values::Quants(quants) => quants,
        Values::Floats(_) => return floats(format.ty, numbers.units(n)),
    };
    let mut groups: Vec<Group> = Vec::new();
    for index in 0..n / GROUP {
        let first_of_block = match index % BLOCK_GROUPS {
            0 => None,
            at if quants.scales.has_blocks() => Some(groups[index - at]),
            _ => None,
        };
        groups.push(group(quants, first_of_block, numbers));
    }
    let values = groups.iter().flat_map(|group| (0..GROUP).map(|i| group.value(i))).collect();
    (pack(quants, &groups), values)
}

fn floats(ty: TensorType, values: Vec<f32>) -> (Vec<u32>, Vec<f32>) {
    let two = |halves: Vec<u16>| -> Vec<u32> {
        let two = |two: &[u16]| u32::from(two[0]) | u32::from(two[1]) << 16;
        halves.chunks_exact(2).map(two).collect()
    };
    match ty {
        TensorType::F16 => {
            let halves: Vec<_> = values.iter().map(|value| f16::from_f32(*value)).collect();
            let values = halves.iter().map(|half| half.to_f32()).collect();
            (two(halves.iter().map(|half| half.to_bits()).collect()), values)
        }
        TensorType::BF16 => {
            let halves: Vec<_> = values.iter().map(|value| bf16::from_f32(*value)).collect();
            let values = halves.iter().map(|half| half.to_f32()).collect();
            (two(halves.iter().map(|half| half.to_bits()).collect()), values)
        }
        _ => (values.iter().map(|value| value.to_bits()).collect(), values),
    }
}

/// A group of any quants and scales that the format can have; blocks share `d` and `dmin`.
fn group(quants: &Quants, block: Option<Group>, numbers: &mut Numbers) -> Group {
    let n_levels = 1u32 << (quants.low_bits + quants.high_bits);
    let mut quant = || match quants.book {
        Some(book) => book[numbers.below(16) as usize],
        None if n_levels == 256 => numbers.below(256) as u8 as i8,
        None => (numbers.below(n_levels) as i32 - quants.offset) as i8,
    };
    let mut group = Group { quants: std::array::from_fn(|_| quant()), ..Group::default() };
    // Among the scales are some that are subnormal in f16, as real models have them.
    let mut half = || f16::from_f32(1e-4 * (1.01 + numbers.unit())).to_f32();
    let (d, dmin) = (half(), half());
    let second = half();
    (group.d, group.dmin) = ([quants.factor * d; 2], dmin);
    if let Some(block) = block {
        (group.d, group.dmin) = (block.d, block.dmin);
    }
    group.scales = [1; 2];
    match quants.scales {
        Scales::Half => group.dmin = 0.0,
        Scales::HalfAndMinimum => group.mins = [1; 2],
        Scales::Halves => (group.d[1], group.dmin) = (second, 0.0),
        Scales::Power => {
            group.d = [f32::from_bits((127 - numbers.below(12)) << 23); 2];
            group.dmin = 0.0;
        }
        Scales::Bytes => {
            group.scales = [(); 2].map(|()| numbers.below(256) as u8 as i8);
            group.dmin = 0.0;
        }
        Scales::BytesAndMinimums => {
            group.scales = [numbers.below(64) as i8; 2];
            group.mins = [numbers.below(64) as u8; 2];
        }
        Scales::NibblesAndMinimums => {
            group.scales = [(); 2].map(|()| numbers.below(16) as i8);
            group.mins = [(); 2].map(|()| numbers.below(16) as u8);
        }
    }
    group
}
