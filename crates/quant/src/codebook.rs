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

/// Which of eight values are negative: their bytes are all ones.
#[derive(Clone, Copy)]
pub(crate) struct Signs(u64);

impl Signs {
    /// Bit `i` is set where value `i` is negative.
    pub(crate) fn new(bits: u8) -> Self {
        static MASKS: [u64; 256] = masks();
        Self(MASKS[usize::from(bits)])
    }

    /// From the lowest seven bits: an even number of values is negative.
    pub(crate) fn even(seven: u32) -> Self {
        static MASKS: [u64; 128] = {
            let all: [u64; 256] = masks();
            let mut masks = [0; 128];
            let mut i = 0;
            while i < 128 {
                masks[i] = all[i | (i.count_ones() as usize & 1) << 7];
                i += 1;
            }
            masks
        };
        Self(MASKS[seven as usize & 127])
    }

    /// `offset - magnitudes[i]` where value `i` is negative, else `offset + magnitudes[i]`.
    ///
    /// No sum may leave the range of a byte.
    pub(crate) fn apply(self, offset: u8, magnitudes: [u8; 8]) -> [u8; 8] {
        let magnitudes = u64::from_le_bytes(magnitudes);
        let positive = u64::from_le_bytes([offset; 8]) + magnitudes;
        (positive - 2 * (magnitudes & self.0)).to_le_bytes()
    }
}

/// For every byte, its bits as bytes that are all ones or zero.
const fn masks() -> [u64; 256] {
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
}

/// Two codebook entries of four values, one after the other.
pub(crate) fn join(first: [u8; 4], second: [u8; 4]) -> [u8; 8] {
    let [first, second] = [first, second].map(|four| u64::from(u32::from_le_bytes(four)));
    (first | second << 32).to_le_bytes()
}
