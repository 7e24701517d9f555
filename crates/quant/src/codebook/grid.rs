//! Codebooks in memory, and looking values up in them.

use crate::block256::LEN;
use crate::simd::Simd;

/// The static `$name` of a codebook's entries, from the distances between them; see [`expand`].
///
/// Programs hold the entries. A module for pages is downloaded with the distances, which are an
/// eighth of that, and makes the entries when they are first asked for.
macro_rules! codebook {
    (pub $name:ident: $entries:ty = $steps:ident, $bits:literal, $values:expr) => {
        /// The values of every entry.
        #[cfg(not(target_family = "wasm"))]
        pub static $name: $entries = $crate::codebook::expand(&$steps, $bits, $values);

        /// The values of every entry.
        #[cfg(target_family = "wasm")]
        pub static $name: std::sync::LazyLock<Box<$entries>> = std::sync::LazyLock::new(|| {
            Box::new($crate::codebook::expand(&$steps, $bits, $values))
        });
    };
}

pub(crate) use codebook;

/// Unpacks a codebook. Every entry is a number of `WIDTH` indices into `values`, `bits` wide,
/// the first one lowest; `steps` are the distances from one number to the next, in groups of
/// seven bits, the lowest first, with a bit above where there are more.
pub(crate) const fn expand<const N: usize, const WIDTH: usize>(
    steps: &[u8],
    bits: u32,
    values: &[u8],
) -> [[u8; WIDTH]; N] {
    let mut grid = [[0; WIDTH]; N];
    let (mut packed, mut shift) = (0, 0);
    let (mut i, mut at) = (0, 0);
    while at < steps.len() {
        packed += (steps[at] as usize & 127) << shift;
        shift += 7;
        if steps[at] < 128 {
            let mut j = 0;
            while j < WIDTH {
                let index = packed >> (bits * j as u32) & ((1 << bits) - 1);
                grid[i][j] = values[index];
                j += 1;
            }
            (i, shift) = (i + 1, 0);
        }
        at += 1;
    }
    grid
}

/// For every byte, its bits as bytes that are all ones or zero.
pub(super) static MASKS: [u64; 256] = {
    let mut masks = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut bit = 0;
        while bit < 8 {
            if i >> bit & 1 == 1 {
                masks[i] |= 0xff << (8 * bit);
            }
            bit += 1;
        }
        i += 1;
    }
    masks
};

/// An entry of a codebook.
pub(crate) trait Entry: Copy + 'static {
    /// The indices of a block.
    type Indices;

    /// Values `8 * at..8 * at + 8` of a block, the first one lowest.
    fn eight(grid: &'static [Self], indices: &Self::Indices, at: usize) -> u64;

    /// Vector `at` of a block's values, one after another.
    ///
    /// Implementations are `#[inline(always)]`.
    fn vector<S: Simd>(s: S, grid: &'static [Self], indices: &Self::Indices, at: usize) -> S::I;
}

impl Entry for [u8; 8] {
    type Indices = [u16; LEN / 8];

    #[inline(always)]
    fn eight(grid: &'static [Self], indices: &Self::Indices, at: usize) -> u64 {
        u64::from_le_bytes(*entry(grid, &indices[at]))
    }

    #[inline(always)]
    fn vector<S: Simd>(s: S, grid: &'static [Self], indices: &Self::Indices, at: usize) -> S::I {
        s.collect_eights(|i| entry(grid, &indices[S::LANES / 2 * at + i]))
    }
}

impl Entry for [u8; 4] {
    type Indices = [u16; LEN / 4];

    #[inline(always)]
    fn eight(grid: &'static [Self], indices: &Self::Indices, at: usize) -> u64 {
        let four = |i| u64::from(u32::from_le_bytes(*entry(grid, &indices[i])));
        four(2 * at) | four(2 * at + 1) << 32
    }

    #[inline(always)]
    fn vector<S: Simd>(s: S, grid: &'static [Self], indices: &Self::Indices, at: usize) -> S::I {
        s.collect_fours(|i| entry(grid, &indices[S::LANES * at + i]))
    }
}

/// The entry that an index's lowest bits say.
#[inline(always)]
fn entry<'a, E>(grid: &'a [E], index: &u16) -> &'a E {
    debug_assert!(grid.len().is_power_of_two());
    // SAFETY: a reference can be read. Volatile, so that the compiler leaves indices in
    // memory: it is slow to take them one by one out of the vector they are made in.
    let index = unsafe { std::ptr::from_ref(index).read_volatile() };
    &grid[usize::from(index) & (grid.len() - 1)]
}
