/**
 * Writes the smallest file that can be opened: a vocabulary of one token, and one tensor.
 * Format: the GGUF specification, version 3.
 */

const U32 = 4
const F32 = 6
const STRING = 8
const ARRAY = 9
const ALIGNMENT = 32

/**
 * @param tensor { name, shape, typeId, bytes }, where `shape[0]` is the length of a row
 * @returns the file's bytes
 */
export function writeGguf({ name, shape, typeId, bytes }) {
  const metadata = [
    entry('general.architecture', STRING, text('none')),
    entry('tokenizer.ggml.model', STRING, text('llama')),
    entry('tokenizer.ggml.tokens', ARRAY, u32(STRING), u64(1), text('<unk>')),
    entry('tokenizer.ggml.scores', ARRAY, u32(F32), u64(1), Buffer.alloc(4)),
    entry('tokenizer.ggml.unknown_token_id', U32, u32(0)),
  ]
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(1),
    u64(metadata.length),
    ...metadata,
    text(name),
    u32(shape.length),
    ...shape.map(u64),
    u32(typeId),
    u64(0),
  ])
  const padding = Buffer.alloc((ALIGNMENT - (header.length % ALIGNMENT)) % ALIGNMENT)
  return Buffer.concat([header, padding, bytes])
}

function entry(key, type, ...value) {
  return Buffer.concat([text(key), u32(type), ...value])
}

function text(value) {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(bytes.length), bytes])
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
