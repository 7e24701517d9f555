//! Which instruction sets this CPU has, and the switch that caps their use.

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;
use std::sync::OnceLock;

/// Name of the environment variable that caps the choice of kernels.
///
/// `scalar`, `avx2`, `avxvnni`, `avx512vnni` or `avx512vbmi`, on ARM `scalar`, `neon`, `dotprod` or
/// `i8mm`, in WebAssembly `scalar` or `simd128`: kernels above that level are not chosen.
/// Read once. Unset, or any other value: no cap. For tests and bug reports.
pub const CPU_FEATURES_VARIABLE: &str = "REALM_CPU_FEATURES";

/// Instruction sets that kernels are written for, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Plain Rust.
    Scalar,
    /// x86-64 AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The same with AVX-VNNI, which is apart from AVX-512.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// x86-64 AVX-512 F, BW, DQ, VL and VNNI.
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

impl Level {
    /// How many formats have kernels for on this architecture, if they have no codebook.
    pub(crate) const COUNT: usize = Self::ALL.len() - Self::FOR_CODEBOOKS;

    /// How many are for formats with a codebook alone.
    const FOR_CODEBOOKS: usize = if cfg!(target_arch = "x86_64") { 1 } else { 0 };

    /// How many kernels for GGUF's own layout most formats have: on WebAssembly the
    /// definition only, since every kernel makes the module larger.
    pub(crate) const LEAN_COUNT: usize = if cfg!(target_family = "wasm") { 1 } else { Self::COUNT };

    /// How many kernels formats with a codebook have.
    pub(crate) const CODEBOOK_COUNT: usize = Self::LEAN_COUNT + Self::FOR_CODEBOOKS;

    const ALL: &[Self] = &[
        Self::Scalar,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "x86_64")]
        Self::AvxVnni,
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

    /// Whether this CPU and its operating system support the level.
    pub(crate) fn available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => Self::Avx2.available() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vbmi => {
                Self::Avx512Vnni.available() && is_x86_feature_detected!("avx512vbmi")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "aarch64")]
            Self::DotProd => Self::Neon.available() && is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm => Self::DotProd.available() && is_aarch64_feature_detected!("i8mm"),
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

/// The highest level that may be chosen.
pub(crate) fn cap() -> Level {
    static CAP: OnceLock<Level> = OnceLock::new();
    *CAP.get_or_init(|| {
        let asked = std::env::var(CPU_FEATURES_VARIABLE).unwrap_or_default();
        let named = Level::ALL.iter().find(|level| level.name() == asked);
        *named.or(Level::ALL.last()).unwrap_or(&Level::Scalar)
    })
}

/// The highest level that this CPU has and the cap allows.
pub(crate) fn best() -> Level {
    let usable = Level::ALL.iter().rev().find(|level| **level <= cap() && level.available());
    *usable.unwrap_or(&Level::Scalar)
}
