//! Levels: which there are, which one is chosen, and what formats have for each.

#[cfg(not(target_family = "wasm"))]
use std::process::Command;

use half::f16;
#[cfg(not(target_family = "wasm"))]
use realm_quant::CPU_FEATURES_VARIABLE;
use realm_quant::{FloatJob, FloatSimd, Format, Kernel, Level, vector};

/// The choice is made once per process, so each is tried by a process of its own.
#[cfg(not(target_family = "wasm"))] // no processes, and one level besides the definition
#[test]
#[cfg_attr(miri, ignore = "starts processes, which Miri cannot")]
fn the_variable_caps_the_level_and_what_it_does_not_know_caps_nothing() {
    if let Ok(asked) = std::env::var(CPU_FEATURES_VARIABLE) {
        let named = Level::available().find(|level| level.name() == asked);
        assert_eq!(Some(Level::best()), named.or(Level::available().last()));
        return;
    }
    assert_eq!(Some(Level::best()), Level::available().last());
    for asked in Level::available().map(Level::name).chain(["", "sse9"]) {
        let output = Command::new(std::env::current_exe().unwrap())
            .env(CPU_FEATURES_VARIABLE, asked)
            .output()
            .unwrap();
        assert!(output.status.success(), "{asked}: {output:?}");
    }
}

#[test]
fn levels_begin_with_plain_code_and_rise() {
    let levels: Vec<Level> = Level::available().collect();
    assert_eq!(levels[0], Level::SCALAR);
    assert!(levels.is_sorted() && levels.contains(&Level::best()));
    assert_eq!(Level::SCALAR.name(), "scalar");
}

/// The fastest of some kernels that a level may use, by their names.
fn fastest(kernels: impl Iterator<Item = &'static Kernel>, level: Level) -> Option<&'static str> {
    let allowed: Vec<_> = Level::available().filter(|l| *l <= level).map(Level::name).collect();
    kernels.map(|kernel| kernel.name).find(|name| allowed.contains(name))
}

#[test]
fn every_format_gives_each_level_its_fastest_kernel() {
    let formats: Vec<&Format> =
        realm_quant::supported().map(|ty| realm_quant::format(ty).unwrap()).collect();
    for level in Level::available() {
        for format in &formats {
            let chosen = format.kernel(level).name;
            assert_eq!(Some(chosen), fastest(format.kernels(), level), "{level} {}", format.ty);
            let packed = format.packed_kernel(level).map(|kernel| kernel.name);
            assert_eq!(packed, fastest(format.packed_kernels(), level), "{level} {}", format.ty);
        }
    }
}

/// A kernel is there for what it is named after, and for no level alone: none is forgotten.
#[test]
fn every_level_is_what_a_kernel_of_some_format_is_named_after() {
    let formats = realm_quant::supported().map(|ty| realm_quant::format(ty).unwrap());
    let names: Vec<_> = formats.flat_map(Format::kernels).map(|kernel| kernel.name).collect();
    for level in Level::available() {
        assert!(names.contains(&level.name()), "{level}");
    }
}

/// `a * b + c` by all vectors of a level, and how many lanes these have.
struct MultiplyAdd<'a>(&'a [[f32; 3]], &'a mut Vec<f32>);

impl FloatJob for MultiplyAdd<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<S: FloatSimd>(self, s: S) -> usize {
        let Self(inputs, out) = self;
        for inputs in inputs.chunks_exact(S::LANES) {
            let load = |which: usize| {
                let values: Vec<f32> = inputs.iter().map(|input| input[which]).collect();
                s.load_f32(bytemuck::cast_slice(&values))
            };
            let mut lanes = vec![0.0; S::LANES];
            s.store_f32(s.fma_f32(load(0), load(1), load(2)), &mut lanes);
            out.extend(lanes);
        }
        S::LANES
    }
}

/// Triples that rounding twice gets wrong, and whatever else is special.
fn triples() -> Vec<[f32; 3]> {
    let unit = f32::EPSILON;
    let mut triples = Vec::new();
    for k in 0..64 {
        // Half a unit of `c`, less or more by so little that an f64 does not know.
        let off = k as f32 * unit;
        for c in [1.0, 1.0 + unit, -1.0 - unit, 1.0 + 7.0 * unit] {
            triples.push([(1.0 + off) * 2f32.powi(-12), (1.0 - off) * 2f32.powi(-12), c]);
            triples.push([-(1.0 + off) * 2f32.powi(-12), (1.0 - off) * 2f32.powi(-12), c]);
        }
    }
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE * 0.75,
        f32::from_bits(1),
        1e-30,
        f32::MAX,
        -f32::MAX,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    for a in special {
        for b in special {
            triples.extend(special.map(|c| [a, b, c]));
        }
    }
    // Any bits, and products and sums near the least normal number.
    let mut state = 1u64;
    let mut bits = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 32) as u32
    };
    for _ in 0..if cfg!(miri) { 4000 } else { 20_000 } {
        triples.push([(); 3].map(|()| f32::from_bits(bits())));
        let unit = |bits: u32| f32::from_bits(bits & 0x807f_ffff | 0x3f80_0000);
        let [a, b, c] = [bits(), bits(), bits()].map(unit);
        triples.push([a * 2f32.powi(-63), b * 2f32.powi(-64), c * f32::MIN_POSITIVE]);
        triples.push([a, b, c * 2f32.powi((bits() % 60) as i32 - 30)]);
    }
    triples.resize(triples.len().next_multiple_of(16), [0.0; 3]);
    triples
}

/// In WebAssembly the engine decides.
#[cfg(not(target_family = "wasm"))]
#[test]
fn products_are_fused_with_sums_at_every_level() {
    let triples = triples();
    let twice = |[a, b, c]: [f32; 3]| a * b + c;
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let wanted: Vec<f32> = triples.iter().map(|[a, b, c]| a.mul_add(*b, *c)).collect();
    let differ = triples.iter().zip(&wanted).filter(|(t, want)| !same(twice(**t), **want));
    assert!(differ.count() > 1000, "triples that show nothing");
    for level in Level::available() {
        let mut got = Vec::new();
        level.run(MultiplyAdd(&triples, &mut got));
        assert_eq!(got.len(), triples.len());
        for ((triple, got), want) in triples.iter().zip(&got).zip(&wanted) {
            assert!(same(*got, *want), "{level}: {triple:?} gives {got}, expected {want}");
        }
    }
}

#[test]
fn rounding_to_f16_goes_to_the_even_neighbour() {
    let mut halves = [f16::ZERO; 3];
    // Halfway between 1 and the next f16, and between that and the one after.
    vector::to_f16(&[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 1e6], &mut halves);
    assert_eq!(halves.map(f16::to_f32), [1.0, 1.0 + 2.0 / 1024.0, f32::INFINITY]);
}
