//! Which instruction sets this CPU has, and the switch that caps their use: the only place
//! that asks the processor. All vector code is chosen by a [`Level`] from here.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::fmt;
use std::sync::OnceLock;

use crate::simd::{Each, FloatJob, FloatSimd};

/// Name of the environment variable that caps [`Level::best`].
///
/// `scalar`, `avx2`, `avxvnni`, `avx512`, `avx512vnni` or `avx512vbmi`, on ARM `scalar`, `neon`,
/// `dotprod` or `i8mm`, in WebAssembly `scalar` or the module's own, `simd128` or `relaxed-simd`:
/// levels above that one are not chosen. Read once. Unset, or any other value: no cap. For tests
/// and bug reports.
pub const CPU_FEATURES_VARIABLE: &str = "REALM_CPU_FEATURES";

/// An instruction set that this CPU has and that code may be chosen for.
///
/// Levels are ordered, slowest first; whoever may use one may use those below it, as far as the
/// CPU has them. There is no value for what the CPU lacks, so code of a level needs no further
/// check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(InstructionSet);

impl Level {
    /// Plain Rust, which every CPU runs.
    pub const SCALAR: Self = Self(InstructionSet::Scalar);

    /// The highest level of this CPU that [`CPU_FEATURES_VARIABLE`] allows; always the same one
    /// within a process.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let asked = std::env::var(CPU_FEATURES_VARIABLE).unwrap_or_default();
            let cap = InstructionSet::ALL.iter().find(|set| set.name() == asked);
            let allowed = |level: &Self| cap.is_none_or(|cap| level.0 <= *cap);
            Self::available().filter(allowed).last().unwrap_or(Self::SCALAR)
        })
    }

    /// Every level of this CPU, slowest first. [`CPU_FEATURES_VARIABLE`] has no effect here.
    pub fn available() -> impl Iterator<Item = Self> {
        InstructionSet::ALL.iter().filter(|set| set.is_available()).map(|set| Self(*set))
    }

    /// What [`CPU_FEATURES_VARIABLE`] and kernels call it, such as `avx512vnni`.
    pub const fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether code for `set` may run at this level.
    pub(crate) fn allows(self, set: InstructionSet) -> bool {
        set <= self.0 && set.is_available()
    }

    /// Runs `job` with the vectors of this level.
    ///
    /// In WebAssembly a job is compiled once, for the vectors of the module: modules stay small.
    pub fn run<J: FloatJob>(self, job: J) -> J::Output {
        let job = Each(job);
        match self.0 {
            #[cfg(not(target_feature = "simd128"))]
            InstructionSet::Scalar => crate::simd::Scalar.run(job),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 | InstructionSet::AvxVnni => {
                // SAFETY: there is no level that the CPU lacks, and both have AVX2.
                unsafe { <crate::simd::Avx2>::new_unchecked() }.run(job)
            }
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx512Vnni | InstructionSet::Avx512Vbmi => {
                // SAFETY: there is no level that the CPU lacks, and all three have AVX-512.
                unsafe { crate::simd::Avx512Float::new_unchecked() }.run(job)
            }
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon | InstructionSet::DotProd | InstructionSet::I8mm => {
                // SAFETY: there is no level that the CPU lacks, and all three have NEON.
                unsafe { <crate::simd::Neon>::new_unchecked() }.run(job)
            }
            #[cfg(target_feature = "simd128")]
            InstructionSet::Scalar | InstructionSet::Simd128 => {
                // SAFETY: the module was compiled for these vectors.
                unsafe { <crate::simd::Simd128>::new_unchecked() }.run(job)
            }
        }
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Instruction sets that code is written for, slowest first, whether this CPU has them or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstructionSet {
    /// Plain Rust.
    Scalar,
    /// x86-64 AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same with AVX-VNNI, which is apart from AVX-512.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// x86-64 AVX-512 F, BW, DQ and VL: for floats alone.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same with AVX-512 VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// The same with AVX-512 VBMI, which looks bytes up in a register: for codebooks alone.
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi,
    /// AArch64 as every CPU has it.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// The same with dot products of bytes (`sdot`).
    #[cfg(target_arch = "aarch64")]
    DotProd,
    /// The same with products of matrices of bytes (`smmla`) as well.
    #[cfg(target_arch = "aarch64")]
    I8mm,
    /// WebAssembly SIMD of 128 bits.
    #[cfg(target_feature = "simd128")]
    Simd128,
}

impl InstructionSet {
    /// How many kernels the formats with integer products have on this architecture, if they
    /// have no codebook.
    pub(crate) const COUNT: usize =
        Self::ALL.len() - Self::FOR_CODEBOOKS - if cfg!(target_arch = "x86_64") { 1 } else { 0 };

    /// How many are for formats with a codebook alone.
    const FOR_CODEBOOKS: usize = if cfg!(target_arch = "x86_64") { 1 } else { 0 };

    /// How many kernels for GGUF's own layout most formats have: on WebAssembly the
    /// definition only, since every kernel makes the module larger.
    pub(crate) const LEAN_COUNT: usize = if cfg!(target_family = "wasm") { 1 } else { Self::COUNT };

    /// How many kernels formats with a codebook have.
    pub(crate) const CODEBOOK_COUNT: usize = Self::LEAN_COUNT + Self::FOR_CODEBOOKS;

    /// How many kernels the formats of float weights have.
    pub(crate) const FLOAT_COUNT: usize = 1
        + if cfg!(target_arch = "x86_64") { 2 } else { 0 }
        + if cfg!(target_arch = "aarch64") { 1 } else { 0 }
        + if cfg!(target_feature = "simd128") { 1 } else { 0 };

    const ALL: &[Self] = &[
        Self::Scalar,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512Vnni,
        #[cfg(target_arch = "x86_64")]
        Self::Avx512Vbmi,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
        #[cfg(target_arch = "aarch64")]
        Self::DotProd,
        #[cfg(target_arch = "aarch64")]
        Self::I8mm,
        #[cfg(target_feature = "simd128")]
        Self::Simd128,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vbmi => "avx512vbmi",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::DotProd => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Self::I8mm => "i8mm",
            #[cfg(target_feature = "relaxed-simd")]
            Self::Simd128 => "relaxed-simd",
            #[cfg(all(target_feature = "simd128", not(target_feature = "relaxed-simd")))]
            Self::Simd128 => "simd128",
        }
    }

    /// Whether this CPU and its operating system support it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx512.is_available() && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vbmi => {
                Self::Avx512Vnni.is_available() && is_x86_feature_detected!("avx512vbmi")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Self::DotProd => Self::Neon.is_available() && is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm => Self::DotProd.is_available() && is_aarch64_feature_detected!("i8mm"),
            #[cfg(target_feature = "simd128")]
            // Or the module would not have been loaded.
            Self::Simd128 => true,
        }
    }
}

/// Whether this processor follows a stream of packed weights by itself while `tokens` are
/// multiplied with it, so that asking early only costs time. Those of AMD do if there is
/// little to compute: on Zen 4 one token is a quarter faster so, four are half as fast.
pub(crate) fn follows_streams(tokens: usize) -> bool {
    static FOLLOWS: OnceLock<bool> = OnceLock::new();
    tokens <= 2 && *FOLLOWS.get_or_init(is_amd)
}

#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    matches!(name.as_flattened(), b"AuthenticAMD" | b"HygonGenuine")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_amd() -> bool {
    false
}
