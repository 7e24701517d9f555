/**
 * Turns what people have at hand (typed arrays, Buffers, plain arrays) into the
 * two kinds of array that the engine takes.
 */

import { RealmError } from './errors.js'
import { invalid, isInteger, reading } from './validate.js'

/** Token ids: integers, or a Buffer with the little-endian bytes of unsigned 32-bit integers. */
export type TokenIds = Uint32Array | Int32Array | Uint8Array | readonly number[]

/** Activations: numbers, or a Buffer with the little-endian bytes of 32-bit floats. */
export type Activations = Float32Array | Float64Array | Uint8Array | readonly number[]

const MAX_U32 = 0xffff_ffff

/** @throws RealmError INVALID_ARGUMENT  not an array of integers from 0 to 2^32 - 1 */
export function toTokenIds(what: string, value: unknown): Uint32Array {
  return reading(what, () => readTokenIds(what, value))
}

function readTokenIds(what: string, value: unknown): Uint32Array {
  requireMemory(value)
  if (value instanceof Uint32Array) return value
  if (value instanceof Uint8Array) {
    const { buffer, byteOffset, length } = aligned(what, value)
    return new Uint32Array(buffer, byteOffset, length)
  }
  if (!Array.isArray(value) && !(value instanceof Int32Array))
    throw invalid(what, 'token ids (Uint32Array, array of integers or Buffer)', value)
  const ids: ArrayLike<unknown> = value
  const out = new Uint32Array(ids.length)
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]
    if (!isInteger(id, 0, MAX_U32)) throw invalid(`${what}[${i}]`, 'a token id', id)
    out[i] = id
  }
  return out
}

/** @throws RealmError INVALID_ARGUMENT  not an array of numbers */
export function toActivations(what: string, value: unknown): Float32Array {
  return reading(what, () => readActivations(what, value))
}

function readActivations(what: string, value: unknown): Float32Array {
  requireMemory(value)
  if (value instanceof Float32Array) return value
  if (value instanceof Float64Array) return Float32Array.from(value)
  if (value instanceof Uint8Array) {
    const { buffer, byteOffset, length } = aligned(what, value)
    return new Float32Array(buffer, byteOffset, length)
  }
  if (!Array.isArray(value))
    throw invalid(what, 'activations (Float32Array, array of numbers or Buffer)', value)
  const values: readonly unknown[] = value
  const out = new Float32Array(values.length)
  for (let i = 0; i < values.length; i++) {
    const number = values[i]
    if (typeof number !== 'number') throw invalid(`${what}[${i}]`, 'a number', number)
    out[i] = number
  }
  return out
}

/** Throws for an array whose memory was transferred away: it looks like an empty one. */
function requireMemory(value: unknown): void {
  if (ArrayBuffer.isView(value) && value.byteLength === 0) Uint8Array.prototype.at.call(value, 0)
}

/** The bytes at an address that a view of 4-byte values may start at: copied only if they are not. */
function aligned(what: string, bytes: Uint8Array) {
  if (bytes.byteLength % 4 !== 0)
    throw new RealmError(
      'SHAPE_MISMATCH',
      `${what}: expected raw bytes of 4-byte values, got ${bytes.byteLength} bytes`,
    )
  const view = bytes.byteOffset % 4 === 0 ? bytes : Uint8Array.from(bytes)
  return { buffer: view.buffer, byteOffset: view.byteOffset, length: view.byteLength / 4 }
}
