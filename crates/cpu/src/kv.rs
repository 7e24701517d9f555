//! The paged KV cache.
//!
//! A page holds `page_tokens` positions of every layer, layer after layer: first
//! the keys `[n_kv_heads][key_width][key_stride]`, then the values
//! `[n_kv_heads][page_tokens][value_stride]`. What attention reads for one head
//! is contiguous within a page, and a register takes neighbours: one value of
//! several keys, several values of one position. Strides are rounded up to whole
//! registers. Where values are int8, their scales lie in memory of their own, one per
//! [`SCALED_LEN`] values of a head: of keys `[blocks][key_stride]`, of values
//! `[page_tokens][blocks]`.

use std::ops::Range;

use half::f16;
use realm_ir::{Error, KvLayer, KvLayout, KvType, Result, bytes_of};

use crate::parts::Parts;
use crate::zeroed::Zeroed;

/// Values that rows of keys and values are rounded up to: the widest register.
pub(crate) const LANES: usize = 16;

/// Values of a head that share a scale.
pub(crate) const SCALED_LEN: usize = KvType::BLOCK_LEN;

/// Values of the cache in one storage type.
pub(crate) enum KvValues {
    F32(Zeroed<f32>),
    F16(Zeroed<f16>),
    Q8_0(Q8Values),
}

/// int8 values and their scales.
pub(crate) struct Q8Values {
    pub quants: Zeroed<i8>,
    pub scales: Zeroed<f16>,
}

/// The cache of one session.
pub(crate) struct KvCache {
    values: KvValues,
    shape: KvShape,
}

/// Where things are in the cache.
#[derive(Clone)]
pub(crate) struct KvShape {
    layers: Vec<LayerShape>,
    pub page_tokens: usize,
    /// Values in one page.
    page_len: usize,
    /// Scales in one page.
    page_scales: usize,
}

/// Where one layer is within a page.
#[derive(Clone, Copy)]
struct LayerShape {
    layer: KvLayer,
    /// First key of the layer within a page.
    keys: usize,
    /// First value of the layer within a page.
    values: usize,
    /// The same for scales.
    key_scales: usize,
    value_scales: usize,
}

impl KvCache {
    /// A cache of zeros.
    ///
    /// # Errors
    /// `OutOfMemory` when its size overflows or is not to be had.
    pub fn new(layout: &KvLayout) -> Result<Self> {
        let out_of_memory = |bytes| Error::OutOfMemory { what: "the KV cache".to_owned(), bytes };
        if !is_countable(layout) {
            return Err(out_of_memory(usize::MAX));
        }
        let shape = KvShape::new(layout);
        let len = shape.page_len * layout.n_pages;
        let bytes = len.saturating_mul(layout.ty.bytes());
        let values = match layout.ty {
            KvType::F32 => Zeroed::new(len).map(KvValues::F32),
            KvType::F16 => Zeroed::new(len).map(KvValues::F16),
            KvType::Q8_0 => {
                let scales = Zeroed::new(shape.page_scales * layout.n_pages);
                let both = Zeroed::new(len).zip(scales);
                both.map(|(quants, scales)| KvValues::Q8_0(Q8Values { quants, scales }))
            }
        };
        Ok(KvCache { values: values.ok_or_else(|| out_of_memory(bytes))?, shape })
    }

    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    pub fn values(&self) -> &KvValues {
        &self.values
    }

    /// Copies all layers of a page; both lie in the cache.
    pub fn copy_page(&mut self, from: usize, to: usize) {
        fn copy<T: Copy>(values: &mut [T], len: usize, from: usize, to: usize) {
            values.copy_within(from * len..(from + 1) * len, to * len);
        }
        let len = self.shape.page_len;
        match &mut self.values {
            KvValues::F32(values) => copy(values.as_mut_slice(), len, from, to),
            KvValues::F16(values) => copy(values.as_mut_slice(), len, from, to),
            KvValues::Q8_0(values) => {
                copy(values.quants.as_mut_slice(), len, from, to);
                copy(values.scales.as_mut_slice(), self.shape.page_scales, from, to);
            }
        }
    }

    /// A writer that several threads can use, each for positions of its own.
    pub fn writer(&mut self) -> KvWriter<'_> {
        let parts = match &mut self.values {
            KvValues::F32(values) => WriterParts::F32(Parts::new(values.as_mut_slice())),
            KvValues::F16(values) => WriterParts::F16(Parts::new(values.as_mut_slice())),
            KvValues::Q8_0(values) => WriterParts::Q8_0 {
                quants: Parts::new(values.quants.as_mut_slice()),
                scales: Parts::new(values.scales.as_mut_slice()),
            },
        };
        KvWriter { parts, shape: &self.shape }
    }
}

