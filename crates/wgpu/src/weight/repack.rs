//! A file's blocks dealt out into planes.
//!
//! Word `i` of a group is values `4 i` to `4 i + 3`, one to a byte, `i` in `0..8`. In a plane of
//! 8 bits these are the words. In one of 4 bits word `w` has `w` in the low and `w + 4` in the
//! high nibbles of its bytes; in one of 2 bits two words have four each, in one of 1 bit one
//! word has all eight. So shaders get four values at once with a shift and a mask.

use half::f16;
use realm_quant::Group;

use super::format::{BLOCK_GROUPS, Quants, Scales};

/// The planes of some groups: low bits, high bits, scales of groups, scales of blocks.
#[derive(Default)]
pub(super) struct Planes(pub [Vec<u32>; 4]);

/// Fills `planes` from `groups`, which are whole blocks where the format has them.
pub(super) fn repack(quants: &Quants, groups: &[Group], planes: &mut Planes) {
    let [low, high, scales, blocks] = &mut planes.0;
    for plane in [&mut *low, &mut *high, &mut *scales, &mut *blocks] {
        plane.clear();
    }
    let places = quants.book.map(places);
    for group in groups {
        let stored = group.quants.map(|quant| match &places {
            Some(places) => places[usize::from(quant as u8)],
            None => (i32::from(quant) + quants.offset) as u8,
        });
        push_bits(low, quants.low_bits, 0, &stored);
        push_bits(high, quants.high_bits, quants.low_bits, &stored);
    }
    let mut bytes = Vec::with_capacity(groups.len() * quants.scales.group_bytes() + 4);
    for group in groups {
        push_scales(quants, group, &mut bytes);
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    scales.extend(bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)));
    if quants.scales.has_blocks() {
        let of_block = |block: &[Group]| {
            let half = |value: f32| u32::from(f16::from_f32(value).to_bits());
            half(block[0].d[0] / quants.factor) | half(block[0].dmin) << 16
        };
        blocks.extend(groups.chunks(BLOCK_GROUPS).map(of_block));
    }
}

/// The words of a whole weight.
pub(crate) fn pack(quants: &Quants, groups: &[Group]) -> Vec<u32> {
    let mut planes = Planes::default();
    repack(quants, groups, &mut planes);
    planes.0.concat()
}

/// Of every quant its place in the book.
fn places(book: &[i8; 16]) -> [u8; 256] {
    let mut places = [0; 256];
    for (place, quant) in book.iter().enumerate().rev() {
        places[usize::from(*quant as u8)] = place as u8;
    }
    places
}

/// Adds the words of one group to a plane of `bits` bits, those from bit `first` on.
fn push_bits(plane: &mut Vec<u32>, bits: u32, first: u32, stored: &[u8; Group::LEN]) {
    let mask = ((1u32 << bits) - 1) * 0x0101_0101;
    let words = |i: usize| {
        let word = u32::from_le_bytes(stored.as_chunks().0[i]);
        word >> first & mask
    };
    match bits {
        0 => {}
        1 => plane.push((0..8).map(|i| words(i) << i).fold(0, |all, word| all | word)),
        2 => plane.extend([0, 4].map(|half| {
            (0..4).map(|i| words(half + i) << (2 * i)).fold(0, |all, word| all | word)
        })),
        4 => plane.extend((0..4).map(|w| words(w) | words(w + 4) << 4)),
        _ => plane.extend((0..8).map(words)),
    }
}

fn push_scales(quants: &Quants, group: &Group, bytes: &mut Vec<u8>) {
    let half = |value: f32| f16::from_f32(value).to_le_bytes();
    let [scales, mins] = [group.scales.map(|scale| scale as u8), group.mins];
    match quants.scales {
        Scales::Half => bytes.extend(half(group.d[0])),
        Scales::HalfAndMinimum => {
            bytes.extend(half(group.d[0]));
            bytes.extend(half(-group.dmin));
        }
        Scales::Halves => bytes.extend(group.d.map(half).as_flattened()),
        // The scale is half of the exponent's power.
        Scales::Power => bytes.push((group.d[0].to_bits() >> 23) as u8),
        Scales::Bytes => bytes.extend(scales),
        Scales::BytesAndMinimums => bytes.extend([scales[0], mins[0]]),
        Scales::NibblesAndMinimums => {
            bytes.extend([scales[0] | mins[0] << 4, scales[1] | mins[1] << 4]);
        }
    }
}
