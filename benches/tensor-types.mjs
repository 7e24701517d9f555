/**
 * Random weights, drawn directly as the blocks of GGUF's tensor types.
 *
 * Every word of a tensor is random; what would then be a scale is overwritten,
 * so that the weights have mean 0 and a standard deviation of about 0.02, what
 * trained models have. Layouts: ggml `src/ggml-common.h`.
 */

/** Standard deviation of the weights. */
const WEIGHT_STD = 0.02

/**
 * GGUF's number of a type, values and bytes of a block, and `finish(bytes, halves, nBlocks)`:
 * makes blocks of random bytes into blocks of weights. `halves` is the same memory as u16.
 */
export const TENSOR_TYPES = {
  F16: {
    id: 1,
    blockLength: 1,
    blockBytes: 2,
    // Sign and mantissa stay: magnitudes from 2^-6 to 2^-5, 0.024 rms.
    finish: (_bytes, halves) => {
      for (let i = 0; i < halves.length; i++) halves[i] = (halves[i] & 0x83ff) | (9 << 10)
    },
  },
  Q4_0: {
    id: 2,
    blockLength: 32,
    blockBytes: 18,
    finish: signedScales(18, 0, WEIGHT_STD / rms(16, 8)),
  },
  Q5_0: {
    id: 6,
    blockLength: 32,
    blockBytes: 22,
    finish: signedScales(22, 0, WEIGHT_STD / rms(32, 16)),
  },
  Q8_0: {
    id: 8,
    blockLength: 32,
    blockBytes: 34,
    finish: signedScales(34, 0, WEIGHT_STD / rms(256, 128)),
  },
  Q4_K: { id: 12, blockLength: 256, blockBytes: 144, finish: finishQ4K() },
  Q6_K: {
    id: 14,
    blockLength: 256,
    blockBytes: 210,
    finish: signedScales(210, 208, WEIGHT_STD / (rms(64, 32) * rms(256, 128))),
  },
}

/** About 4 MiB of memory at a time. */
const CHUNK_BYTES = 4 << 20

/** Yields a tensor's bytes, chunk by chunk; each chunk is valid until the next one is asked for. */
export function* randomTensor(type, nValues, seed) {
  const { blockLength, blockBytes, finish } = TENSOR_TYPES[type]
  // A multiple of 4: whole words for every size of block.
  const chunkBlocks = Math.floor(CHUNK_BYTES / blockBytes / 4) * 4
  const words = new Uint32Array((chunkBlocks * blockBytes) / 4)
  let state = seed
  let nBlocksLeft = nValues / blockLength
  while (nBlocksLeft > 0) {
    const nBlocks = Math.min(chunkBlocks, nBlocksLeft)
    const nBytes = nBlocks * blockBytes
    state = fillRandom(words.subarray(0, Math.ceil(nBytes / 4)), state)
    const bytes = new Uint8Array(words.buffer, 0, nBytes)
    finish(bytes, new Uint16Array(words.buffer, 0, nBytes / 2), nBlocks)
    yield bytes
    nBlocksLeft -= nBlocks
  }
}

/** Fills with xorshift32 (Marsaglia 2003); returns the generator's new state. */
export function fillRandom(words, state) {
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    words[i] = state
  }
  return state
}

/** A seed for a name: FNV-1a; never 0, where xorshift32 would stay. */
export function seedOf(name) {
  let hash = 0x811c9dc5
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193)
  return hash | 1
}

/** Root mean square of `u - offset` for uniform integers 0 <= u < n. */
function rms(n, offset) {
  let sum = 0
  for (let u = 0; u < n; u++) sum += (u - offset) ** 2
  return Math.sqrt(sum / n)
}

/**
 * Writes the scale `d` of each block with the sign of the byte that was there: the integers
 * reach one further below 0 than above, and all rows would lean the same way.
 */
function signedScales(blockBytes, offset, d) {
  const scale = toHalf(d)
  return (_bytes, halves, nBlocks) => {
    for (let b = 0; b < nBlocks; b++) {
      const at = (b * blockBytes + offset) / 2
      halves[at] = (halves[at] & 0x8000) | scale
    }
  }
}

/**
 * Q4_K: minimums equal to the scales and `dmin` = 7.5 `d` put the middle of the
 * 16 levels at 0. The 6-bit values are packed as `get_scale_min_k4` reads them.
 */
function finishQ4K() {
  const BLOCK_BYTES = 144
  const d = WEIGHT_STD / (rms(16, 7.5) * rms(64, 0))
  const [scale, minScale] = [toHalf(d), toHalf(7.5 * d)]
  return (bytes, halves, nBlocks) => {
    for (let b = 0; b < nBlocks; b++) {
      const at = b * BLOCK_BYTES
      halves[at / 2] = scale
      halves[at / 2 + 1] = minScale
      bytes.copyWithin(at + 8, at + 4, at + 8)
      for (let i = at + 12; i < at + 16; i++) bytes[i] = (bytes[i] & 15) * 0x11
    }
  }
}

/** Bits of the f16 nearest to a positive number within f16's range. */
function toHalf(value) {
  const exponent = Math.max(Math.floor(Math.log2(value)), -14)
  const mantissa = Math.round(value * 2 ** (10 - exponent))
  // The implicit bit of a normal number carries into the exponent field.
  return mantissa + ((exponent + 14) << 10)
}
