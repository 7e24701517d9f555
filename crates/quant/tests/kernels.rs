//! Every kernel against the scalar definition, and that against f64.

use proptest::prelude::*;
use realm_gguf::TensorType;
#[cfg(not(target_family = "wasm"))]
use realm_quant::OutputView;
use realm_quant::{ActivationForm, Activations, Error, Format, Kernel, Level};

/// Sets every scale and minimum of a block to `value`, or near it where the
/// format's scales are not f16 numbers.
fn set_scales(ty: TensorType, block: &mut [u8], mut value: impl FnMut() -> f32) {
    let f16_at: &[usize] = match ty {
        TensorType::F16
        | TensorType::Q4_0
        | TensorType::Q5_0
        | TensorType::Q8_0
        | TensorType::Q1_0
        | TensorType::Q2_0
        | TensorType::IQ1_S
        | TensorType::IQ2_XXS
        | TensorType::IQ2_XS
        | TensorType::IQ2_S
        | TensorType::IQ3_XXS
        | TensorType::IQ3_S
        | TensorType::IQ4_NL
        | TensorType::IQ4_XS => &[0],
        TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4_K | TensorType::Q5_K => &[0, 2],
        TensorType::Q2_K => &[80, 82],
        TensorType::Q3_K => &[108],
        TensorType::Q6_K => &[208],
        TensorType::TQ1_0 => &[52],
        TensorType::TQ2_0 => &[64],
        TensorType::IQ1_M => {
            let bits = half::f16::from_f32(value()).to_bits();
            for (i, byte) in block[48..].iter_mut().skip(1).step_by(2).enumerate() {
                *byte = (*byte & 15) | ((bits >> (4 * i) & 15) as u8) << 4;
            }
            return;
        }
        TensorType::MXFP4 => {
            block[0] = (value().abs().log2() + 128.0) as u8;
            return;
        }
        TensorType::NVFP4 => {
            for byte in &mut block[..4] {
                // Seven bits below the sign, as in an f32 with another bias; not 0 unless asked.
                let value = value().abs();
                let bits = (value * f32::from_bits(8 << 23)).to_bits() >> 20;
                *byte = bits.clamp(u32::from(value > 0.0), 0x7f) as u8;
            }
            return;
        }
        TensorType::F32 | TensorType::BF16 => return,
        _ => panic!("say where the scales of {ty} are"),
    };
    for at in f16_at {
        block[*at..*at + 2].copy_from_slice(&half::f16::from_f32(value()).to_le_bytes());
    }
}

/// A small generator, so that a failing case is two numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as u32
    }

    /// Between -1 and 1.
    fn unit(&mut self) -> f32 {
        self.next() as f32 / (1u32 << 30) as f32 - 1.0
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit() * 4.0).collect()
    }

    /// Blocks of random bits with finite scales, some of them zero or denormal.
    fn weights(&mut self, ty: TensorType, values: usize) -> Vec<u8> {
        let floats = |this: &mut Self, bytes: fn(f32) -> Vec<u8>| -> Vec<u8> {
            (0..values).flat_map(|_| bytes(this.unit())).collect()
        };
        match ty {
            TensorType::F32 => return floats(self, |v| v.to_le_bytes().to_vec()),
            TensorType::BF16 => return floats(self, |v| v.to_le_bytes()[2..].to_vec()),
            _ => {}
        }
        let n = values / ty.block_len() * ty.block_bytes();
        let mut bytes: Vec<u8> = (0..n).map(|_| self.next() as u8).collect();
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            set_scales(ty, block, || match self.next() % 16 {
                0 => 0.0,
                1 => 3e-7,
                _ => self.unit() / 8.0,
            });
        }
        bytes
    }
}

fn formats() -> impl Iterator<Item = &'static Format> {
    realm_quant::supported().map(|ty| realm_quant::format(ty).unwrap())
}

fn scalar(format: &Format) -> &'static Kernel {
    let kernel = format.kernels().last().unwrap();
    assert_eq!(kernel.name, "scalar");
    kernel
}

