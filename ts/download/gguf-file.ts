/**
 * Whether a file is a whole GGUF file, by its header: it begins as one, and it is as long as its
 * tensors say. What is in it is for the engine to judge.
 *
 * Layout: `docs/gguf.md` of the ggml repository.
 */

/** Reads bytes of the file; fewer than asked for only where it ends. */
export type ReadBytes = (offset: number, length: number) => Uint8Array | Promise<Uint8Array>

const MAGIC = 'GGUF'

/** Versions whose counts are of 64 bits. Others are for the engine to refuse. */
const VERSIONS = [2, 3]

/** Bytes of a header that are looked at: as many as the engine reads. */
const MAX_HEADER_BYTES = 256 << 20

/** Bytes that are read first; most headers need some more, for their vocabulary. */
const FIRST_BYTES = 1 << 20

const DEFAULT_ALIGNMENT = 32

/** Levels of arrays in arrays that are looked into. */
const MAX_DEPTH = 4

/** Bytes of a metadata value by its type; strings (8) and arrays (9) say their own. */
const VALUE_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8]
const UINT32 = 4
const STRING = 8
const ARRAY = 9

/** Values and bytes of a block by the type of a tensor: ids and sizes of ggml's `ggml_type`. */
export const BLOCKS: Readonly<Record<number, readonly [values: number, bytes: number]>> = {
  0: [1, 4],
  1: [1, 2],
  2: [32, 18],
  3: [32, 20],
  6: [32, 22],
  7: [32, 24],
  8: [32, 34],
  9: [32, 36],
  10: [256, 84],
  11: [256, 110],
  12: [256, 144],
  13: [256, 176],
  14: [256, 210],
  15: [256, 292],
  16: [256, 66],
  17: [256, 74],
  18: [256, 98],
  19: [256, 50],
  20: [32, 18],
  21: [256, 110],
  22: [256, 82],
  23: [256, 136],
  24: [1, 1],
  25: [1, 2],
  26: [1, 4],
  27: [1, 8],
  28: [1, 8],
  29: [256, 56],
  30: [1, 2],
  34: [256, 54],
  35: [256, 66],
  39: [32, 17],
  40: [64, 36],
  41: [128, 18],
  42: [64, 18],
}

/** What is wrong with the beginning of a file; undefined where it begins as a GGUF file. */
export function faultOfStart(start: Uint8Array): string | undefined {
  const found = new TextDecoder('latin1').decode(start.subarray(0, MAGIC.length))
  return found === MAGIC ? undefined : `no GGUF file: it begins with ${JSON.stringify(found)}`
}

/**
 * What is wrong with a file of so many bytes; undefined where it is whole, or where its header is
 * of a kind that only the engine can judge.
 */
export async function faultOfFile(size: number, read: ReadBytes): Promise<string | undefined> {
  const limit = Math.min(size, MAX_HEADER_BYTES)
  for (let length = Math.min(FIRST_BYTES, limit); ; length = Math.min(2 * length, limit)) {
    const head = await read(0, length)
    const fault = faultOfStart(head)
    if (fault !== undefined) return fault
    const extent = new Header(head).extent()
    if (extent !== 'beyond') {
      const isWhole = extent === undefined || extent <= size
      return isWhole ? undefined : `it ends after ${size} bytes, its header tells of ${extent}`
    }
    if (length < limit) continue
    return length < size ? undefined : `it ends after ${size} bytes, within its header`
  }
}

/** What a header needs is behind the bytes that are there. */
class Beyond extends Error {}

/** The beginning of a file, read from the front to the back. */
class Header {
  readonly #view: DataView
  #at = MAGIC.length
  #alignment = DEFAULT_ALIGNMENT

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** Bytes that the file must have; undefined where that cannot be told. */
  extent(): number | 'beyond' | undefined {
    try {
      return this.#extent()
    } catch (error) {
      if (error instanceof Beyond) return 'beyond'
      throw error
    }
  }

  #extent(): number | undefined {
    if (!VERSIONS.includes(this.#u32())) return undefined
    const [tensors, pairs] = [this.#u64(), this.#u64()]
    for (let i = 0; i < pairs; i += 1) if (!this.#skipPair()) return undefined
    let dataBytes = 0
    for (let i = 0; i < tensors; i += 1) dataBytes = Math.max(dataBytes, this.#tensorEnd())
    const data = Math.ceil(this.#at / this.#alignment) * this.#alignment
    return dataBytes === 0 ? this.#at : data + dataBytes
  }

  /** A key and its value. Returns false for a type that is not known. */
  #skipPair(): boolean {
    const key = this.#string()
    const type = this.#u32()
    if (key === 'general.alignment' && type === UINT32) {
      this.#alignment = this.#u32() || DEFAULT_ALIGNMENT
      return true
    }
    return this.#skipValues(type, 1, 0)
  }

  #skipValues(type: number, count: number, depth: number): boolean {
    const bytes = VALUE_BYTES[type]
    if (bytes !== undefined) {
      this.#skip(bytes * count)
      return true
    }
    const isNested = type === ARRAY && depth < MAX_DEPTH
    if (type !== STRING && !isNested) return false
    for (let i = 0; i < count; i += 1) {
      if (type === STRING) this.#skip(this.#u64())
      else if (!this.#skipValues(this.#u32(), this.#u64(), depth + 1)) return false
    }
    return true
  }

  /** Where a tensor ends, counted from the beginning of the data; of an unknown type where it begins. */
  #tensorEnd(): number {
    this.#skip(this.#u64())
    const dimensions = this.#u32()
    let values = 1
    for (let i = 0; i < dimensions; i += 1) values *= this.#u64()
    const [blockValues, blockBytes] = BLOCKS[this.#u32()] ?? [1, 0]
    return this.#u64() + Math.ceil(values / blockValues) * blockBytes
  }

  #string(): string {
    const length = this.#u64()
    const at = this.#skip(length)
    return new TextDecoder().decode(
      new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, length),
    )
  }

  #u32(): number {
    return this.#view.getUint32(this.#skip(4), true)
  }

  #u64(): number {
    const at = this.#skip(8)
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32
  }

  /** Where the bytes are that it goes past. */
  #skip(bytes: number): number {
    const at = this.#at
    if (at + bytes > this.#view.byteLength) throw new Beyond()
    this.#at = at + bytes
    return at
  }
}
