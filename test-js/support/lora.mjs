/**
 * LoRA adapters made in the tests, and what they add worked out the long way.
 */

import { writeGguf } from '../../benches/gguf-writer.mjs'

const F32 = 0

/** Numbers from -1 to 1 that depend on the seed alone (xorshift32). */
function* numbers(seed) {
  for (let x = seed * 2654435761 || 1; ; ) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    yield x / 2 ** 31
  }
}

function matrix(random, length, size) {
  return Float32Array.from({ length }, () => random.next().value * size)
}

/**
 * Pairs for tensors of a model: `[width, rows]` each.
 *
 * @param shapes { name: [width, rows] }
 */
export function randomLora(shapes, { seed = 1, rank = 4, alpha = 8 } = {}) {
  const random = numbers(seed)
  const pairs = Object.entries(shapes).map(([name, [width, rows]]) => ({
    name,
    width,
    rows,
    a: matrix(random, width * rank, 1 / Math.sqrt(width)),
    b: matrix(random, rank * rows, 0.3),
  }))
  return { rank, alpha, pairs }
}

/** Writes the adapter's file. */
export function writeLora(path, { rank, alpha, pairs }, { architecture = 'llama', name } = {}) {
  const metadata = [
    ['general.type', 'string', 'adapter'],
    ['general.architecture', 'string', architecture],
    ['adapter.type', 'string', 'lora'],
    ['adapter.lora.alpha', 'f32', alpha],
  ]
  if (name !== undefined) metadata.push(['general.name', 'string', name])
  const tensor = (name, shape, values) => {
    const data = Buffer.from(values.buffer)
    return { name, shape, typeId: F32, bytes: data.length, chunks: () => [data] }
  }
  const tensors = pairs.flatMap(({ name, width, rows, a, b }) => [
    tensor(`${name}.lora_a`, [width, rank], a),
    tensor(`${name}.lora_b`, [rank, rows], b),
  ])
  return writeGguf(path, metadata, tensors)
}

/** The values of a tensor with `scale` times a pair added to them. */
export function merged(values, { rank, alpha, pairs }, name, scale) {
  const { width, rows, a, b } = pairs.find((pair) => pair.name === name)
  return values.map((value, i) => {
    const [row, column] = [Math.floor(i / width), i % width]
    let sum = 0
    for (let r = 0; r < rank; r++) sum += b[row * rank + r] * a[r * width + column]
    return row < rows ? value + ((scale * alpha) / rank) * sum : value
  })
}
