//! The paged KV cache.
//!
//! A page holds `page_tokens` positions of every layer, layer after layer: first
//! the keys `[n_kv_heads][key_width][key_stride]`, then the values
//! `[n_kv_heads][page_tokens][value_stride]`. What attention reads for one head
//! is contiguous within a page, and a register takes neighbours: one value of
//! several keys, several values of one position. Strides are rounded up to whole
//! registers.

use half::f16;
use realm_ir::{Error, KvLayer, KvLayout, KvType, Result};

use crate::parts::Parts;
use crate::zeroed::Zeroed;

/// Values that rows of keys and values are rounded up to: the widest register.
pub(crate) const LANES: usize = 16;

/// Values of the cache in one storage type.
pub(crate) enum KvValues {
    F32(Zeroed<f32>),
    F16(Zeroed<f16>),
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
}

/// Where one layer is within a page.
#[derive(Clone, Copy)]
struct LayerShape {
    layer: KvLayer,
    /// First key of the layer within a page.
    keys: usize,
    /// First value of the layer within a page.
    values: usize,
}

impl KvCache {
    /// A cache of zeros.
    ///
    /// # Errors
    /// `OutOfMemory` when its size overflows or is not to be had.
    pub fn new(layout: &KvLayout) -> Result<Self> {
        let out_of_memory = |bytes| Error::OutOfMemory { what: "the KV cache".to_owned(), bytes };
        let mut layers = Vec::with_capacity(layout.layers.len());
        let mut page_len = 0;
        for layer in &layout.layers {
            let keys = page_len;
            let key_stride = layout.page_tokens.next_multiple_of(LANES);
            let value_stride = layer.value_width.next_multiple_of(LANES);
            let values = keys + layer.n_kv_heads * layer.key_width * key_stride;
            page_len = values + layer.n_kv_heads * layout.page_tokens * value_stride;
            layers.push(LayerShape { layer: *layer, keys, values });
        }
        let len = page_len.checked_mul(layout.n_pages).ok_or_else(|| out_of_memory(usize::MAX))?;
        let bytes = len.saturating_mul(layout.ty.bytes());
        let values = match layout.ty {
            KvType::F32 => Zeroed::new(len).map(KvValues::F32),
            KvType::F16 => Zeroed::new(len).map(KvValues::F16),
        };
        Ok(KvCache {
            values: values.ok_or_else(|| out_of_memory(bytes))?,
            shape: KvShape { layers, page_tokens: layout.page_tokens, page_len },
        })
    }

    pub fn shape(&self) -> &KvShape {
        &self.shape
    }

    pub fn values(&self) -> &KvValues {
        &self.values
    }

    /// Copies all layers of a page; both lie in the cache.
    pub fn copy_page(&mut self, from: usize, to: usize) {
        let len = self.shape.page_len;
        let source = from * len..(from + 1) * len;
        match &mut self.values {
            KvValues::F32(values) => values.as_mut_slice().copy_within(source, to * len),
            KvValues::F16(values) => values.as_mut_slice().copy_within(source, to * len),
        }
    }

    /// A writer that several threads can use, each for positions of its own.
    pub fn writer(&mut self) -> KvWriter<'_> {
        let parts = match &mut self.values {
            KvValues::F32(values) => WriterParts::F32(Parts::new(values.as_mut_slice())),
            KvValues::F16(values) => WriterParts::F16(Parts::new(values.as_mut_slice())),
        };
        KvWriter { parts, shape: &self.shape }
    }
}

impl KvShape {
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

    /// First value of the keys of `head` in `page`.
    pub fn keys(&self, layer: usize, page: u32, head: usize) -> usize {
        let shape = &self.layers[layer];
        let before = shape.keys + head * shape.layer.key_width * self.key_stride();
        page as usize * self.page_len + before
    }

    /// First value of the values of `head` in `page`.
    pub fn values(&self, layer: usize, page: u32, head: usize) -> usize {
        let shape = &self.layers[layer];
        let before = shape.values + head * self.page_tokens * self.value_stride(layer);
        page as usize * self.page_len + before
    }
}

enum WriterParts<'a> {
    F32(Parts<'a, f32>),
    F16(Parts<'a, f16>),
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
        let first = self.shape.keys(layer, page, head) + slot;
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
        let first = self.shape.values(layer, page, head) + slot * stride;
        let range = first..first + value.len();
        match &self.parts {
            // SAFETY: the caller promises that the place is ours.
            WriterParts::F32(parts) => unsafe { parts.part(range) }.copy_from_slice(value),
            WriterParts::F16(parts) => {
                // SAFETY: the caller promises that the place is ours.
                let target = unsafe { parts.part(range) };
                realm_quant::vector::to_f16(value, target);
            }
        }
    }
}
