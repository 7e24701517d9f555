//! The paged cache as nested vectors: layer, page, then one row per position.

use half::f16;
use realm_ir::{KvLayer, KvLayout, KvType};

use super::Matrix;

/// Keys and values of one layer in one page, a row per position.
#[derive(Clone, Debug)]
struct Page {
    keys: Matrix,
    values: Matrix,
}

/// Keys and values of all layers.
#[derive(Clone, Debug)]
pub struct KvCache {
    layout: KvLayout,
    /// `layers[layer][page]`
    layers: Vec<Vec<Page>>,
}

impl KvCache {
    /// A cache of zeros.
    pub fn new(layout: &KvLayout) -> Self {
        let rows = |width| Matrix { width, values: vec![0.0; layout.page_tokens * width] };
        let pages = |layer: &KvLayer| {
            let page = Page {
                keys: rows(layer.n_kv_heads * layer.key_width),
                values: rows(layer.n_kv_heads * layer.value_width),
            };
            vec![page; layout.n_pages]
        };
        KvCache { layers: layout.layers.iter().map(pages).collect(), layout: layout.clone() }
    }

    /// Head counts and widths of a layer.
    pub fn shape(&self, layer: usize) -> KvLayer {
        self.layout.layers[layer]
    }

    /// Stores the keys and values of `position` of the sequence with page table
    /// `pages`, rounded to the cache's type.
    pub fn store(
        &mut self,
        layer: usize,
        pages: &[u32],
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let ty = self.layout.ty;
        let page = &mut self.layers[layer][pages[position / self.layout.page_tokens] as usize];
        let row = position % self.layout.page_tokens;
        let KvLayer { key_width, value_width, .. } = self.layout.layers[layer];
        round_into(ty, key_width, key, page.keys.row_mut(row));
        round_into(ty, value_width, value, page.values.row_mut(row));
    }

    /// Key of one head, `[key_width]`.
    pub fn key(&self, layer: usize, pages: &[u32], position: usize, kv_head: usize) -> &[f32] {
        let page = &self.layers[layer][pages[position / self.layout.page_tokens] as usize];
        let width = self.layout.layers[layer].key_width;
        &page.keys.row(position % self.layout.page_tokens)[kv_head * width..][..width]
    }

    /// Value of one head, `[value_width]`.
    pub fn value(&self, layer: usize, pages: &[u32], position: usize, kv_head: usize) -> &[f32] {
        let page = &self.layers[layer][pages[position / self.layout.page_tokens] as usize];
        let width = self.layout.layers[layer].value_width;
        &page.values.row(position % self.layout.page_tokens)[kv_head * width..][..width]
    }

    /// Copies a page in every layer.
    pub fn copy_page(&mut self, from: usize, to: usize) {
        for pages in &mut self.layers {
            pages[to] = pages[from].clone();
        }
    }
}

/// Rounds all heads of `head_width` values to what the cache keeps of them.
fn round_into(ty: KvType, head_width: usize, from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "one value per column of the cache");
    let heads = to.chunks_mut(head_width).zip(from.chunks(head_width));
    for (to, from) in heads {
        match ty {
            KvType::F32 => to.copy_from_slice(from),
            KvType::F16 => {
                to.iter_mut().zip(from).for_each(|(to, v)| *to = f16::from_f32(*v).to_f32());
            }
            KvType::Q8_0 => {
                let blocks = to.chunks_mut(KvType::BLOCK_LEN).zip(from.chunks(KvType::BLOCK_LEN));
                blocks.for_each(|(to, from)| round_block(from, to));
            }
        }
    }
}

/// `quantize_row_q8_0_ref` of ggml's `src/ggml-quants.c`, and back.
fn round_block(from: &[f32], to: &mut [f32]) {
    let largest = from.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let d = largest / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let stored = f16::from_f32(d).to_f32();
    to.iter_mut().zip(from).for_each(|(to, v)| *to = (v * inverse).round() * stored);
}