fn activations(form: ActivationForm, cols: usize, values: &[f32]) -> Activations {
    let mut x = Activations::new(Level::best());
    x.reset(form, values.len() / cols, cols).unwrap();
    for (row, values) in values.chunks_exact(cols).enumerate() {
        x.quantize_row(row, values).unwrap();
    }
    x
}

fn matmul(kernel: &Kernel, weights: &[u8], rows: usize, x: &Activations) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows * x.rows()];
    kernel.matmul(weights, rows, x.cols(), x.view(0..x.rows()), &mut out).unwrap();
    out
}

/// For every output, the product in f64 and the sum of the products' magnitudes.
fn exact(ty: TensorType, weights: &[u8], rows: usize, x: &Activations) -> Vec<(f64, f64)> {
    let cols = x.cols();
    let mut w = vec![0.0; rows * cols];
    realm_quant::dequantize(ty, weights, &mut w).unwrap();
    let view = x.view(0..x.rows());
    let tokens = (0..x.rows()).map(|t| view.dequantize_row(t));
    tokens
        .flat_map(|x| {
            let dot = |w: &[f32]| {
                let products = w.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
            };
            w.chunks_exact(cols).map(dot).collect::<Vec<_>>()
        })
        .collect()
}

/// Whether every kernel gives the bits of the definition: those of float weights do not in
/// WebAssembly, where the engine may fuse products with sums.
fn is_exact(format: &Format) -> bool {
    !is_float(format) || !cfg!(target_family = "wasm")
}

/// Whether products are summed as floats.
fn is_float(format: &Format) -> bool {
    format.activation == ActivationForm::F32
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

/// Fewer rows and tokens where each product takes Miri a microsecond.
const fn at_most(n: usize, with_miri: usize) -> usize {
    if cfg!(miri) { with_miri } else { n }
}

/// As many cases as `PROPTEST_CASES` says, else 24: each meets every kernel.
fn cases() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(24) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_kernel_agrees_with_the_definition(
        seed: u64, rows in 1..=at_most(40, 6), tokens in 1..=at_most(20, 4), blocks in 1usize..=3,
    ) {
        let mut random = Random(seed);
        for format in formats() {
            let cols = format.ty.block_len().max(32) * blocks;
            let weights = random.weights(format.ty, rows * cols);
            let x = activations(format.activation, cols, &random.values(tokens * cols));
            let want = matmul(scalar(format), &weights, rows, &x);
            let exact = exact(format.ty, &weights, rows, &x);
            for kernel in format.kernels() {
                let got = matmul(kernel, &weights, rows, &x);
                if is_exact(format) {
                    prop_assert!(same_bits(&got, &want), "{} {}", format.ty, kernel.name);
                }
                for (got, (want, size)) in got.iter().zip(&exact) {
                    // Each addition may round; the integer sums do not.
                    let bound = size * f64::from(f32::EPSILON) * 16.0;
                    let error = (f64::from(*got) - want).abs();
                    prop_assert!(
                        error <= bound + 1e-30,
                        "{} {}: {got}, exactly {want}", format.ty, kernel.name
                    );
                }
            }
        }
    }

    #[test]
    fn interleaved_rows_give_the_same_bits(seed: u64, groups in 1usize..5, tokens in 1usize..20) {
        let mut random = Random(seed);
        for format in formats() {
            let cols = 512;
            let native = format.kernel(Level::best());
            for kernel in format.packed_kernels() {
                let rows = groups * kernel.group_rows();
                let weights = random.weights(format.ty, rows * cols);
                let mut packed = vec![0; weights.len()];
                kernel.pack(&weights, rows, cols, &mut packed).unwrap();
                let x = activations(format.activation, cols, &random.values(tokens * cols));
                let wanted = matmul(native, &weights, rows, &x);
                let got = matmul(kernel, &packed, rows, &x);
                prop_assert!(same_bits(&got, &wanted), "{} {}", format.ty, kernel.name);
            }
        }
    }

    #[test]
    fn a_result_does_not_depend_on_the_rows_and_tokens_beside_it(seed: u64) {
        let mut random = Random(seed);
        for format in formats() {
            let (rows, tokens) = (at_most(20, 4), at_most(20, 4));
            let cols = 96usize.next_multiple_of(format.ty.block_len());
            let weights = random.weights(format.ty, rows * cols);
            let row_bytes = weights.len() / rows;
            let x = activations(format.activation, cols, &random.values(tokens * cols));
            for kernel in format.kernels() {
                let all = matmul(kernel, &weights, rows, &x);
                for n in 1..=tokens {
                    // Some rows and tokens from the middle, as many as `n` of each.
                    let (r0, t0) = ((rows - n) / 2, (tokens - n) / 3);
                    let mut part = vec![f32::NAN; n * n];
                    let weights = &weights[r0 * row_bytes..][..n * row_bytes];
                    kernel.matmul(weights, n, cols, x.view(t0..t0 + n), &mut part).unwrap();
                    for (t, part) in part.chunks_exact(n).enumerate() {
                        let all = &all[(t0 + t) * rows + r0..][..n];
                        prop_assert!(same_bits(part, all), "{} {} {n}", format.ty, kernel.name);
                    }
                }
            }
        }
    }
}

