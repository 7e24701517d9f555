//! A device, and how close its results have to be.

#![allow(dead_code, reason = "not every test file needs all of it")]

use std::sync::OnceLock;

use realm_testkit::compare::compare;
use realm_wgpu::{Tuning, WgpuBackend, WgpuOptions, devices};

/// The best device, or one in software where there is no other, with the kernels that run everywhere.
pub fn open(max_binding_bytes: Option<usize>) -> WgpuBackend {
    open_as(WgpuOptions { max_binding_bytes, ..WgpuOptions::default() })
}

/// The same with other kernels.
pub fn open_with(tuning: Tuning) -> WgpuBackend {
    open_as(WgpuOptions { tuning: Some(tuning), ..WgpuOptions::default() })
}

fn open_as(options: WgpuOptions) -> WgpuBackend {
    let found = pollster::block_on(devices());
    let hardware_first = found.iter().min_by_key(|device| device.software);
    let device = hardware_first.expect(
        "no graphics card found: install a driver, or Mesa's software Vulkan \
         (Debian: mesa-vulkan-drivers)",
    );
    let device = Some(device.name.clone());
    let tuning = options.tuning.or(Some(Tuning::default()));
    WgpuBackend::new(WgpuOptions { device, tuning, ..options }).expect("the device opens")
}

/// One device for all tests of a file.
pub fn backend() -> &'static WgpuBackend {
    static BACKEND: OnceLock<WgpuBackend> = OnceLock::new();
    BACKEND.get_or_init(|| open(None))
}

/// Rounding of f32 sums against f64 sums, for values of about 1.
pub const F32_ROUNDING: f32 = 2e-5;

/// Every value within `tolerance` of their root mean square, or of 1 if that is more.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], wanted: &[f32], tolerance: f32) {
    let difference = compare(got, wanted);
    let allowed = tolerance * difference.rms_wanted.max(1.0);
    assert!(difference.max_abs <= allowed, "{what}: {difference}, allowed {allowed:.1e}");
}
