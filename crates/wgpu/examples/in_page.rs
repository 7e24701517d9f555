//! The cases of the tests and the known answers of products, for a page to run on its
//! device. Built for browsers by `test-js/browser/kernels.test.mjs`; empty elsewhere.

#![cfg(target_arch = "wasm32")]

#[path = "../tests/cases/mod.rs"]
mod cases;

use realm_wgpu::{Arithmetic, Tuning, WgpuBackend, WgpuOptions, check_products};
use wasm_bindgen::prelude::*;

use cases::{Case, top};

/// A device of the page whose products are in one arithmetic, and the cases.
#[wasm_bindgen]
pub struct Kernels {
    backend: WgpuBackend,
    arithmetic: Arithmetic,
    cases: Vec<Case>,
}

#[wasm_bindgen]
impl Kernels {
    /// Opens the page's device for products in `f32`, `f16` or `int8`.
    pub async fn open(arithmetic: String) -> Result<Kernels, JsError> {
        let arithmetic = match &*arithmetic {
            "f32" => Arithmetic::F32,
            "f16" => Arithmetic::F16,
            "int8" => Arithmetic::Int8,
            _ => return Err(JsError::new("expected f32, f16 or int8")),
        };
        let tuning = Tuning { vector: arithmetic, matrix: arithmetic, subgroups: false };
        let options = WgpuOptions {
            device: Some("0".to_owned()),
            tuning: Some(tuning),
            ..WgpuOptions::default()
        };
        let backend = WgpuBackend::open(options).await?;
        let mut cases = cases::all();
        if arithmetic == Arithmetic::Int8 {
            // Every device has it, so where it is tested, f32 is too: the others are the same.
            cases.retain(|case| case.has_products);
        }
        Ok(Kernels { backend, arithmetic, cases })
    }

    /// How many cases there are, those of the largest values included.
    #[wasm_bindgen(getter)]
    pub fn count(&self) -> usize {
        self.cases.len() + top::SIZES.len()
    }

    /// How the device is off in a case, if it is.
    pub async fn fault(&self, index: usize) -> Option<String> {
        match self.cases.get(index) {
            Some(case) => case.fault(&self.backend, self.arithmetic).await,
            None => top::fault(&self.backend, top::SIZES[index - self.cases.len()]).await,
        }
    }

    /// What is said of a case if all that it must give has the other sign.
    pub async fn control(&self, index: usize) -> Option<String> {
        let case = &self.cases[index];
        let turned: Vec<f32> = case.wanted().await.iter().map(|value| -value).collect();
        case.fault_beside(&turned, &self.backend, self.arithmetic).await
    }

    /// Asks for the known answers of all kernels of products: how many there are, then what is
    /// wrong.
    pub async fn products(&self) -> Result<Vec<String>, JsError> {
        let (n, faults) = check_products(&self.backend, self.arithmetic, false).await?;
        let lines = faults.iter().map(ToString::to_string);
        Ok(std::iter::once(n.to_string()).chain(lines).collect())
    }
}