#[test]
fn float_rows_need_not_be_whole_vectors() {
    let mut random = Random(1);
    for format in formats().filter(|format| is_float(format)) {
        for cols in [1, 7, 15, 17, 33, 100] {
            let weights = random.weights(format.ty, 5 * cols);
            let x = activations(format.activation, cols, &random.values(3 * cols));
            let exact = exact(format.ty, &weights, 5, &x);
            let defined = matmul(scalar(format), &weights, 5, &x);
            for kernel in format.kernels() {
                let all = matmul(kernel, &weights, 5, &x);
                assert!(!is_exact(format) || same_bits(&all, &defined), "{} {cols}", kernel.name);
                for (got, (want, size)) in all.iter().zip(&exact) {
                    let error = (f64::from(*got) - want).abs();
                    assert!(error <= size * 1e-6, "{} {} {cols}", format.ty, kernel.name);
                }
            }
        }
    }
}

#[test]
fn wide_float_rows_give_every_token_what_it_gets_alone() {
    // More columns and activations than are worked on at a time.
    let (rows, tokens, cols) = (at_most(5, 1), at_most(19, 2), 20_001);
    let mut random = Random(7);
    for format in formats().filter(|format| is_float(format)) {
        let weights = random.weights(format.ty, rows * cols);
        let x = activations(format.activation, cols, &random.values(tokens * cols));
        let exact = exact(format.ty, &weights, rows, &x);
        let defined = matmul(scalar(format), &weights, rows, &x);
        for kernel in format.kernels() {
            let all = matmul(kernel, &weights, rows, &x);
            assert!(!is_exact(format) || same_bits(&all, &defined), "{}", kernel.name);
            for (got, (want, size)) in all.iter().zip(&exact) {
                let error = (f64::from(*got) - want).abs();
                assert!(error <= size * 1e-5, "{} {}", format.ty, kernel.name);
            }
            for t in 0..tokens {
                let mut alone = vec![f32::NAN; rows];
                kernel.matmul(&weights, rows, cols, x.view(t..t + 1), &mut alone).unwrap();
                let among = &all[t * rows..][..rows];
                assert!(same_bits(&alone, among), "{} {} {t}", format.ty, kernel.name);
            }
        }
    }
}

/// Checks every kernel of every quantised format with blocks made of one byte,
/// all scales 1, and activations that are all `x`.
fn check_uniform(byte: u8, x: f32) {
    for format in formats().filter(|format| !is_float(format)) {
        let (rows, tokens, cols) = (at_most(17, 2), at_most(7, 1), at_most(1024, 256));
        let mut weights = vec![byte; rows * cols / format.ty.block_len() * format.ty.block_bytes()];
        for block in weights.chunks_exact_mut(format.ty.block_bytes()) {
            set_scales(format.ty, block, || 1.0);
        }
        let x = activations(format.activation, cols, &vec![x; tokens * cols]);
        let exact = exact(format.ty, &weights, rows, &x);
        for kernel in format.kernels() {
            for (got, (want, size)) in matmul(kernel, &weights, rows, &x).iter().zip(&exact) {
                let error = (f64::from(*got) - want).abs();
                assert!(error <= size * 1e-6, "{} {}: {got} {want}", format.ty, kernel.name);
            }
        }
    }
}

