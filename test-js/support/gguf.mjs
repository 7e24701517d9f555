/**
 * Files that are GGUF by their header and noise behind it: all that a download looks at.
 */

import { randomBytes } from 'node:crypto'

const ALIGNMENT = 32
/** The type of 8-bit integers: a byte for a value. */
const I8 = 24

/** A file of `size` bytes with one tensor, which ends where the file does. */
export function randomGguf(size) {
  const header = (values) =>
    Buffer.concat([
      Buffer.from('GGUF'),
      u32(3),
      u64(1),
      u64(1),
      string('general.architecture'),
      u32(8),
      string('none'),
      string('noise'),
      u32(1),
      u64(values),
      u32(I8),
      u64(0),
    ])
  const start = Math.ceil(header(0).length / ALIGNMENT) * ALIGNMENT
  const file = randomBytes(size)
  file.fill(0, 0, start)
  header(size - start).copy(file)
  return file
}

function u32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function string(text) {
  return Buffer.concat([u64(text.length), Buffer.from(text)])
}
