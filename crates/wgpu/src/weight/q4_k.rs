//! Q4_K: quants in the first plane, `d`, `dmin` and the scales in the second.
//!
//! A block of 144 bytes is `d` and `dmin` (f16), 12 bytes of 6-bit scales and
//! minimums, and 128 bytes of quants: byte `32 i + j` holds value `64 i + j` in its
//! low and value `64 i + 32 + j` in its high bits (`block_q4_K` in ggml
//! `src/ggml-common.h`). The plane holds them in order instead, two to a byte, so
//! that 16 bytes are one group of 32 values.

use realm_gguf::TensorType;

use super::Format;

const HEAD_BYTES: usize = 16;
const QUANT_BYTES: usize = 128;

pub(super) const FORMAT: Format = Format {
    ty: TensorType::Q4_K,
    shader: include_str!("../shaders/formats/q4_k.wgsl"),
    unit: 256,
    plane_bytes: [QUANT_BYTES, HEAD_BYTES],
    repack,
};

fn repack(block: &[u8], [quants, scales]: [&mut [u8]; 2]) {
    let (head, packed) = block.split_at(HEAD_BYTES);
    scales.copy_from_slice(head);
    for (packed, quants) in packed.chunks_exact(32).zip(quants.chunks_exact_mut(32)) {
        let (low, high) = quants.split_at_mut(16);
        for (pair, (low, high)) in packed.chunks_exact(2).zip(low.iter_mut().zip(high)) {
            *low = pair[0] & 15 | pair[1] << 4;
            *high = pair[0] >> 4 | pair[1] & 0xf0;
        }
    }
}