#[test]
fn largest_weights_and_activations_do_not_overflow() {
    check_uniform(0xff, 127.0);
    check_uniform(0xff, -127.0);
}

#[test]
fn most_negative_weights_do_not_overflow() {
    // In Q8_0 every weight is -128, in Q6_K every scale.
    check_uniform(0x80, 127.0);
    check_uniform(0x80, -127.0);
    check_uniform(0x00, 127.0);
    check_uniform(0x7f, -127.0);
}

#[test]
fn zero_activations_give_zero() {
    let mut random = Random(2);
    for format in formats() {
        let cols = 512;
        let weights = random.weights(format.ty, 3 * cols);
        let x = activations(format.activation, cols, &vec![0.0; 2 * cols]);
        for kernel in format.kernels() {
            assert_eq!(matmul(kernel, &weights, 3, &x), [0.0; 6], "{}", format.ty);
        }
    }
}

#[test]
fn denormal_scales_survive() {
    let smallest = half::f16::from_bits(1).to_f32();
    for format in formats().filter(|format| !is_float(format)) {
        let cols = 256;
        let mut weights = vec![0xff; cols / format.ty.block_len() * format.ty.block_bytes()];
        for block in weights.chunks_exact_mut(format.ty.block_bytes()) {
            set_scales(format.ty, block, || smallest);
        }
        let x = activations(format.activation, cols, &vec![1.0; cols]);
        let [(want, size)] = exact(format.ty, &weights, 1, &x)[..] else { unreachable!() };
        assert!(want != 0.0, "{}", format.ty);
        for kernel in format.kernels() {
            let got = f64::from(matmul(kernel, &weights, 1, &x)[0]);
            assert!((got - want).abs() <= size * 1e-6, "{} {}", format.ty, kernel.name);
        }
    }
}

#[test]
fn every_scale_byte_of_the_four_bit_floats_is_read_alike() {
    let mut random = Random(6);
    for ty in [TensorType::MXFP4, TensorType::NVFP4] {
        let format = realm_quant::format(ty).unwrap();
        let cols = ty.block_len();
        let mut weights = random.weights(ty, 256 * cols);
        let n_scales = ty.block_bytes() - cols / 2;
        for (row, block) in weights.chunks_exact_mut(ty.block_bytes()).enumerate() {
            block[..n_scales].fill(row as u8);
        }
        let values: Vec<f32> = random.values(cols).iter().map(|v| v * 1e-6).collect();
        let x = activations(format.activation, cols, &values);
        let want = matmul(scalar(format), &weights, 256, &x);
        assert!(want.iter().all(|v| v.is_finite()), "{ty}");
        for kernel in format.kernels() {
            assert!(same_bits(&matmul(kernel, &weights, 256, &x), &want), "{ty} {}", kernel.name);
        }
    }
}

#[test]
fn a_nan_or_infinite_activation_makes_its_token_nan_and_no_other() {
    let mut random = Random(3);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for format in formats() {
            let cols = 512;
            let n_tokens = at_most(8, 4);
            let weights = random.weights(format.ty, 2 * cols);
            let mut values = random.values(n_tokens * cols);
            values[3 * cols + 300] = bad;
            let x = activations(format.activation, cols, &values);
            for kernel in format.kernels() {
                for (t, out) in matmul(kernel, &weights, 2, &x).chunks_exact(2).enumerate() {
                    let spoilt = out.iter().filter(|v| !v.is_finite()).count();
                    let want = if t == 3 { 2 } else { 0 };
                    assert_eq!(spoilt, want, "{} {} token {t}", format.ty, kernel.name);
                }
            }
        }
    }
}

#[test]
fn any_bytes_and_any_activations_are_safe() {
    let mut random = Random(4);
    for format in formats() {
        let cols = 256;
        let (rows, tokens) = (at_most(18, 3), at_most(9, 2));
        let n = rows * cols / format.ty.block_len() * format.ty.block_bytes();
        let weights: Vec<u8> = (0..n).map(|_| random.next() as u8).collect();
        let values: Vec<f32> =
            (0..tokens * cols).map(|_| f32::from_bits(random.next() << 1)).collect();
        let x = activations(format.activation, cols, &values);
        for kernel in format.kernels() {
            assert_eq!(matmul(kernel, &weights, rows, &x).len(), rows * tokens);
        }
    }
}

