//! Backends that share the process's threads. One test, since it counts them.

#![cfg(not(target_family = "wasm"))]

use std::sync::Barrier;
use std::time::{Duration, Instant};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::TensorType;
use realm_testkit::program::{Call, Decoder, Model, Size};

fn shared(threads: usize) -> CpuBackend {
    CpuBackend::shared(CpuOptions { threads: Some(threads), ..Default::default() }).unwrap()
}

/// Threads that backends of this process have started, once they are as many as `wanted`.
fn wait_for_threads(wanted: usize) {
    if !cfg!(target_os = "linux") {
        return;
    }
    let began = Instant::now();
    loop {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |thread: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(thread.ok()?.path().join("comm")).ok()
        };
        let names = threads.filter_map(name).filter(|name| name.starts_with("realm-cpu"));
        let found = names.count();
        if found == wanted {
            return;
        }
        // A thread that has ended may be listed for a moment longer.
        assert!(began.elapsed() < Duration::from_secs(20), "{found} threads, expected {wanted}");
        std::thread::yield_now();
    }
}

/// Some tokens one by one, and all logits on the way.
fn answer(model: &Model, backend: &CpuBackend, seed: u32) -> Vec<f32> {
    let size = Size { page_tokens: 32, max_rows: 1, ..Size::default() };
    let mut session = model.open(backend, size).unwrap();
    let tokens = (0..24).map(|i| (i * 7 + seed) % 64);
    tokens
        .enumerate()
        .flat_map(|(i, token)| {
            let call = Call::one(&[token], i as u32, &[3]);
            call.logits(model, &mut *session).unwrap()
        })
        .collect()
}

#[test]
fn backends_with_as_many_threads_share_them_until_the_last_one_ends() {
    let one = shared(3);
    wait_for_threads(2);
    let two = shared(3);
    wait_for_threads(2);
    let other = shared(2);
    wait_for_threads(3);
    assert_eq!((one.threads(), two.threads(), other.threads()), (3, 3, 2));

    let model = Decoder { ty: TensorType::Q8_0, n_layers: 3, ..Decoder::default() }.build();
    let alone: Vec<_> = (0..4).map(|seed| answer(&model, &one, seed)).collect();
    let start = Barrier::new(alone.len());
    std::thread::scope(|scope| {
        for (seed, alone) in alone.iter().enumerate() {
            let (backend, model, start) = (if seed % 2 == 0 { &one } else { &two }, &model, &start);
            scope.spawn(move || {
                start.wait();
                for _ in 0..5 {
                    assert!(
                        answer(model, backend, seed as u32) == *alone,
                        "the same beside others"
                    );
                }
            });
        }
    });

    drop(one);
    wait_for_threads(3);
    // A session keeps the threads that it runs on.
    let session = model.open(&two, Size::default()).unwrap();
    drop(two);
    wait_for_threads(3);
    drop(session);
    wait_for_threads(1);
    drop(other);
    wait_for_threads(0);
    let again = shared(3);
    wait_for_threads(2);
    drop(again);
    wait_for_threads(0);

    let default = || CpuBackend::shared(CpuOptions::default()).unwrap();
    let (first, second) = (default(), default());
    wait_for_threads(first.threads() - 1);
    let named = shared(first.threads());
    wait_for_threads(second.threads() - 1);
    drop((first, second, named));
    wait_for_threads(0);
}
