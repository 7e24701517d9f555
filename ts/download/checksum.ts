/**
 * SHA-256 of a file that grows, taken of what is there from the start without a gap.
 */

/** A checksum that is fed bit by bit. */
export interface Hash {
  update(bytes: Uint8Array): void
  /** In hexadecimal. Once. */
  digest(): string
}

/** Bytes taken at a time: a few hundredths of a second, after which other things get their turn. */
const SLICE_BYTES = 4 << 20

/** Takes the bytes of a file in order. */
export class Checksum {
  readonly #hash: Hash
  #hashedBytes = 0

  constructor(hash: Hash) {
    this.#hash = hash
  }

  /** Goes on to `end`, as far as it has not been there yet. */
  async advance(
    end: number,
    read: (offset: number, length: number) => Uint8Array | Promise<Uint8Array>,
    signal?: AbortSignal,
  ): Promise<void> {
    while (this.#hashedBytes < end) {
      signal?.throwIfAborted()
      const length = Math.min(SLICE_BYTES, end - this.#hashedBytes)
      this.#hash.update(await read(this.#hashedBytes, length))
      this.#hashedBytes += length
      await new Promise((resolve) => setTimeout(resolve))
    }
  }

  /** The checksum in hexadecimal, of what it has seen. Once. */
  digest(): string {
    return this.#hash.digest()
  }
}
