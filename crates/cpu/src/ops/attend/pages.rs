//! Keys and values of one head in one page, as the kernels multiply with them.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use realm_quant::{Element, Level};

use super::kernels;
use crate::kv::{KvShape, Q8Values, SCALED_LEN};
use crate::math;

/// A cache's values in one storage type.
pub(super) trait Pages: Sync {
    type Element: Element;

    /// Keys `[key width][key stride]`, or values `[page's positions][value stride]`, of which
    /// `n_uses` blocks of query rows make use; `unpacked` may be written over to hold them.
    fn run<'a>(
        &'a self,
        level: Level,
        place: Place<'_>,
        n_uses: usize,
        unpacked: &'a mut Vec<f32>,
    ) -> Run<'a, Self::Element>;

    /// The memory that [`Pages::run`] reads, but for scales.
    fn stored(&self, place: Place<'_>) -> &[u8];
}

/// Uses from which on it pays to bring f16 into f32 first. Measured on Zen 4, where products
/// with f16 take a fifth longer.
const USES_WORTH_UNPACKING: usize = 3;

/// What [`Pages::run`] gives.
pub(super) enum Run<'a, T> {
    Stored(&'a [T]),
    Unpacked(&'a [f32]),
}

/// What a page holds of a head.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Keys,
    Values,
}

/// Keys or values of one head of one layer in one page.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub shape: &'a KvShape,
    pub layer: usize,
    pub page: u32,
    pub head: usize,
    pub kind: Kind,
}

impl Place<'_> {
    /// Where they are in the cache.
    fn range(self) -> Range<usize> {
        match self.kind {
            Kind::Keys => self.shape.keys(self.layer, self.page, self.head),
            Kind::Values => self.shape.values(self.layer, self.page, self.head),
        }
    }
}

impl Pages for [f32] {
    type Element = f32;

    fn run<'a>(
        &'a self,
        _: Level,
        place: Place<'_>,
        _: usize,
        _: &'a mut Vec<f32>,
    ) -> Run<'a, f32> {
        Run::Stored(&self[place.range()])
    }

    fn stored(&self, place: Place<'_>) -> &[u8] {
        bytemuck::cast_slice(&self[place.range()])
    }
}

impl Pages for [f16] {
    type Element = f16;

    fn run<'a>(
        &'a self,
        level: Level,
        place: Place<'_>,
        n_uses: usize,
        unpacked: &'a mut Vec<f32>,
    ) -> Run<'a, f16> {
        let halves = &self[place.range()];
        if n_uses < USES_WORTH_UNPACKING {
            return Run::Stored(halves);
        }
        unpacked.resize(halves.len(), 0.0);
        kernels::unpack(level, halves, unpacked);
        Run::Unpacked(unpacked)
    }

    fn stored(&self, place: Place<'_>) -> &[u8] {
        bytemuck::cast_slice(&self[place.range()])
    }
}

impl Pages for Q8Values {
    type Element = f32;

    fn run<'a>(
        &'a self,
        level: Level,
        place: Place<'_>,
        _n_uses: usize,
        unpacked: &'a mut Vec<f32>,
    ) -> Run<'a, f32> {
        let Place { shape, layer, page, head, kind } = place;
        let quants = &self.quants.as_slice()[place.range()];
        let scales = self.scales.as_slice();
        unpacked.resize(quants.len(), 0.0);
        if kind == Kind::Keys {
            let scales = scales[shape.key_scales(layer, page, head)].to_f32_vec();
            math::unpack_keys(level, quants, &scales, shape.key_stride(), SCALED_LEN, unpacked);
        } else {
            let scales = scales[shape.value_scales(layer, page, head)].to_f32_vec();
            let stride = shape.value_stride(layer);
            math::unpack_values(level, quants, &scales, stride, SCALED_LEN, unpacked);
        }
        Run::Unpacked(unpacked)
    }

    fn stored(&self, place: Place<'_>) -> &[u8] {
        bytemuck::cast_slice(&self.quants.as_slice()[place.range()])
    }
}
