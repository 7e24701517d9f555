/**
 * SHA-256 of a file that grows, taken of what is there from the start without a gap.
 *
 * The browser's own digest wants all bytes at once, which a model is too large for.
 */

import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'

/** Bytes read at a time: a few hundredths of a second, after which the worker can do other things. */
const SLICE_BYTES = 4 << 20

/** Takes the bytes of a file in order. */
export class Checksum {
  readonly #hash = sha256.create()
  #hashedBytes = 0

  /** Goes on to `end`, as far as it has not been there yet. */
  async advance(
    end: number,
    read: (offset: number, length: number) => Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    while (this.#hashedBytes < end) {
      signal?.throwIfAborted()
      const length = Math.min(SLICE_BYTES, end - this.#hashedBytes)
      this.#hash.update(read(this.#hashedBytes, length))
      this.#hashedBytes += length
      await new Promise((resolve) => setTimeout(resolve))
    }
  }

  /** The checksum in hexadecimal, of what it has seen. Once. */
  digest(): string {
    return bytesToHex(this.#hash.digest())
  }
}

/** A short name for a text, safe on every file system: the start of its SHA-256. */
export function shortHash(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text))).slice(0, 24)
}
