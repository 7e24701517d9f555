//! One number of a sound file changed, and every tensor made to fit what is then asked for: a
//! file that contradicts nothing in itself. It is refused, or it runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_model::Error;
use realm_testkit::header::Header;
use realm_testkit::{families, gemma3n};

use crate::run_a_little;

/// Times that tensors are made to fit: a file asks for one shape after another.
const MOST_FITTINGS: usize = 60;

/// Values of a tensor, and of all, beyond which running takes too long to be tried.
const MOST_VALUES: usize = 4_000_000;

/// What a number is changed to.
fn others(old: u32) -> Vec<u32> {
    let near = [old.wrapping_mul(2), old >> 1, old.wrapping_add(1), old.wrapping_sub(1)];
    let mut values =
        [&near[..], &[old.wrapping_add(2), old.wrapping_mul(4), 1, 2, 3, 16, 48]].concat();
    values.sort_unstable();
    values.dedup();
    values.retain(|value| *value != old && *value <= 4096);
    values
}

/// The tensor that has another shape than it should, and the shape it should have.
fn misfit(error: &Error) -> Option<(&str, Vec<usize>)> {
    let Error::Invalid { what, found, expected } = error else { return None };
    let (_, dims) = expected.split_once('[').filter(|_| found.starts_with("shape ["))?;
    let (dims, _) = dims.split_once(']')?;
    let shape: Option<Vec<usize>> = dims.split(',').map(|dim| dim.trim().parse().ok()).collect();
    shape.filter(|shape| shape.iter().all(|dim| *dim > 0)).map(|shape| (what.as_str(), shape))
}

/// What became of a file.
enum Fate {
    Refused,
    Ran,
    Fault(String),
}

/// Makes tensors fit, and runs what is accepted.
fn fate(mut header: Header, backend: &CpuBackend) -> Fate {
    for _ in 0..MOST_FITTINGS {
        let Ok(gguf) = header.file() else { return Fate::Refused };
        let run = || run_a_little(&gguf, backend);
        let error = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => return Fate::Ran,
            Ok(Err(error)) => error,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
                return Fate::Fault(text.unwrap_or_default());
            }
        };
        let Some((name, shape)) = misfit(&error) else { return Fate::Refused };
        let n_values = shape.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
        let fits = n_values.is_some_and(|n| n <= MOST_VALUES);
        if !fits || !header.reshape(name, &shape) || header.n_values() > MOST_VALUES {
            return Fate::Refused;
        }
    }
    Fate::Refused
}

#[test]
fn files_of_every_family_with_one_number_changed_are_refused_or_run() {
    let families = families::all();
    let files = families.iter().map(|family| (family.name(), family.file()));
    let files: Vec<_> = files.chain([("gemma3n".to_owned(), gemma3n::file())]).collect();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (ran, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let backend =
            CpuBackend::new(CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
        while let Some((name, file)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let header = Header::of(file);
            for (index, (key, old)) in header.numbers().enumerate() {
                if key.starts_with("tokenizer") || key.starts_with("general") {
                    continue;
                }
                for value in others(old) {
                    match fate(header.with(index, value), &backend) {
                        Fate::Ran => ran.fetch_add(1, Ordering::Relaxed),
                        Fate::Refused => refused.fetch_add(1, Ordering::Relaxed),
                        Fate::Fault(fault) => {
                            let fault = format!("{name}: {key} {old} -> {value}: {fault}");
                            faults.lock().unwrap().push(fault);
                            0
                        }
                    };
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let (ran, refused) = (ran.into_inner(), refused.into_inner());
    assert!(ran > 5000 && refused > 1000, "{ran} run, {refused} refused");
}
