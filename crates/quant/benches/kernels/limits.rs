//! What this machine allows: how fast it reads memory, and how fast its registers multiply
//! with the instructions that the kernels use.

use std::hint::black_box;

use realm_quant::ActivationForm;

use crate::sampling;

/// Bytes of a unit of reading: long runs, as rows of weights are.
const READ_BYTES: usize = 1 << 20;
const CACHE_LINE_BYTES: usize = 64;
/// Rounds of a unit of multiplying.
const ROUNDS: usize = 20_000;

/// A way of reading memory.
pub type Reader = fn(&[u8]);

/// The reader that is fastest on `n_threads` threads: one stream or four, and lines asked
/// for early, a little or not at all, whichever suits the processor.
pub fn fastest_reader(memory: &[u8], n_threads: usize) -> Reader {
    let readers: [Reader; 6] = [
        read_streams::<1, 0>,
        read_streams::<4, 0>,
        read_streams::<1, 1024>,
        read_streams::<4, 1024>,
        read_streams::<1, 4096>,
        read_streams::<4, 4096>,
    ];
    let rate = |reader: &Reader| read(memory, n_threads, *reader).unwrap_or(0.0);
    let rated = readers.into_iter().map(|reader| (rate(&reader), reader));
    rated.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(readers[0], |(_, reader)| reader)
}

/// Bytes per second that `n_threads` threads read from `memory` together.
pub fn read(memory: &[u8], n_threads: usize, reader: Reader) -> Option<f64> {
    let per_thread = memory.len() / n_threads;
    let rates = sampling::rates(n_threads, |thread, first, n| {
        let own = &memory[thread * per_thread..][..per_thread];
        (first..first + n).for_each(|index| reader(crate::piece(own, READ_BYTES, index)));
    })?;
    Some(rates.median() * READ_BYTES as f64)
}

/// Reads bytes in `N` streams side by side, asking for lines `AHEAD` bytes before they are
/// needed if that is not 0.
fn read_streams<const N: usize, const AHEAD: usize>(bytes: &[u8]) {
    let (lines, _) = bytes.as_chunks::<CACHE_LINE_BYTES>();
    let per_stream = lines.len() / N;
    let mut sums = [[0u64; 8]; N];
    for i in 0..per_stream {
        for (stream, sums) in sums.iter_mut().enumerate() {
            let line = &lines[stream * per_stream + i];
            #[cfg(target_arch = "x86_64")]
            if AHEAD > 0 {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a prefetch reads nothing; every x86-64 CPU has it.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(AHEAD).cast()) };
            }
            for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
            }
        }
    }
    black_box(sums);
}

/// Multiplications and additions per second, in `n_threads` threads together, that the
/// instructions of a kernel allow; `None` where no loop is written for them.
pub fn multiply(kernel: &str, form: ActivationForm, n_threads: usize) -> Option<f64> {
    let is_float = form == ActivationForm::F32;
    let unit = unit(kernel, is_float)?;
    let rates = sampling::rates(n_threads, |_, _, n| (0..n).for_each(|_| (unit.run)()))?;
    Some(rates.median() * unit.operations as f64)
}

/// Products of registers alone.
struct Unit {
    run: fn(),
    operations: usize,
}

#[cfg(target_arch = "x86_64")]
fn unit(kernel: &str, is_float: bool) -> Option<Unit> {
    let (run, products): (fn(), usize) = match (kernel, is_float) {
        ("avx512vnni" | "avx512vbmi", false) => {
            // SAFETY: a kernel of this name runs, so the CPU has AVX-512 VNNI.
            (|| unsafe { x86::vnni_512() }, x86::VNNI_512_PRODUCTS)
        }
        // SAFETY: a kernel of this name runs, so the CPU has AVX-512 F.
        ("avx512", true) => (|| unsafe { x86::fma_512() }, x86::FMA_512_PRODUCTS),
        // SAFETY: a kernel of this name runs, so the CPU has AVX-VNNI.
        ("avxvnni", false) => (|| unsafe { x86::vnni_256() }, x86::VNNI_256_PRODUCTS),
        // SAFETY: a kernel of this name runs, so the CPU has AVX2.
        ("avx2", false) => (|| unsafe { x86::bytes_256() }, x86::BYTES_256_PRODUCTS),
        // SAFETY: a kernel of this name runs, so the CPU has AVX2 and FMA.
        ("avx2", true) => (|| unsafe { x86::fma_256() }, x86::FMA_256_PRODUCTS),
        _ => return None,
    };
    Some(Unit { run, operations: 2 * products })
}

#[cfg(not(target_arch = "x86_64"))]
fn unit(_: &str, _: bool) -> Option<Unit> {
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::ROUNDS;

    /// Sums in flight: latency times instructions per cycle, and some to spare.
    const SUMS: usize = 12;

    pub const VNNI_512_PRODUCTS: usize = ROUNDS * SUMS * 64;
    pub const VNNI_256_PRODUCTS: usize = ROUNDS * SUMS * 32;
    pub const FMA_512_PRODUCTS: usize = ROUNDS * SUMS * 16;
    pub const BYTES_256_PRODUCTS: usize = ROUNDS * BYTES_SUMS * BYTES_TERMS * 32;
    pub const FMA_256_PRODUCTS: usize = ROUNDS * SUMS * 8;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn vnni_512() {
        let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..ROUNDS {
            sums = sums.map(|sum| _mm512_dpbusd_epi32(sum, a, b));
        }
        black_box(sums);
    }

    #[target_feature(enable = "avxvnni")]
    pub fn vnni_256() {
        let (a, b) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi8(5)));
        let mut sums = [_mm256_setzero_si256(); SUMS];
        for _ in 0..ROUNDS {
            sums = sums.map(|sum| _mm256_dpbusd_avx_epi32(sum, a, b));
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    pub fn fma_512() {
        let (a, b) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(0.25)));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..ROUNDS {
            sums = sums.map(|sum| _mm512_fmadd_ps(a, b, sum));
        }
        black_box(sums);
    }

    /// 16-bit sums of so many products of 4-bit weights fit.
    const BYTES_TERMS: usize = 8;
    const BYTES_SUMS: usize = 4;

    /// The cheapest way to int8 products without VNNI: it asks for weights of four bits.
    #[target_feature(enable = "avx2")]
    pub fn bytes_256() {
        let a = black_box([_mm256_set1_epi8(3); BYTES_SUMS]);
        let b = black_box(_mm256_set1_epi8(5));
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); BYTES_SUMS];
        for _ in 0..ROUNDS {
            for (sum, a) in sums.iter_mut().zip(a) {
                let mut short = _mm256_setzero_si256();
                for _ in 0..BYTES_TERMS {
                    // Each product is taken anew.
                    short = _mm256_add_epi16(short, _mm256_maddubs_epi16(opaque(a), b));
                }
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(short, ones));
            }
        }
        black_box(sums);
    }

    /// The same vector, of which the compiler knows nothing; costs no instruction.
    #[target_feature(enable = "avx2")]
    fn opaque(mut a: __m256i) -> __m256i {
        // SAFETY: nothing is executed.
        unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) a, options(nomem, nostack, pure)) };
        a
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn fma_256() {
        let (a, b) = (black_box(_mm256_set1_ps(0.5)), black_box(_mm256_set1_ps(0.25)));
        let mut sums = [_mm256_setzero_ps(); SUMS];
        for _ in 0..ROUNDS {
            sums = sums.map(|sum| _mm256_fmadd_ps(a, b, sum));
        }
        black_box(sums);
    }
}