impl KvShape {
    /// Where things are in a cache of this layout, whose sizes can be counted.
    fn new(layout: &KvLayout) -> Self {
        let mut layers = Vec::with_capacity(layout.layers.len());
        let (mut page_len, mut page_scales) = (0, 0);
        for layer in &layout.layers {
            let keys = page_len;
            let key_stride = layout.page_tokens.next_multiple_of(LANES);
            let value_stride = layer.value_width.next_multiple_of(LANES);
            let values = keys + layer.n_kv_heads * layer.key_width * key_stride;
            page_len = values + layer.n_kv_heads * layout.page_tokens * value_stride;
            let key_scales = page_scales;
            let blocks = layer.key_width.div_ceil(SCALED_LEN);
            let value_scales = key_scales + layer.n_kv_heads * blocks * key_stride;
            let blocks = layer.value_width.div_ceil(SCALED_LEN);
            page_scales = value_scales + layer.n_kv_heads * layout.page_tokens * blocks;
            layers.push(LayerShape { layer: *layer, keys, values, key_scales, value_scales });
        }
        KvShape { layers, page_tokens: layout.page_tokens, page_len, page_scales }
    }

    pub fn layer(&self, layer: usize) -> KvLayer {
        self.layers[layer].layer
    }

    /// Distance of a key's values.
    pub fn key_stride(&self) -> usize {
        self.page_tokens.next_multiple_of(LANES)
    }

    /// Distance of the values of neighbouring positions.
    pub fn value_stride(&self, layer: usize) -> usize {
        self.layer(layer).value_width.next_multiple_of(LANES)
    }

    /// The keys of `head` in `page`.
    pub fn keys(&self, layer: usize, page: u32, head: usize) -> Range<usize> {
        let shape = &self.layers[layer];
        let first = page as usize * self.page_len + shape.keys;
        run(first, shape.layer.key_width * self.key_stride(), head)
    }

    /// The values of `head` in `page`.
    pub fn values(&self, layer: usize, page: u32, head: usize) -> Range<usize> {
        let first = page as usize * self.page_len + self.layers[layer].values;
        run(first, self.page_tokens * self.value_stride(layer), head)
    }

    /// The scales of the keys of `head` in `page`.
    pub fn key_scales(&self, layer: usize, page: u32, head: usize) -> Range<usize> {
        let shape = &self.layers[layer];
        let first = page as usize * self.page_scales + shape.key_scales;
        run(first, shape.layer.key_width.div_ceil(SCALED_LEN) * self.key_stride(), head)
    }

    /// The scales of the values of `head` in `page`.
    pub fn value_scales(&self, layer: usize, page: u32, head: usize) -> Range<usize> {
        let shape = &self.layers[layer];
        let first = page as usize * self.page_scales + shape.value_scales;
        run(first, self.page_tokens * shape.layer.value_width.div_ceil(SCALED_LEN), head)
    }
}

/// Bytes of a cache in its own strides, scales included; `u64::MAX` where they cannot be counted.
pub(crate) fn n_bytes(layout: &KvLayout) -> u64 {
    if !is_countable(layout) {
        return u64::MAX;
    }
    let KvShape { page_len, page_scales, .. } = KvShape::new(layout);
    let scale_bytes = if layout.ty == KvType::Q8_0 { size_of::<f16>() } else { 0 };
    let page = bytes_of(page_len, layout.ty.bytes()) + bytes_of(page_scales, scale_bytes);
    page.saturating_mul(layout.n_pages as u64)
}

/// Whether the number of values of all pages, with rows rounded up to whole registers, is one.
/// There are fewer scales.
fn is_countable(layout: &KvLayout) -> bool {
    let values = |layer: &KvLayer| {
        let keys = layer.key_width.checked_mul(layout.page_tokens.checked_next_multiple_of(LANES)?);
        let values =
            layer.value_width.checked_next_multiple_of(LANES)?.checked_mul(layout.page_tokens);
        keys?.checked_add(values?)?.checked_mul(layer.n_kv_heads)
    };
    let page = layout.layers.iter().try_fold(0usize, |sum, layer| sum.checked_add(values(layer)?));
    page.and_then(|page| page.checked_mul(layout.n_pages)).is_some()
}

