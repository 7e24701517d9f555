/**
 * SHA-256 (FIPS 180-4) of bytes that come in pieces, which the browser's own digest does not take.
 */

import type { Hash } from '../../download/checksum.js'

const BLOCK_BYTES = 64
const ROUNDS = 64

/** The first 64 primes. */
const PRIMES: number[] = []
for (let n = 2; PRIMES.length < ROUNDS; n += 1)
  if (PRIMES.every((prime) => n % prime !== 0)) PRIMES.push(n)

/** The first 32 bits behind the point, of which a double holds more than enough. */
const fraction = (x: number) => ((x % 1) * 2 ** 32) | 0
const CONSTANTS = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)))

/** What one block is spread out to. */
const words = new Int32Array(ROUNDS)

const at = (list: Int32Array, i: number) => list[i] as number
const rotated = (x: number, bits: number) => (x >>> bits) | (x << (32 - bits))

export class Sha256 implements Hash {
  readonly #state = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)))
  /** Bytes that wait for the rest of their block. */
  readonly #waiting = new Uint8Array(BLOCK_BYTES)
  #totalBytes = 0

  update(bytes: Uint8Array): void {
    let taken = 0
    while (taken < bytes.length) {
      const start = this.#totalBytes % BLOCK_BYTES
      if (start === 0 && bytes.length - taken >= BLOCK_BYTES) {
        this.#take(bytes, taken)
        taken += BLOCK_BYTES
        this.#totalBytes += BLOCK_BYTES
        continue
      }
      const piece = bytes.subarray(taken, taken + BLOCK_BYTES - start)
      this.#waiting.set(piece, start)
      taken += piece.length
      this.#totalBytes += piece.length
      if (start + piece.length === BLOCK_BYTES) this.#take(this.#waiting, 0)
    }
  }

  digest(): string {
    const bits = BigInt(this.#totalBytes) * 8n
    // One bit, then zeros until 8 bytes are left of a block, which say how many bits there were.
    const end = new Uint8Array(BLOCK_BYTES - ((this.#totalBytes + 8) % BLOCK_BYTES) + 8)
    end[0] = 0x80
    new DataView(end.buffer).setBigUint64(end.length - 8, bits)
    this.update(end)
    return Array.from(this.#state, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('')
  }

  #take(bytes: Uint8Array, start: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + start, BLOCK_BYTES)
    for (let i = 0; i < 16; i += 1) words[i] = view.getInt32(4 * i)
    for (let i = 16; i < ROUNDS; i += 1) {
      const x = at(words, i - 15)
      const y = at(words, i - 2)
      const small0 = rotated(x, 7) ^ rotated(x, 18) ^ (x >>> 3)
      const small1 = rotated(y, 17) ^ rotated(y, 19) ^ (y >>> 10)
      words[i] = at(words, i - 16) + small0 + at(words, i - 7) + small1
    }
    const state = this.#state
    let a = at(state, 0)
    let b = at(state, 1)
    let c = at(state, 2)
    let d = at(state, 3)
    let e = at(state, 4)
    let f = at(state, 5)
    let g = at(state, 6)
    let h = at(state, 7)
    for (let i = 0; i < ROUNDS; i += 1) {
      const big1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)
      const chosen = (e & f) ^ (~e & g)
      const t1 = (h + big1 + chosen + at(CONSTANTS, i) + at(words, i)) | 0
      const big0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)
      const majority = (a & b) ^ (a & c) ^ (b & c)
      h = g
      g = f
      f = e
      e = (d + t1) | 0
      d = c
      c = b
      b = a
      a = (t1 + big0 + majority) | 0
    }
    const sums = [a, b, c, d, e, f, g, h]
    for (let i = 0; i < 8; i += 1) state[i] = at(state, i) + (sums[i] as number)
  }
}
