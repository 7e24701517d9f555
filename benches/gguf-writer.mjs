/**
 * Writes GGUF 3 files piece by piece: no tensor is ever whole in memory.
 *
 * Format: `docs/gguf.md` of ggml.
 */

import { open } from 'node:fs/promises'

const ALIGNMENT = 32

/** Metadata values, by kind: GGUF's number of the type and the value's bytes. */
const VALUE_TYPES = {
  u32: { id: 4, encode: (value) => number('writeUInt32LE', 4, value) },
  i32: { id: 5, encode: (value) => number('writeInt32LE', 4, value) },
  f32: { id: 6, encode: (value) => number('writeFloatLE', 4, value) },
  bool: { id: 7, encode: (value) => Buffer.of(value ? 1 : 0) },
  string: { id: 8, encode: string },
}
const ARRAY_ID = 9

/**
 * @param path      file to write, replaced if it exists
 * @param metadata  [key, kind, value] each; kind is one of VALUE_TYPES, `kind[]` for an array
 * @param tensors   { name, shape, typeId, bytes } each; `shape[0]` is the length of a row;
 *                  `chunks()` gives the tensor's data, `bytes` in all
 */
export async function writeGguf(path, metadata, tensors) {
  const file = await open(path, 'w')
  try {
    const head = header(metadata, tensors)
    await writeAll(file, head)
    await writeAll(file, padding(head.length))
    for (const tensor of tensors) {
      let written = 0
      for (const chunk of tensor.chunks()) {
        await writeAll(file, chunk)
        written += chunk.length
      }
      if (written !== tensor.bytes) {
        throw new Error(`${tensor.name}: ${written} bytes of data, expected ${tensor.bytes}`)
      }
      await writeAll(file, padding(written))
    }
  } finally {
    await file.close()
  }
}

function header(metadata, tensors) {
  const parts = [
    Buffer.from('GGUF'),
    number('writeUInt32LE', 4, 3),
    u64(tensors.length),
    u64(metadata.length),
  ]
  for (const [key, kind, value] of metadata) parts.push(string(key), encodeValue(kind, value))
  let offset = 0
  for (const { name, shape, typeId, bytes } of tensors) {
    parts.push(string(name), number('writeUInt32LE', 4, shape.length), ...shape.map(u64))
    parts.push(number('writeUInt32LE', 4, typeId), u64(offset))
    offset += bytes + padding(bytes).length
  }
  return Buffer.concat(parts)
}

function encodeValue(kind, value) {
  const id = (type) => number('writeUInt32LE', 4, type)
  if (!kind.endsWith('[]')) {
    return Buffer.concat([id(VALUE_TYPES[kind].id), VALUE_TYPES[kind].encode(value)])
  }
  const element = VALUE_TYPES[kind.slice(0, -2)]
  const elements = Buffer.concat(value.map(element.encode))
  return Buffer.concat([id(ARRAY_ID), id(element.id), u64(value.length), elements])
}

function number(method, length, value) {
  const buffer = Buffer.alloc(length)
  buffer[method](value)
  return buffer
}

function u64(value) {
  const buffer = Buffer.alloc(8)
  buffer.writeBigUInt64LE(BigInt(value))
  return buffer
}

function string(text) {
  const bytes = Buffer.from(text)
  return Buffer.concat([u64(bytes.length), bytes])
}

/** What is missing to the next multiple of the alignment. */
function padding(length) {
  return Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT)
}

/** A file handle may write less than it was given. */
async function writeAll(file, bytes) {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done)).bytesWritten
  }
}