/// The `index`-th run of `len` from `first` on.
fn run(first: usize, len: usize, index: usize) -> Range<usize> {
    first + index * len..first + (index + 1) * len
}

/// A scale and the values of a block, which are at most [`SCALED_LEN`]: ggml's
/// `quantize_row_q8_0_ref`, but for ties, which go to even numbers.
fn quantize(values: &[f32]) -> (f16, [i8; SCALED_LEN]) {
    let largest = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut quants = [0; SCALED_LEN];
    for (q, v) in quants.iter_mut().zip(values) {
        *q = (v * inverse).round_ties_even() as i8;
    }
    (f16::from_f32(d), quants)
}

enum WriterParts<'a> {
    F32(Parts<'a, f32>),
    F16(Parts<'a, f16>),
    Q8_0 { quants: Parts<'a, i8>, scales: Parts<'a, f16> },
}

/// Writes keys and values from several threads.
pub(crate) struct KvWriter<'a> {
    parts: WriterParts<'a>,
    shape: &'a KvShape,
}

impl KvWriter<'_> {
    /// Stores one head's key (or value) at `slot` of a page.
    ///
    /// # Safety
    /// No other thread writes to this slot of this page and head.
    pub unsafe fn store_key(&self, layer: usize, page: u32, slot: usize, head: usize, key: &[f32]) {
        let first = self.shape.keys(layer, page, head).start + slot;
        let stride = self.shape.key_stride();
        match &self.parts {
            WriterParts::F32(parts) => {
                for (i, value) in key.iter().enumerate() {
                    // SAFETY: the caller promises that the place is ours.
                    unsafe { parts.set(first + i * stride, *value) };
                }
            }
            WriterParts::F16(parts) => {
                let mut halves = [f16::ZERO; LANES];
                for (chunk, key) in key.chunks(LANES).enumerate() {
                    realm_quant::vector::to_f16(key, &mut halves[..key.len()]);
                    for (i, value) in halves[..key.len()].iter().enumerate() {
                        // SAFETY: the caller promises that the place is ours.
                        unsafe { parts.set(first + (chunk * LANES + i) * stride, *value) };
                    }
                }
            }
            WriterParts::Q8_0 { quants, scales } => {
                let first_scale = self.shape.key_scales(layer, page, head).start + slot;
                for (block, key) in key.chunks(SCALED_LEN).enumerate() {
                    let (d, q) = quantize(key);
                    // SAFETY: the caller promises that the place is ours.
                    unsafe { scales.set(first_scale + block * stride, d) };
                    for (i, q) in q[..key.len()].iter().enumerate() {
                        // SAFETY: the caller promises that the place is ours.
                        unsafe { quants.set(first + (block * SCALED_LEN + i) * stride, *q) };
                    }
                }
            }
        }
    }

    /// Stores one head's value at `slot` of a page.
    ///
    /// # Safety
    /// As for [`KvWriter::store_key`].
    pub unsafe fn store_value(
        &self,
        layer: usize,
        page: u32,
        slot: usize,
        head: usize,
        value: &[f32],
    ) {
        let stride = self.shape.value_stride(layer);
        let first = self.shape.values(layer, page, head).start + slot * stride;
        let range = first..first + value.len();
        match &self.parts {
            // SAFETY: the caller promises that the place is ours.
            WriterParts::F32(parts) => unsafe { parts.part(range) }.copy_from_slice(value),
            WriterParts::F16(parts) => {
                // SAFETY: the caller promises that the place is ours.
                let target = unsafe { parts.part(range) };
                realm_quant::vector::to_f16(value, target);
            }
            WriterParts::Q8_0 { quants, scales } => {
                let n_blocks = value.len().div_ceil(SCALED_LEN);
                let first_scale = self.shape.value_scales(layer, page, head).start;
                for (block, value) in value.chunks(SCALED_LEN).enumerate() {
                    let (d, q) = quantize(value);
                    let at = first + block * SCALED_LEN;
                    // SAFETY: the caller promises that the place is ours.
                    let target = unsafe { quants.part(at..at + value.len()) };
                    target.copy_from_slice(&q[..value.len()]);
                    // SAFETY: the caller promises that the place is ours.
                    unsafe { scales.set(first_scale + slot * n_blocks + block, d) };
                }
            }
        }
    }
}
