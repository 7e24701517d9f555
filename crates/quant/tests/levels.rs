//! What depends on the instruction set in use, tried at each one by a process
//! of its own: the choice is made once per process.

#[cfg(not(target_family = "wasm"))]
use std::process::Command;

use half::f16;
#[cfg(not(target_family = "wasm"))]
use realm_quant::CPU_FEATURES_VARIABLE;
use realm_quant::vector;

#[cfg(not(target_family = "wasm"))] // no processes, and one level besides the definition
#[test]
fn every_level_is_obeyed_and_gives_right_vector_products() {
    if let Ok(level) = std::env::var(CPU_FEATURES_VARIABLE) {
        let levels: Vec<&str> = all_kernels().map(|kernel| kernel.name).collect();
        let allowed = &levels[levels.iter().position(|name| *name == level).unwrap()..];
        for format in realm_quant::supported().map(|ty| realm_quant::format(ty).unwrap()) {
            let mut names = format.kernels().map(|kernel| kernel.name);
            let fastest = names.find(|name| allowed.contains(name)).unwrap();
            assert_eq!(format.kernel().name, fastest, "{}", format.ty);
        }
        check_vectors();
        return;
    }
    for kernel in all_kernels() {
        let output = Command::new(std::env::current_exe().unwrap())
            .env(CPU_FEATURES_VARIABLE, kernel.name)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {output:?}", kernel.name);
    }
}

/// The kernels of a format that has one for every level.
#[cfg(not(target_family = "wasm"))]
fn all_kernels() -> impl Iterator<Item = &'static realm_quant::Kernel> {
    realm_quant::format(realm_gguf::TensorType::IQ2_XXS).unwrap().kernels()
}

#[test]
fn vector_products_are_right_at_the_level_in_use() {
    check_vectors();
}

fn check_vectors() {
    for len in 0..=200usize {
        let a: Vec<f32> = (0..len).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let b: Vec<f32> = (0..len).map(|i| (i * 53 % 89) as f32 / 64.0 - 0.5).collect();
        let mut halves = vec![f16::ZERO; len];
        vector::to_f16(&b, &mut halves);
        // Multiples of 1/64 below 2 are f16 numbers.
        assert!(halves.iter().zip(&b).all(|(half, b)| half.to_f32() == *b));

        let dot: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        for got in [vector::dot_f32(&a, &b), vector::dot_f16(&a, &halves)] {
            assert!((f64::from(got) - dot).abs() <= 1e-5, "{len}: {got}, expected {dot}");
        }

        let (mut from_f32, mut from_f16) = (a.clone(), a.clone());
        vector::axpy_f32(0.75, &b, &mut from_f32);
        vector::axpy_f16(0.75, &halves, &mut from_f16);
        for i in 0..len {
            let want = f64::from(a[i]) + 0.75 * f64::from(b[i]);
            assert!((f64::from(from_f32[i]) - want).abs() <= 1e-6, "{len} {i}");
            assert_eq!(from_f32[i], from_f16[i], "{len} {i}");
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
