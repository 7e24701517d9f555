//! Keys and values of one head in one page, as the kernels multiply with them.

use half::slice::HalfFloatSliceExt;

use super::kernels::Element;
use crate::kv::{KvShape, Q8Values, SCALED_LEN};
use crate::math;

/// A cache's values in one storage type.
pub(super) trait Pages: Sync {
    type Element: Element;

    /// Keys `[key width][key stride]`; `unpacked` may be written over to hold them.
    fn keys<'a>(&'a self, place: Place<'_>, unpacked: &'a mut Vec<f32>) -> &'a [Self::Element];

    /// Values `[page's positions][value stride]`; `unpacked` as for keys.
    fn values<'a>(&'a self, place: Place<'_>, unpacked: &'a mut Vec<f32>) -> &'a [Self::Element];
}

/// One head of one layer in one page.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub shape: &'a KvShape,
    pub layer: usize,
    pub page: u32,
    pub head: usize,
}

impl<T: Element> Pages for [T] {
    type Element = T;

    fn keys<'a>(&'a self, place: Place<'_>, _unpacked: &'a mut Vec<f32>) -> &'a [T] {
        let Place { shape, layer, page, head } = place;
        &self[shape.keys(layer, page, head)][..]
    }

    fn values<'a>(&'a self, place: Place<'_>, _unpacked: &'a mut Vec<f32>) -> &'a [T] {
        let Place { shape, layer, page, head } = place;
        &self[shape.values(layer, page, head)][..]
    }
}

impl Pages for Q8Values {
    type Element = f32;

    fn keys<'a>(&'a self, place: Place<'_>, unpacked: &'a mut Vec<f32>) -> &'a [f32] {
        let Place { shape, layer, page, head } = place;
        let scales = self.scales.as_slice()[shape.key_scales(layer, page, head)].to_f32_vec();
        let quants = &self.quants.as_slice()[shape.keys(layer, page, head)];
        unpacked.resize(quants.len(), 0.0);
        math::unpack_keys(quants, &scales, shape.key_stride(), SCALED_LEN, unpacked);
        unpacked
    }

    fn values<'a>(&'a self, place: Place<'_>, unpacked: &'a mut Vec<f32>) -> &'a [f32] {
        let Place { shape, layer, page, head } = place;
        let scales = self.scales.as_slice()[shape.value_scales(layer, page, head)].to_f32_vec();
        let quants = &self.quants.as_slice()[shape.values(layer, page, head)];
        unpacked.resize(quants.len(), 0.0);
        math::unpack_values(quants, &scales, shape.value_stride(layer), SCALED_LEN, unpacked);
        unpacked
    }
}
