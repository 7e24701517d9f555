//! What the kernels reach on this machine, beside what it can read from memory.
//!
//! One thread. Every line says how many tokens share a multiplication (`n`), the
//! weights read and the operations done per second, best and median of the
//! samples. The weights are larger than the caches and used in turn, so that
//! n = 1 reads memory as decoding does. Activations are quantised beforehand.
//! Layouts: `mapped` is GGUF's own, `packed` has rows interleaved.
//!
//! `cargo bench -p realm-quant -- [tensor types] [n=TOKENS]...`, by default the common
//! types with the kernel that would be chosen; `REALM_CPU_FEATURES` chooses another.

#![expect(clippy::print_stdout, reason = "printing is what this program is for")]

use std::hint::black_box;
use std::time::Instant;

use realm_gguf::TensorType;
use realm_quant::{Activations, Format, Kernel};

/// Shape of the matrices: a feed-forward layer of a model of 1.1e9 parameters.
const COLS: usize = 2048;
const ROWS: usize = 5632;
/// Weights used in turn.
const WEIGHT_BYTES: usize = 512 << 20;
const SAMPLES: usize = 7;
const TOKENS: [usize; 6] = [1, 4, 8, 16, 64, 512];
const COMMON: [&str; 4] = ["Q4_0", "Q8_0", "Q4_K", "Q6_K"];

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    names.retain(|name| !name.starts_with('-'));
    let mut tokens: Vec<usize> =
        names.iter().filter_map(|name| name.strip_prefix("n=")?.parse().ok()).collect();
    if tokens.is_empty() {
        tokens = TOKENS.to_vec();
    }
    names.retain(|name| !name.starts_with("n="));
    if names.is_empty() {
        names = COMMON.map(String::from).to_vec();
    }
    println!("reading memory: {}", figures(&memory_gb_per_s(), "GB/s"));
    println!("{ROWS} rows of {COLS} values; best (median) of {SAMPLES}");
    let wanted = realm_quant::supported().filter(|ty| names.iter().any(|name| name == ty.name()));
    for format in wanted.filter_map(realm_quant::format) {
        bench_format(format, &tokens);
    }
}

fn bench_format(format: &'static Format, tokens: &[usize]) {
    let ty = format.ty;
    let matrix_bytes = matrix_bytes(ty);
    let weights = weights(ty, matrix_bytes, WEIGHT_BYTES.div_ceil(matrix_bytes));
    bench_kernel(format, format.kernel(), "mapped", &weights, tokens);
    if let Some(kernel) = format.packed_kernel() {
        // Arbitrary blocks are as arbitrary in any order.
        bench_kernel(format, kernel, "packed", &weights, tokens);
    }
}

fn matrix_bytes(ty: TensorType) -> usize {
    ROWS * COLS / ty.block_len() * ty.block_bytes()
}

fn bench_kernel(format: &Format, kernel: &Kernel, layout: &str, weights: &[u8], tokens: &[usize]) {
    let matrix_bytes = matrix_bytes(format.ty);
    for &n in tokens {
        let mut x = Activations::new();
        x.reset(format.activation, n, COLS).expect("rows are whole blocks");
        for row in 0..n {
            let values: Vec<f32> = (0..COLS).map(|i| ((i * 7 + row) % 23) as f32 - 11.0).collect();
            x.quantize_row(row, &values).expect("rows have COLS values");
        }
        let mut out = vec![0.0; n * ROWS];
        // About 1e10 operations, and all weights when there are few tokens.
        let matrices = (weights.len() / matrix_bytes).min(512usize.div_ceil(n));
        let seconds = sample(|| {
            for matrix in weights.chunks_exact(matrix_bytes).take(matrices) {
                multiply(kernel, matrix, &x, &mut out);
            }
        });
        let per_second = |amount: usize| {
            let amount = (amount * matrices) as f64 / 1e9;
            seconds.map(|seconds| amount / seconds)
        };
        println!(
            "{:<6} {:<11} {layout} n={n:<4} {}  {}",
            format.ty.name(),
            kernel.name,
            figures(&per_second(matrix_bytes), "GB/s"),
            figures(&per_second(2 * ROWS * COLS * n), "GOPS"),
        );
    }
}

fn multiply(kernel: &Kernel, weights: &[u8], x: &Activations, out: &mut [f32]) {
    let view = x.view(0..x.rows());
    kernel.matmul(weights, ROWS, COLS, view, out).expect("shapes agree");
    black_box(&out);
}

/// Matrices of arbitrary blocks; every scale in them is finite.
fn weights(ty: TensorType, matrix_bytes: usize, matrices: usize) -> Vec<u8> {
    // Bytes below 0x3c keep the exponent of any f16 or f32 in range.
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8 % 0x3c;
    let mut block: Vec<u8> = (0..matrix_bytes.min(ty.block_bytes() << 14)).map(byte).collect();
    if ty == TensorType::MXFP4 {
        // Powers of two near 1: numbers that are not normal would be slow.
        block.iter_mut().step_by(ty.block_bytes()).for_each(|exponent| *exponent |= 0x70);
    }
    block.iter().copied().cycle().take(matrix_bytes * matrices).collect()
}

/// Seconds of each sample, fastest first.
fn sample(mut work: impl FnMut()) -> [f64; SAMPLES] {
    work();
    let start = Instant::now();
    let mut seconds = [0.0; SAMPLES];
    for seconds in &mut seconds {
        let before = running_time(start);
        work();
        *seconds = running_time(start) - before;
    }
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// Seconds this thread has run; where the system does not say, seconds since `start`.
fn running_time(start: Instant) -> f64 {
    // The count is brought up to date when the scheduler runs.
    std::thread::yield_now();
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

/// Reads a gigabyte, asking for each cache line some time before it is used.
fn memory_gb_per_s() -> [f64; SAMPLES] {
    let memory = vec![1u64; 1 << 27];
    let (lines, _) = memory.as_chunks::<8>();
    let seconds = sample(|| {
        let mut sums = [0u64; 8];
        for line in lines {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch reads nothing; every x86-64 CPU has it.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().wrapping_add(1 << 10).cast());
            }
            for (sum, value) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(*value);
            }
        }
        black_box(sums);
    });
    seconds.map(|seconds| size_of_val(&memory[..]) as f64 / 1e9 / seconds)
}

fn figures(rates: &[f64; SAMPLES], unit: &str) -> String {
    format!("{:6.1} ({:6.1}) {unit}", rates[0], rates[SAMPLES / 2])
}
