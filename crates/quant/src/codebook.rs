//! What the IQ formats share: codebooks, and signs kept apart from magnitudes.

/// Unpacks a codebook: every entry of `packed` is `WIDTH` indices into `values`,
/// `bits` wide, the first one lowest.
pub(crate) const fn expand<const N: usize, const WIDTH: usize>(
    packed: &[u16; N],
    bits: u32,
    values: &[u8],
) -> [[u8; WIDTH]; N] {
    let mut grid = [[0; WIDTH]; N];
    let mut i = 0;
    while i < N {
        let mut j = 0;
        while j < WIDTH {
            let index = packed[i] >> (bits * j as u32) & ((1 << bits) - 1);
            grid[i][j] = values[index as usize];
            j += 1;
        }
        i += 1;
    }
    grid
}

/// `offset - magnitudes[i]` where bit `i` of `signs` is set, else `offset + magnitudes[i]`.
pub(crate) fn signed(offset: u8, magnitudes: [u8; 8], signs: u8) -> [u8; 8] {
    std::array::from_fn(|i| {
        if signs >> i & 1 == 1 { offset - magnitudes[i] } else { offset + magnitudes[i] }
    })
}

/// The entries of two codebook lines of four values, one after the other.
pub(crate) fn join(first: [u8; 4], second: [u8; 4]) -> [u8; 8] {
    std::array::from_fn(|i| if i < 4 { first[i] } else { second[i - 4] })
}

/// Eight signs of which seven are stored: an even number of them is set.
pub(crate) fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() as u8 & 1) << 7)
}
