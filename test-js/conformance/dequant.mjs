/**
 * Cases of kind `dequant`: blocks of one format, dequantised bit for bit.
 */

import { withModel } from '../support/models.mjs'
import { writeGguf } from './gguf.mjs'

const NAME = 'blocks.weight'

/** Counts the values whose bits differ; none may. */
export function dequant(kit, { file, expected, ggml_type_id: typeId, rows, cols, tolerance }) {
  if (tolerance.max_ulp !== 0) throw new Error(`a bound of ${tolerance.max_ulp} ulp, expected 0`)
  const tensor = { name: NAME, shape: [cols, rows], typeId, bytes: kit.readBytes(file) }
  const want = bits(kit.readBytes(expected))
  return withModel(
    writeGguf(tensor),
    async (model) => {
      const { data } = await model.tensor(NAME)
      const got = new Uint32Array(data.buffer, data.byteOffset, data.length)
      if (got.length !== want.length)
        throw new Error(`${got.length} values, expected ${want.length}`)
      const wrong = got.reduce((count, value, i) => count + Number(value !== want[i]), 0)
      const first = got.findIndex((value, i) => value !== want[i])
      const note = wrong === 0 ? '' : `value ${first} is ${data[first]}`
      return { worst: wrong, bound: 0, pass: wrong === 0, note }
    },
    { vocabOnly: true, backend: kit.backend },
  )
}

/** 32-bit words, little-endian. */
function bits(bytes) {
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(4 * i))
}
