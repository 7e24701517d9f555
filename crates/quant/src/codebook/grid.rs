//! Codebooks in memory, and looking values up in them.

use crate::block256::LEN;
use crate::simd::{Simd, Table};

/// The statics of a codebook, from the distances between its entries as numbers: `GRID`, the
/// entries, and `NUMBERS`; and what the numbers' digits are places in, `VALUES`.
///
/// Programs hold the entries. A module for pages is downloaded with the distances, which are an
/// eighth of that, and makes the entries when they are first asked for.
macro_rules! codebook {
    ([[u8; $width:literal]; $n:literal] = $steps:ident, $values:expr) => {
        /// What the digits of a number are places in.
        pub const VALUES: &[u8] = $values;

        /// Every entry as a number.
        pub static NUMBERS: $crate::simd::Table<{ $n / 64 }> = $crate::codebook::numbers(&$steps);

        /// The values of every entry.
        #[cfg(not(target_family = "wasm"))]
        pub static GRID: [[u8; $width]; $n] = $crate::codebook::expand(&NUMBERS, VALUES);

        /// The values of every entry.
        #[cfg(target_family = "wasm")]
        pub static GRID: std::sync::LazyLock<Box<[[u8; $width]; $n]>> =
            std::sync::LazyLock::new(|| {
                let numbers = $crate::codebook::numbers::<{ $n / 64 }>(&$steps);
                Box::new($crate::codebook::expand(&numbers, VALUES))
            });
    };
}

pub(crate) use codebook;

/// The numbers of a codebook. A number has a digit per value of its entry, the first one lowest,
/// [`Entry::BITS`] wide. `steps` are the distances from one number to the next, in groups of
/// seven bits, the lowest first, with a bit above where there are more.
pub(crate) const fn numbers<const PAIRS: usize>(steps: &[u8]) -> Table<PAIRS> {
    let mut numbers = [[0; 64]; PAIRS];
    let (mut number, mut shift) = (0, 0);
    let (mut i, mut at) = (0, 0);
    while at < steps.len() {
        number += (steps[at] as u16 & 127) << shift;
        shift += 7;
        if steps[at] < 128 {
            numbers[i / 64][i % 64] = number;
            (i, shift) = (i + 1, 0);
        }
        at += 1;
    }
    Table(numbers)
}

/// The entries of a codebook.
pub(crate) const fn expand<const PAIRS: usize, const N: usize, const WIDTH: usize>(
    numbers: &Table<PAIRS>,
    values: &[u8],
) -> [[u8; WIDTH]; N] {
    let bits = digit_bits(WIDTH);
    let mut grid = [[0; WIDTH]; N];
    let mut i = 0;
    while i < N {
        let mut j = 0;
        while j < WIDTH {
            let place = numbers.0[i / 64][i % 64] >> (bits * j) & ((1 << bits) - 1);
            grid[i][j] = values[place as usize];
            j += 1;
        }
        i += 1;
    }
    grid
}

/// Bits of a digit of the numbers of entries of so many values.
const fn digit_bits(width: usize) -> usize {
    if width == 8 { 2 } else { 3 }
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

/// A codebook as numbers.
pub(crate) trait Numbers: 'static {
    /// Those that 32 indices ask for.
    ///
    /// Implementations are `#[inline(always)]`.
    fn look_up<S: Simd>(&self, s: S, indices: &[u16; 32]) -> S::I;
}

impl<const PAIRS: usize> Numbers for Table<PAIRS> {
    #[inline(always)]
    fn look_up<S: Simd>(&self, s: S, indices: &[u16; 32]) -> S::I {
        s.numbers(self, indices)
    }
}

/// An entry of a codebook.
pub(crate) trait Entry: Copy + 'static {
    /// The indices of a block.
    type Indices;
    /// Bits of a digit of an entry's number.
    const BITS: usize;
    /// For each vector of values that 32 entries make, which bytes of their numbers its bytes
    /// come from, as [`Simd::decode`] wants them; and the bit where a byte's digit begins.
    const DIGITS: (&'static [[u8; 64]], [u8; 8]);

    /// The numbers of a block's entries, 32 in a vector; the second vector may be empty.
    ///
    /// Implementations are `#[inline(always)]`.
    fn numbers<S: Simd, N: Numbers>(s: S, table: &N, indices: &Self::Indices) -> [S::I; 2];

    /// Values `8 * at..8 * at + 8` of a block, the first one lowest.
    fn eight(grid: &'static [Self], indices: &Self::Indices, at: usize) -> u64;

    /// Vector `at` of a block's values, one after another.
    ///
    /// Implementations are `#[inline(always)]`.
    fn vector<S: Simd>(s: S, grid: &'static [Self], indices: &Self::Indices, at: usize) -> S::I;
}

impl Entry for [u8; 8] {
    type Indices = [u16; LEN / 8];
    const BITS: usize = digit_bits(8);
    const DIGITS: (&'static [[u8; 64]], [u8; 8]) =
        (&[which(8, 0), which(8, 1), which(8, 2), which(8, 3)], [0, 2, 4, 6, 8, 10, 12, 14]);

    #[inline(always)]
    fn numbers<S: Simd, N: Numbers>(s: S, table: &N, indices: &Self::Indices) -> [S::I; 2] {
        [table.look_up(s, indices), s.splat(0)]
    }

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
    const BITS: usize = digit_bits(4);
    const DIGITS: (&'static [[u8; 64]], [u8; 8]) =
        (&[which(4, 0), which(4, 1)], [0, 3, 6, 9, 32, 35, 38, 41]);

    #[inline(always)]
    fn numbers<S: Simd, N: Numbers>(s: S, table: &N, indices: &Self::Indices) -> [S::I; 2] {
        let (halves, _) = indices.as_chunks::<32>();
        [table.look_up(s, &halves[0]), table.look_up(s, &halves[1])]
    }

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

/// In each 8 bytes the number of one entry of eight values, or at bits 0 and 32 those of two of
/// four: which bytes of the numbers vector `at` of values takes.
const fn which(width: usize, at: usize) -> [u8; 64] {
    let mut which = [0; 64];
    let mut i = 0;
    while i < 64 {
        which[i] = (2 * (64 / width * at + i / width) + i % 2) as u8;
        i += 1;
    }
    which
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