#[cfg(not(target_family = "wasm"))] // no threads
#[test]
fn several_parts_of_one_output_are_filled_side_by_side() {
    let mut random = Random(5);
    for format in formats() {
        let (rows, tokens, cols) = (at_most(37, 5), at_most(6, 2), 256);
        let n_low = at_most(20, 3);
        let weights = random.weights(format.ty, rows * cols);
        let x = activations(format.activation, cols, &random.values(tokens * cols));
        let kernel = format.kernel(Level::best());
        let want = matmul(kernel, &weights, rows, &x);
        let mut out = vec![f32::NAN; rows * tokens];
        let (first, second) = OutputView::new(&mut out, tokens, rows).unwrap().split_at(n_low);
        let (low, high) = weights.split_at(weights.len() / rows * n_low);
        std::thread::scope(|scope| {
            let x = x.view(0..tokens);
            scope.spawn(move || kernel.matmul_into(low, n_low, cols, x, first).unwrap());
            scope.spawn(move || kernel.matmul_into(high, rows - n_low, cols, x, second).unwrap());
        });
        assert!(same_bits(&out, &want), "{}", format.ty);
    }
}

#[test]
fn arguments_that_do_not_fit_together_are_refused() {
    let format = realm_quant::format(TensorType::Q4_0).unwrap();
    let kernel = format.kernel(Level::best());
    let x = activations(ActivationForm::Q8Block32, 64, &[1.0; 64]);
    let weights = vec![0; 3 * 36];
    let mut out = [0.0; 3];
    let mut call = |weights: &[u8], rows, cols, x: &Activations, n: usize| {
        kernel.matmul(weights, rows, cols, x.view(0..x.rows()), &mut out[..n]).unwrap_err()
    };
    assert!(matches!(call(&weights[1..], 3, 64, &x, 3), Error::Length { what: "weights", .. }));
    assert!(matches!(call(&weights, 3, 64, &x, 2), Error::Length { what: "output", .. }));
    assert!(matches!(call(&weights, 3, 50, &x, 3), Error::Blocks { cols: 50, .. }));
    let longer = activations(ActivationForm::Q8Block32, 96, &[1.0; 96]);
    let error = call(&weights, 3, 64, &longer, 3);
    assert!(matches!(error, Error::Length { what: "activation row", .. }));
    let other = activations(ActivationForm::F32, 64, &[1.0; 64]);
    assert!(matches!(call(&weights, 3, 64, &other, 3), Error::Form { .. }));
}

#[test]
fn interleaved_rows_come_in_whole_groups() {
    let format = realm_quant::format(TensorType::Q8_0).unwrap();
    for kernel in format.packed_kernels() {
        let rows = kernel.group_rows() + 1;
        let weights = vec![0; rows * 34];
        let mut out = weights.clone();
        let error = kernel.pack(&weights, rows, 32, &mut out).unwrap_err();
        assert!(matches!(error, Error::Groups { .. }), "{error}");
        let x = activations(ActivationForm::Q8Block32, 32, &[1.0; 32]);
        let error = kernel.matmul(&weights, rows, 32, x.view(0..1), &mut vec![0.0; rows]);
        assert!(matches!(error.unwrap_err(), Error::Groups { .. }));
    }
}

#[test]
fn no_rows_no_columns_and_no_tokens_are_fine() {
    for format in formats() {
        let x = activations(format.activation, 256, &[]);
        let weights = vec![0; 256 / format.ty.block_len() * format.ty.block_bytes()];
        let mut empty = Activations::new(Level::best());
        empty.reset(format.activation, 2, 0).unwrap();
        for kernel in format.kernels() {
            assert_eq!(matmul(kernel, &weights, 1, &x), []);
            assert_eq!(matmul(kernel, &[], 3, &empty), [0.0; 6]);
        }
    }
}
