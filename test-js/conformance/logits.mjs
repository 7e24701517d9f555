/**
 * Cases of kind `logits` and `quant-logits`: every row of logits through the
 * layers one by one, and the greedy continuation through `generate`.
 */

import { layerLogits, topGap } from '../support/models.mjs'

/** Logits in float32, and what a greedy answer must be. */
export function logits(kit, { model: file, tokens, greedy, expected, tolerance }) {
  const want = kit.readMatrix(expected)
  const prompt = kit.readJson(tokens)
  const bound = tolerance.f32_max_abs_vs_expected
  const use = async (model) => {
    const ids = [...prompt, ...greedy].slice(0, want.length)
    const { max } = difference(await layerLogits(model, ids), want)
    const answer = await model.generate(prompt, {
      temperature: 0,
      ignoreEos: true,
      maxTokens: greedy.length,
    })
    const mismatch = firstMismatch(answer.tokens, greedy, want.slice(prompt.length - 1), bound)
    return { worst: max, bound, pass: max <= bound && mismatch === null, note: mismatch ?? '' }
  }
  return kit.withModel(kit.readModel(file), use, { backend: kit.backend, device: kit.device })
}

/** Logits of quantised weights: activations may be rounded as well, hence two bounds. */
export function quantLogits(kit, { model: file, tokens, expected, tolerance }) {
  const want = kit.readMatrix(expected)
  const use = async (model) => {
    const { max, rms } = difference(await layerLogits(model, kit.readJson(tokens)), want)
    return {
      worst: max,
      bound: tolerance.max_abs_vs_expected,
      pass: max <= tolerance.max_abs_vs_expected && rms <= tolerance.rms_vs_expected,
      note: `rms ${rms.toPrecision(3)} of ${tolerance.rms_vs_expected}`,
    }
  }
  return kit.withModel(kit.readModel(file), use, { backend: kit.backend, device: kit.device })
}

/** Largest and root mean square difference of two matrices; what is not a number is infinitely far. */
function difference(got, want) {
  if (got.length !== want.length) throw new Error(`${got.length} rows, expected ${want.length}`)
  let max = 0
  let squares = 0
  let count = 0
  want.forEach((row, i) => {
    if (row.length !== got[i].length)
      throw new Error(`${got[i].length} logits per row, expected ${row.length}`)
    row.forEach((value, j) => {
      const distance = Math.abs(value - got[i][j])
      max = Math.max(max, Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance)
      squares += distance * distance
      count++
    })
  })
  return { max, rms: Math.sqrt(squares / count) }
}

/**
 * The first token that differs where the margin between the two best logits is more than
 * twice the tolerance; what follows a difference where it is not cannot be compared.
 */
function firstMismatch(got, want, expectedRows, tolerance) {
  for (let i = 0; i < want.length; i++) {
    if (got[i] === want[i]) continue
    const row = expectedRows[i]
    const margin = row === undefined ? Number.POSITIVE_INFINITY : topGap(row)
    return margin > 2 * tolerance ? `token ${i} is ${got[i]}, expected ${want[i]}` : null
  }
  return got.length === want.length ? null : `${got.length} tokens, expected ${want.length}`
}
