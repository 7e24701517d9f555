/**
 * Cases of kind `embedding`: a vector per text, and the ids it was made from.
 */

import { withModel } from '../support/models.mjs'

/** Compares ids exactly, vectors by their cosine and, where the case asks, value by value. */
export function embedding(kit, entry) {
  const { tolerance, pooling, normalised: normalize } = entry
  const texts = entry.texts ?? kit.readJson(entry.texts_file)
  const ids = kit.readJson(entry.tokens)
  const want = kit.readMatrix(entry.expected)
  const use = async (model) => {
    const wrongIds = texts.findIndex(
      (text, i) => String(model.tokenize(text, { addSpecial: true })) !== String(ids[i]),
    )
    const got = await model.embed(texts, { pooling, normalize })
    if (got.length !== want.length) throw new Error(`${got.length} vectors, not ${want.length}`)
    const furthest = Math.max(...got.map((vector, i) => distance(vector, want[i])))
    const lowest = Math.min(...got.map((vector, i) => cosine(vector, want[i])))
    const bound = tolerance.max_abs_exact_gelu ?? null
    const measured =
      bound === null
        ? { worst: 1 - lowest, bound: 1 - tolerance.min_cosine }
        : { worst: furthest, bound }
    return {
      ...measured,
      pass: wrongIds < 0 && lowest >= tolerance.min_cosine && furthest <= (bound ?? Infinity),
      note:
        wrongIds < 0
          ? `cosine ${lowest.toPrecision(7)}, distance ${furthest.toPrecision(3)}`
          : `wrong ids of text ${wrongIds}`,
    }
  }
  return withModel(kit.readModel(entry.model), use, { backend: kit.backend })
}

/** Largest difference of two values; infinite when one is not a number. */
function distance(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} values, expected ${b.length}`)
  const worst = a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0)
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}
