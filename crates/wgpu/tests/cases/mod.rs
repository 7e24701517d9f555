//! Every kernel but those of plain matrix products, as small programs whose results the oracle
//! knows: one list, which runs natively (`tests/steps.rs`) and in browsers
//! (`examples/in_page.rs`).

#![allow(dead_code, reason = "not every target that lists cases needs all of it")]

pub mod attention;
pub mod experts;
pub mod recurrent;
pub mod rows;
pub mod tables;
pub mod top;

use realm_ir::{Backend, Slot, Step};
use realm_testkit::bench::Bench;
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;
use realm_wgpu::Arithmetic;

/// Rounding of f32 sums against f64 sums, for values of about 1.
pub const F32_ROUNDING: f32 = 2e-5;

/// How far steps with products of quantised weights may be off in f16, and with inputs in int8.
const F16_PRODUCTS: f32 = 2e-2;
const INT8_PRODUCTS: f32 = 1e-1;

/// Steps, and which of their slots must hold what the oracle's hold.
#[derive(Clone)]
pub struct Case {
    pub what: String,
    pub bench: Bench,
    pub steps: Vec<Step>,
    pub outs: Vec<Slot>,
    /// In parts of the results' root of the mean square, or of 1 if that is more.
    pub tolerance: f32,
    /// Among the steps are products of quantised weights.
    pub has_products: bool,
}

/// Sets an option of a step.
pub type Change<T> = fn(&mut Bench, &mut T);

impl Case {
    pub fn new(what: impl Into<String>, bench: Bench, steps: Vec<Step>, outs: &[Slot]) -> Self {
        let (what, outs, tolerance) = (what.into(), outs.to_vec(), F32_ROUNDING);
        Case { what, bench, steps, outs, tolerance, has_products: false }
    }

    pub fn within(self, tolerance: f32) -> Self {
        Case { tolerance, ..self }
    }

    pub fn with_products(self) -> Self {
        Case { has_products: true, ..self }
    }

    /// What the oracle computes.
    pub async fn wanted(&self) -> Vec<f32> {
        self.bench.results(&NaiveBackend, &self.steps, &self.outs).await
    }

    /// How a backend whose products are in `arithmetic` is off the oracle, if it is.
    pub async fn fault(&self, backend: &dyn Backend, arithmetic: Arithmetic) -> Option<String> {
        self.fault_beside(&self.wanted().await, backend, arithmetic).await
    }

    /// How a backend is off these values, if it is.
    pub async fn fault_beside(
        &self,
        wanted: &[f32],
        backend: &dyn Backend,
        arithmetic: Arithmetic,
    ) -> Option<String> {
        let tolerance = match arithmetic {
            Arithmetic::F16 if self.has_products => F16_PRODUCTS,
            Arithmetic::Int8 if self.has_products => INT8_PRODUCTS,
            _ => self.tolerance,
        };
        let got = self.bench.results(backend, &self.steps, &self.outs).await;
        let difference = compare(&got, wanted);
        let allowed = tolerance * difference.rms_wanted.max(1.0);
        if difference.rms_wanted < 1e-3 {
            return Some(format!("{}: zeros show nothing", self.what));
        }
        (difference.max_abs > allowed)
            .then(|| format!("{}: {difference}, allowed {allowed:.1e}", self.what))
    }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = rows::all();
    cases.extend(attention::all());
    cases.extend(recurrent::all());
    cases.extend(experts::all());
    cases.extend(tables::all());
    cases
}
